"""Progress bars on stderr."""

from __future__ import annotations

import sys
import time

from torch import Tensor

WIDTH = 30  # characters of a full bar
REDRAW_S = 0.1  # a terminal is redrawn at most this often
LOG_STEPS = 10  # lines in a log file, where nothing can be redrawn


class ProgressBar:
    """A bar with the time that is left; call it with what is done and the total."""

    def __init__(self, title: str, shown: bool = True, total: int = 0) -> None:
        """Args: what is going on; draw at all; the total, where the caller of the bar does not know it (0)."""
        self.title, self.shown, self.total = title, shown, total
        self._stream = sys.stderr
        self._start = time.monotonic()
        self._drawn, self._step = 0.0, 0

    def __call__(self, done: int, total: int, preview: Tensor | None = None) -> None:
        """Show that `done` of `total` are finished; a terminal has no place for the preview [3, H, W]."""
        total = total or self.total
        if not self.shown or not self._is_due(done, total):
            return
        filled = WIDTH * done // max(1, total)
        left = (time.monotonic() - self._start) * (total - done) / max(1, done)
        line = f"{self.title} [{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total}, {left:.0f} s left"
        if self._stream.isatty():
            self._stream.write(f"\r{line}\x1b[K" + ("\n" if done >= total else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _is_due(self, done: int, total: int) -> bool:
        now, step = time.monotonic(), LOG_STEPS * done // max(1, total)
        due = now - self._drawn >= REDRAW_S if self._stream.isatty() else step > self._step
        if due or done >= total:
            self._drawn, self._step = now, step
            return True
        return False
