import threading
import time

import pytest
import torch

from vividtalk_core.threads import MOST_WORKERS, by_chunks, default_workers, in_order, single_threaded, usable_cores


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_process_has_its_own_number_again(two_threads):
    with single_threaded():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), single_threaded():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_workers_fit_the_machine():
    assert 1 <= default_workers() <= min(usable_cores(), MOST_WORKERS)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order(workers):
    def slow_first(number):
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(in_order(slow_first, range(7), workers)) == [n * n for n in range(7)]


def test_few_items_are_in_work():
    started = []
    results = in_order(lambda number: started.append(number) or number, range(100), 2)
    assert next(results) == 0
    assert max(started) <= 3
    results.close()
    assert max(started) <= 3, "what waits is dropped when nobody wants it"


def test_each_worker_computes_with_one_thread_in_the_callers_mode(two_threads):
    def state(_):
        return (
            torch.get_num_threads(),
            torch.is_inference_mode_enabled(),
            torch.is_grad_enabled(),
            threading.get_ident(),
        )

    with single_threaded(), torch.inference_mode():
        found = set(in_order(state, range(8), 2))
    assert {one[:3] for one in found} == {(1, True, False)}
    assert threading.get_ident() not in {one[3] for one in found}
    with single_threaded(), torch.no_grad():
        assert {one[:3] for one in in_order(state, range(4), 2)} == {(1, False, False)}


def test_an_error_reaches_the_caller():
    def fail_at_two(number):
        if number == 2:
            raise KeyError(number)
        return number

    results = in_order(fail_at_two, range(9), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)


def test_chunks_are_joined_in_order_and_progress_is_reported():
    seen = []
    whole = by_chunks(
        lambda part: torch.arange(10)[part] * 2,
        10,
        lambda parts, total: torch.cat(list(parts)),
        lambda *s: seen.append(s),
    )
    assert torch.equal(whole, torch.arange(10) * 2)
    assert seen == [(4, 10), (8, 10), (10, 10)]
