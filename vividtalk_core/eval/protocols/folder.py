"""A table of several ways to make the same clips: one folder for each row, the same file names in all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median

from ...audio.phones import closures_of, read_phones
from ..footage import read_footage
from ..lips import Span
from ..sync import SyncScore
from .video import Evaluation, Judges, Watched, compare, watch

REAL = "real"  # the row of the real videos, the reference of the others
WRONG = ".wrong"  # a folder "causal.wrong" holds what "causal" makes of somebody else's audio
PHONES = "phones"  # may hold CLIP.json: [[phone, start_s, end_s], …]
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")

OnClip = Callable[[int, int, str], None]
Table = dict[str, dict[str, Evaluation]]


def evaluate_folder(judges: Judges, folder: Path, on_clip: OnClip | None = None) -> Table:
    """Evaluate every video of a folder of rows.

    Args:
        judges: the networks.
        folder: holds `real/CLIP.mp4` and, for each way to make them, `ROW/CLIP.mp4`; optionally `ROW.wrong/CLIP.mp4`
            and `phones/CLIP.json`. Clips that are not in `real` are judged without a reference.
        on_clip: called as on_clip(done, total, "ROW/CLIP") before each video, and once at the end.

    Returns:
        Row → clip → figures, `real` first, then by name.

    Raises:
        FileNotFoundError: no such folder, or no videos in its folders.
    """
    rows = find_rows(folder)
    total, done = sum(map(len, rows.values())), 0
    table: Table = {row: {} for row in rows}
    for name in sorted({name for clips in rows.values() for name in clips}):
        real = None
        for row, clips in rows.items():
            if name not in clips:
                continue
            if on_clip is not None:
                on_clip(done, total, f"{row}/{name}")
            # the real clip comes first, is watched once, and sets the frame rate
            video = watch(judges, read_footage(clips[name], real.footage.fps if real else None))
            misled = _watch_wrong(judges, folder / f"{row}{WRONG}", name, video) if real else None
            table[row][name] = compare(judges, video, real, misled, _closures(folder / PHONES / f"{name}.json"))
            real, done = (video if row == REAL else real), done + 1
    if on_clip is not None:
        on_clip(total, total, "")
    return table


def _watch_wrong(judges: Judges, folder: Path, name: str, video: Watched) -> Watched | None:
    path = _videos(folder).get(name) if folder.is_dir() else None
    return None if path is None else watch(judges, read_footage(path, video.footage.fps))


def _closures(path: Path) -> list[Span]:
    return closures_of(read_phones(path)) if path.is_file() else []


def find_rows(folder: Path) -> dict[str, dict[str, Path]]:
    """Row → clip → video of a folder, `real` first."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder '{folder}'")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.suffix != WRONG)
    rows = {name: _videos(folder / name) for name in sorted(names, key=lambda name: name != REAL)}
    rows = {name: videos for name, videos in rows.items() if videos}
    if not rows:
        raise FileNotFoundError(
            f"'{folder}' has no folders with videos: put the real ones into '{REAL}' and each way to make them into a "
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


def figures(evaluation: Evaluation) -> dict[str, float]:
    """The figures that could be measured, by name."""
    about = ("frames", "fps", "embedder")
    return {name: v for name, v in flat(evaluation).items() if v is not None and name not in about}


def medians(clips: Mapping[str, Evaluation]) -> dict[str, tuple[float, int]]:
    """Median over the clips of one row, and the number of clips it is of, for each figure."""
    rows = [figures(evaluation) for evaluation in clips.values()]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: (median(values), len(values)) for name, values in columns.items()}


def to_markdown(table: Table) -> str:
    """One line for each figure, one column for each row of the table: medians over n clips."""
    columns = {row: medians(clips) for row, clips in table.items()}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = [["median (n)", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(_cell(column.get(name)) for column in columns.values())] for name in names]
    return "\n".join(_line(cells) for cells in lines) + "\n"


def _cell(value: tuple[float, int] | None) -> str:
    return "–" if value is None else f"{value[0]:.3g} ({value[1]})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
