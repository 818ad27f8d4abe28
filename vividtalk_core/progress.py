"""The callback by which long work reports its progress."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Progress(Protocol):
    """Called after each step of long work. It may raise to cancel the work, which then leaves no unfinished file."""

    def __call__(self, done: int, total: int, preview: Tensor | None = None, /) -> None:
        """Report one more finished step.

        Args:
            done: finished steps.
            total: all steps, 0 if their number is not known.
            preview: a frame [3, H, W] in 0..1 to show; None if there is none.
        """
