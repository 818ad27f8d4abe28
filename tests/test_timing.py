import time

import pytest

from vividtalk_core.timing import StageTimer


def test_nested_stages_add_up_to_the_whole():
    timer, start = StageTimer(), time.perf_counter()
    with timer("encode"):
        for _ in range(2):
            with timer("mesh"):
                time.sleep(0.02)
        time.sleep(0.01)
    total = time.perf_counter() - start
    assert timer.seconds["mesh"] >= 0.04
    assert 0.01 <= timer.seconds["encode"] <= total - 0.04
    assert sum(timer.seconds.values()) == pytest.approx(total, abs=2e-3)


def test_time_is_kept_when_a_stage_fails():
    timer = StageTimer()
    with pytest.raises(ValueError), timer("outer"), timer("fit"):
        raise ValueError
    assert set(timer.seconds) == {"outer", "fit"}
    with timer("fit"):
        pass
    assert timer.seconds["fit"] < 0.1


def test_work_of_other_threads_is_split_by_their_seconds():
    timer = StageTimer()
    with timer("encode"):
        timer.add({"mesh": 1.0, "render": 3.0}, 4e-3)
        time.sleep(0.01)
    assert timer.seconds["mesh"] == pytest.approx(1e-3) and timer.seconds["render"] == pytest.approx(3e-3)
    assert 5e-3 < timer.seconds["encode"] < 0.2
    timer.add({}, 1.0)
    assert set(timer.seconds) == {"mesh", "render", "encode"}
