"""A table of several methods on the same clips: one folder of videos for each method, the same file names in all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median

from ...audio.phones import read_phones, spans_of
from ...errors import MissingFileError
from ..evaluators import Evaluators
from ..footage import read_footage
from ..lips import Span
from ..sync import SyncScore
from .video import Evaluation, TrackedVideo, compare, track_footage

REAL = "real"  # the row of the real videos, the reference of the others
# A folder "causal.wrong" holds the videos of "causal" with somebody else's audio.
WRONG = ".wrong"
PHONES = "phones"  # may hold CLIP.json: [[phone, start_s, end_s], …]
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")

OnClip = Callable[[int, int, str], None]
Table = dict[str, dict[str, Evaluation]]


def evaluate_folder(evaluators: Evaluators, folder: Path, on_clip: OnClip | None = None) -> Table:
    """Evaluate every video of a folder of rows.

    Args:
        evaluators: the networks.
        folder: holds `real/CLIP.mp4` and, for each method, `ROW/CLIP.mp4`; optionally `ROW.wrong/CLIP.mp4` and
            `phones/CLIP.json`. Clips that are not in `real` are evaluated without a reference.
        on_clip: called as on_clip(done, total, "ROW/CLIP") before each video, and once at the end.

    Returns:
        Row → clip → metrics, `real` first, then by name.

    Raises:
        MissingFileError: no such folder, or no videos in its folders.
        NoFaceError: a video in which no face can be tracked.
    """
    rows = find_rows(folder)
    total, done = sum(map(len, rows.values())), 0
    table: Table = {row: {} for row in rows}
    for name in sorted({name for clips in rows.values() for name in clips}):
        real: TrackedVideo | None = None
        for row, clips in rows.items():
            if name not in clips:
                continue
            if on_clip is not None:
                on_clip(done, total, f"{row}/{name}")
            # the real clip comes first, so that it is tracked once and sets the frame rate of the others
            video = track_footage(evaluators, read_footage(clips[name], real.footage.fps if real else None))
            # The gain needs the real lips as well, so without them the other video is not even tracked.
            wrong = _track_wrong(evaluators, folder / f"{row}{WRONG}", name, video) if real else None
            table[row][name] = compare(evaluators, video, real, wrong, _closures(folder / PHONES / f"{name}.json"))
            real, done = (video if row == REAL else real), done + 1
    if on_clip is not None:
        on_clip(total, total, "")
    return table


def _track_wrong(evaluators: Evaluators, folder: Path, name: str, video: TrackedVideo) -> TrackedVideo | None:
    path = _videos(folder).get(name) if folder.is_dir() else None
    return None if path is None else track_footage(evaluators, read_footage(path, video.footage.fps))


def _closures(path: Path) -> list[Span]:
    return spans_of(read_phones(path)) if path.is_file() else []


def find_rows(folder: Path) -> dict[str, dict[str, Path]]:
    """Row → clip → video of a folder, `real` first."""
    if not folder.is_dir():
        raise MissingFileError(f"there is no folder '{folder}'")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.suffix != WRONG)
    rows = {name: _videos(folder / name) for name in sorted(names, key=lambda name: name != REAL)}
    rows = {name: videos for name, videos in rows.items() if videos}
    if not rows:
        raise MissingFileError(
            f"'{folder}' has no folders with videos: put the real ones into '{REAL}' and those of each method into a "
            "folder of its own, with the same file names"
        )
    return rows


def _videos(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in VIDEOS}


def flat(evaluation: Evaluation) -> dict[str, float | int | str | None]:
    """All fields by name in one dictionary; the offset of the sync expert is called sync_offset."""
    values: dict[str, float | int | str | None] = {}
    for name, value in asdict(evaluation).items():
        if name == "sync":
            score = value or dict.fromkeys(field.name for field in fields(SyncScore))
            values |= {("sync_offset" if key == "offset" else key): v for key, v in score.items()}
        else:
            values |= value if isinstance(value, dict) else {name: value}
    return values


def metrics(evaluation: Evaluation) -> dict[str, float]:
    """The metrics that could be measured, by name."""
    # They describe the clip and are not metrics.
    about = ("frames", "fps", "embedder")
    values = {name: value for name, value in flat(evaluation).items() if name not in about}
    return {name: value for name, value in values.items() if isinstance(value, (int, float))}


def medians(clips: Mapping[str, Evaluation]) -> dict[str, tuple[float, int]]:
    """Metric → its median over the clips of one row, and the number of clips that have it."""
    rows = [metrics(evaluation) for evaluation in clips.values()]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: (median(values), len(values)) for name, values in columns.items()}


def to_markdown(table: Table) -> str:
    """A line for each metric, a column for each method: medians over n clips."""
    columns = {row: medians(clips) for row, clips in table.items()}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = [["median (n)", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(_cell(column.get(name)) for column in columns.values())] for name in names]
    return "\n".join(_line(cells) for cells in lines) + "\n"


def _cell(value: tuple[float, int] | None) -> str:
    return "–" if value is None else f"{value[0]:.3g} ({value[1]})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
