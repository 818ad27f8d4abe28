"""Progress bars on stderr, drawn by tqdm."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from torch import Tensor

LOG_LINES = 10  # in a log file, where a line cannot be redrawn
LOG_COLUMNS = 80  # width of such a line
FORMAT = "{desc} {percentage:3.0f}% [{bar}] {n_fmt}/{total_fmt}, {remaining} left"
UNKNOWN_FORMAT = "{desc} {n_fmt} done in {elapsed}"  # where the total is not known


class ProgressBar:
    """A progress bar with the remaining time: redrawn on a terminal, at most about ten lines in a log file."""

    def __init__(self, title: str, shown: bool = True, total: int = 0) -> None:
        """Args: name of the work; False draws nothing; the number of steps, where the caller does not give it (0)."""
        self.title, self.shown, self.total = title, shown, total
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        self._lines = 0  # written to a log file
        self._bar: tqdm | None = None  # on a terminal

    def __call__(self, done: int, total: int, preview: Tensor | None = None, /) -> None:
        """Show that `done` of `total` steps are finished; the preview [3, H, W] is not shown."""
        if not self.shown:
            return
        total = total or self.total
        if self._terminal:
            self._draw(done, total)
        elif self._is_due(done, total):
            self._write(done, total)

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None or done < self._bar.n:  # the next of several runs that share the bar
            shape = FORMAT if total else UNKNOWN_FORMAT
            # in ASCII: not every console has the block characters that tqdm draws otherwise
            self._bar = tqdm(desc=self.title, total=total or None, file=sys.stderr, bar_format=shape, ascii=" #")
        self._bar.update(done - self._bar.n)
        # tqdm draws at intervals only: without a refresh the bar may stop before 100 %
        if total and done >= total:
            self._bar.refresh()
            self._bar.close()

    def _is_due(self, done: int, total: int) -> bool:
        """Whether a log file gets a line: at each tenth, or at 1, 2, 4, 8 … steps of an unknown number."""
        due = done.bit_length() if total == 0 else LOG_LINES * done // total
        # one bar may serve several runs, one after the other
        if done <= 1:
            self._lines = 0
        if due <= self._lines:
            return False
        self._lines = due
        return True

    def _write(self, done: int, total: int) -> None:
        line = tqdm.format_meter(
            done,
            total or None,
            time.monotonic() - self._start,
            ncols=LOG_COLUMNS,
            prefix=self.title,
            ascii=" #",
            bar_format=FORMAT if total else UNKNOWN_FORMAT,
        )
        sys.stderr.write(f"{line.strip()}\n")
        sys.stderr.flush()
