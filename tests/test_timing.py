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
