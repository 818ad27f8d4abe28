"""Wall-clock seconds of each stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class StageTimer:
    """Adds up wall-clock seconds per stage: `with timer("mesh"): ...`.

    Stages may nest; a second is counted once, for the innermost stage, so that their sum is the whole time.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []  # seconds spent in nested stages, one sum per open stage

    def add(self, shares: Mapping[str, float], seconds: float) -> None:
        """Count the time spent waiting for other threads.

        Args:
            shares: seconds that the threads took for each stage; the waiting time is divided in proportion to them.
            seconds: of waiting.
        """
        total = sum(shares.values())
        for stage, share in shares.items():
            self._count(stage, seconds * share / total if total else 0.0)
        if self._inner:
            self._inner[-1] += seconds

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the seconds of the block for `stage`."""
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self._count(stage, elapsed - self._inner.pop())
            if self._inner:
                # the stage around this one must not count the same seconds again
                self._inner[-1] += elapsed

    def _count(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
