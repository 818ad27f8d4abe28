"""A pool of processes for work that takes seconds per clip and must stop soon after an interruption."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from threading import Event
from typing import TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")

Cancelled = Callable[[], bool]  # True when the job should end as soon as it can


def run_jobs(
    work: Callable[[Job, Cancelled], Result], jobs: Sequence[Job], workers: int
) -> Generator[tuple[Job, Result], None, None]:
    """Run a function on many jobs.

    Args:
        work: a function of a module, called with a job and with a function that says whether the pool is closing.
        jobs: they and the results are sent between processes, so they must be picklable.
        workers: processes, of one thread each; 1 runs the jobs in this process.

    Yields:
        Each job with its result, as they finish.
    """
    if workers < 2 or len(jobs) < 2:
        yield from ((job, work(job, _never)) for job in jobs)
        return
    # A forked process that has used torch may hang.
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker) as pool,
    ):
        stop = manager.Event()
        pending = {pool.submit(_run_in_worker, work, job, stop): job for job in jobs}
        try:
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
        finally:
            # the running jobs are asked to end, and those that wait are not begun
            stop.set()
            pool.shutdown(cancel_futures=True)


def _never() -> bool:
    return False


def _start_worker() -> None:
    # Ctrl-C is sent to all processes of a terminal; the workers are stopped by the first process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _run_in_worker(work: Callable[[Job, Cancelled], Result], job: Job, stop: Event) -> Result:
    return work(job, stop.is_set)
