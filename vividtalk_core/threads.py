"""How many threads work: torch computes with one, and independent pieces of work share the cores.

Threads inside a torch operation wait for each other at its end. While other programs run, one of them is always late,
and the work takes ten times as long; frames that are computed in parallel never wait for each other. With one thread in
each operation sums also have one order, so that the result does not depend on the number of cores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from .progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 4  # frames that a worker makes at once
# Each holds a chunk of frames, and beyond four, small operations wait for Python's lock.
MOST_WORKERS = 4


def usable_cores() -> int:
    """Cores that this process may run on."""
    # containers and schedulers allow fewer cores than the machine has
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """One worker for each usable core, at most `MOST_WORKERS`."""
    return max(1, min(usable_cores(), MOST_WORKERS))


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread in each torch operation of the block; the process has its own number again after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map(function, items)` with several workers: the results in the order of the items, few of them held at a time.

    Args:
        function: must not depend on what other items do. It runs in another thread, in the autograd mode of the caller.
        items: independent pieces of work.
        workers: threads; 1 runs everything in the caller's own.

    Yields:
        One result for each item. At most `workers` + 1 items are in work or wait to be taken.
    """
    if workers == 1:
        yield from map(function, items)
        return
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run(item: Item) -> Result:
        # both modes belong to a thread: those of the caller would not hold here
        with torch.inference_mode(inference), torch.set_grad_enabled(grad and not inference):
            return function(item)

    waiting: deque[Future[Result]] = deque()
    # the number of threads in an operation belongs to the thread that calls it: each worker sets its own
    pool = ThreadPoolExecutor(workers, "vividtalk", initializer=torch.set_num_threads, initargs=(1,))
    try:
        for item in items:
            waiting.append(pool.submit(run, item))
            # one more than the workers: none of them is idle while the caller uses a result
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # a caller that stops early waits for what is in work, no longer
        pool.shutdown(wait=True, cancel_futures=True)


def by_chunks(
    function: Callable[[slice], Result],
    total: int,
    join: Callable[[Iterable[Result], int], Result],
    progress: Progress | None = None,
    workers: int = 0,
) -> Result:
    """One value of all frames, made in chunks in parallel, with one thread in each torch operation.

    Args:
        function: makes the value of some of the frames; a frame's bits must not depend on the others.
        total: number of frames.
        join: puts the values of all chunks, which come one at a time, together: `FrameValue.joined`.
        progress: called after each chunk, in the caller's thread.
        workers: threads; 0 is `default_workers`.
    """
    ranges = [slice(start, min(start + CHUNK, total)) for start in range(0, total, CHUNK)]

    def values() -> Iterator[Result]:
        for part, value in zip(ranges, in_order(function, ranges, workers or default_workers()), strict=True):
            yield value
            if progress:
                progress(part.stop, total)

    # for one worker too, which runs in the caller's thread
    with single_threaded():
        return join(values(), total)
