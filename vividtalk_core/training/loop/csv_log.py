"""The log of a training: a CSV whose columns grow with what is measured."""

from __future__ import annotations

import csv
from pathlib import Path

from ...errors import DatasetError
from ...files import whole_file


class TrainLog:
    """Rows of numbers in a CSV file, one for each `step`."""

    def __init__(self, path: Path, last_step: int = 0) -> None:
        """Args: the file; rows after this step are dropped, they belong to work that an interruption lost."""
        self.path = path
        self.rows: list[dict[str, str]] = []
        if last_step and path.is_file():
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= last_step]
            except (KeyError, ValueError, csv.Error) as error:
                raise DatasetError(
                    f"'{path}' is not the log of a training ({type(error).__name__}: {error}): move it away to go on"
                ) from error
        self.columns = list(self.rows[0]) if self.rows else []
        self._write_all()

    def add(self, row: dict[str, float]) -> None:
        """Append a row; a column that it is the first to have is empty in the earlier ones."""
        text = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()}
        self.rows.append(text)
        new = [name for name in row if name not in self.columns]
        self.columns += new
        # The header is the first line of the file: a new column means that all is written again, a known one only
        # appends.
        if new:
            self._write_all()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(text)

    def _write_all(self) -> None:
        with whole_file(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
