"""Live Link Face .csv: one row per frame, a timecode, Apple's blendshapes capitalised, then angles in radians."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CurveFileError
from ..structures import ARKIT_NAMES

ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll")
EYE_ANGLES = tuple(f"{side}Eye{angle}" for side in ("Left", "Right") for angle in ("Yaw", "Pitch", "Roll"))
TIME_BASES = (24, 25, 30, 50, 60)  # frames per second that a timecode's last field may count
USUAL_FPS = (23.976, 24.0, 25.0, 29.97, 30.0, 48.0, 50.0, 59.94, 60.0)
WRITTEN_BASE = 60  # what the phone itself writes

logger = logging.getLogger("vividtalk")


def capitalised(name: str) -> str:
    """The name as Live Link Face writes it: jawOpen → JawOpen."""
    return name[0].upper() + name[1:]


def write_live_link(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays of curves as a .csv; what is absent is 0, and translation and lip offsets have no column."""
    frames = len(arrays.get("coefficients", arrays.get("rotation", ())))
    coefficients = arrays.get("coefficients", np.zeros((frames, len(ARKIT_NAMES))))
    pitch, yaw, roll = np.asarray(arrays.get("rotation", np.zeros((frames, 3)))).T
    header = ["Timecode", "BlendShapeCount", *map(capitalised, ARKIT_NAMES), *ANGLES, *EYE_ANGLES]
    # the angles of the eyes stay 0: the eyeLook curves hold the gaze
    table = np.column_stack((coefficients, yaw, pitch, roll, np.zeros((frames, len(EYE_ANGLES)))))
    # newline="", because the csv module writes line ends of its own
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        for frame, row in enumerate(table):
            time = timecode(frame / float(arrays["fps"]))
            writer.writerow([time, table.shape[1], *(f"{value:.6f}" for value in row)])


def timecode(seconds: float) -> str:
    """hh:mm:ss:ff.fff, frames of a 60th of a second."""
    ticks = round(seconds * WRITTEN_BASE * 1000)
    whole, ticks = divmod(ticks, WRITTEN_BASE * 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{ticks / 1000:06.3f}"


def read_live_link(path: Path) -> dict[str, Any]:
    """Arrays of a .csv: `coefficients` and `names`, `rotation`, `fps`, each if its columns are there.

    Raises:
        CurveFileError: it is no table of numbers with timecodes that increase.
    """
    try:
        # programs on Windows begin a text file with a byte order mark, which would become part of the first name
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except UnicodeDecodeError as error:
        raise CurveFileError(f"'{path.name}' is not a text file ({error}).") from error
    except csv.Error as error:
        raise CurveFileError(f"'{path.name}' is not a table of comma-separated values ({error}).") from error
    if len(rows) < 2:
        raise CurveFileError(f"'{path.name}' has {len(rows)} rows; a header and at least one frame are needed.")
    header, body = [column.strip() for column in rows[0]], rows[1:]
    uneven = next((i for i, row in enumerate(body, 2) if len(row) != len(header)), None)
    if uneven:
        raise CurveFileError(
            f"row {uneven} of '{path.name}' has {len(body[uneven - 2])} values, the header {len(header)}."
        )
    columns = dict(zip(header, zip(*body, strict=True), strict=True))
    return _fps(path.name, columns) | _blendshapes(path.name, columns) | _angles(path.name, columns)


def _blendshapes(file: str, columns: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The columns that are not time or angles; a pose-only file written by hand has none."""
    own = {"Timecode", "BlendShapeCount", *ANGLES, *EYE_ANGLES}
    names = [column for column in columns if column not in own]
    if not names:
        return {}
    table = np.stack([_column(file, name, columns[name]) for name in names], -1)
    return {"coefficients": table, "names": [name[:1].lower() + name[1:] for name in names]}


def _angles(file: str, columns: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """`rotation` [T, 3] in rad (pitch, yaw, roll), if the file has the head's angles."""
    missing = [name for name in ANGLES if name not in columns]
    if len(missing) == len(ANGLES):
        return {}
    if missing:
        raise CurveFileError(f"'{file}' has no column {', '.join(missing)}; a head pose needs {', '.join(ANGLES)}.")
    yaw, pitch, roll = (_column(file, name, columns[name]) for name in ANGLES)
    # the file has yaw first, the pack's convention pitch
    return {"rotation": np.stack((pitch, yaw, roll), -1)}


def _column(file: str, name: str, values: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """[T] the numbers of a column."""
    try:
        return np.array([float(value) for value in values])
    except ValueError as error:
        raise CurveFileError(f"column '{name}' of '{file}' holds something that is not a number ({error}).") from error


def _fps(file: str, columns: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """The frame rate of the timecodes, rounded to a usual one within 0.5 %; nothing where there are no timecodes."""
    codes = columns.get("Timecode", ())
    if len(codes) < 2:
        return {}
    try:
        fields = np.array([[float(part) for part in code.split(":")] for code in codes])
        seconds, ticks = fields[:, :3] @ (3600.0, 60.0, 1.0), fields[:, 3]
    except (ValueError, IndexError) as error:
        raise CurveFileError(f"the timecodes of '{file}' must look like 00:00:01:24.000; got {codes[0]}.") from error
    # the file does not say how many frames a second has in its last field; with the right number the steps are equal
    bases = [base for base in TIME_BASES if ticks.max() < base] or [WRITTEN_BASE]
    time = min((seconds + ticks / base for base in reversed(bases)), key=lambda times: round(np.diff(times).std(), 4))
    if time[-1] <= time[0]:
        raise CurveFileError(f"the timecodes of '{file}' do not increase: {codes[0]} to {codes[-1]}.")
    fps = (len(codes) - 1) / (time[-1] - time[0])
    # timecodes are rounded, so that a usual rate is found a little beside itself
    usual = min(USUAL_FPS, key=lambda rate: abs(rate - fps))
    if abs(usual - fps) > 0.005 * usual:
        usual = fps
    logger.info("'%s': %d frames at %g fps by its timecodes.", file, len(codes), usual)
    return {"fps": float(usual)}
