"""Ctrl-C ends a training between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

Handler = Callable[[int, FrameType | None], object] | int | None  # as `signal.signal` returns it

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Delays Ctrl-C or SIGTERM until a step is finished; a second signal acts at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> Interrupt:
        # Python lets only the main thread set handlers.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def is_asked(self, accelerator: Accelerator) -> bool:
        """Whether any process got a signal; the same answer in all processes, so that all end after the same step."""
        if accelerator.num_processes == 1:
            return self._asked
        asked = torch.tensor(int(self._asked), device=accelerator.device)
        return bool(accelerator.reduce(asked, reduction="sum"))

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        # The usual handlers come back at once: a second Ctrl-C must end a step that hangs.
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
