"""How a long verb tells how far it is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Progress(Protocol):
    """Called after each step of a long verb; it may raise to cancel the verb, which then leaves nothing half-done."""

    def __call__(self, done: int, total: int, preview: Tensor | None = None, /) -> None:
        """Args: finished steps; all steps, 0 where the number is unknown; a frame [3, H, W] in 0..1 to show, if any."""
