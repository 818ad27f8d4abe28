"""The clips of a folder, their identities and their splits."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import DatasetError, MissingFileError
from ..dataset.motion_shard import SPLITS

MANIFEST = "manifest.csv"
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
CURVES = (".npz", ".json", ".csv")
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus")
# Of the identities, where the manifest gives no split.
VALIDATION_SHARE = 0.1
TEST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Clip:
    """A video, or curves with their sound."""

    path: Path
    file: str  # relative to the folder, with "/"
    identity: str
    split: str = ""  # one of SPLITS, or not yet known
    licence: str = ""
    sound: Path | None = None  # of a curve set
    silent: bool = False  # its sound must not be used: music, a translation, another take

    @property
    def name(self) -> str:
        """The clip as a file name, without an ending of its own."""
        return self.file.replace("/", "__")


def find_clips(folder: str | Path) -> list[Clip]:
    """The clips of a folder, by name, every one with its split.

    With a manifest.csv only those it names: columns file and identity; optional split, licence or tier, and sound,
    which is "no" where a clip's sound does not belong to its picture. Else all videos, and all curves that have a sound
    beside them: there an identity is the folder that the clip lies in, and its split is drawn from its name, so that
    it stays where it is when the folder grows.

    Raises:
        MissingFileError: there is no such folder.
        DatasetError: the folder holds no clips, or two of one name; the manifest lacks columns, or puts one identity
            into both training and validation.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"there is no folder {folder}.")
    manifest = folder / MANIFEST
    clips = _read_manifest(manifest) if manifest.is_file() else _walk(folder)
    if not clips:
        kinds = f"videos ({', '.join(VIDEOS)}), or curves ({', '.join(CURVES)}) with a sound of the same name beside"
        raise DatasetError(f"{folder} holds no clips: it needs {kinds}.")
    names = Counter(clip.name for clip in clips)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise DatasetError(
            f"{folder}: {len(twice)} clips are named twice, among them {twice[0]}; rename or remove one."
        )
    return assign_splits(sorted(clips, key=lambda clip: clip.file))


def _walk(folder: Path) -> list[Clip]:
    # Hidden files are left out: systems keep previews and metadata under the names of the videos.
    files = [Path(root) / name for root, _, names in os.walk(folder) for name in names if not name.startswith(".")]
    clips = [_clip(folder, path) for path in files if path.suffix.lower() in VIDEOS]
    clips += [_clip(folder, path) for path in files if path.suffix.lower() in CURVES and sound_beside(path)]
    return clips


def _clip(folder: Path, path: Path) -> Clip:
    file = path.relative_to(folder)
    identity = file.parent.as_posix() if file.parent != Path() else file.stem
    return Clip(path, file.as_posix(), identity, sound=sound_beside(path))


def sound_beside(path: Path) -> Path | None:
    """The sound of the same name beside a curve file; a video has its own."""
    if path.suffix.lower() in VIDEOS:
        return None
    return next((path.with_suffix(end) for end in SOUNDS if path.with_suffix(end).is_file()), None)


def _read_manifest(path: Path) -> list[Clip]:
    try:
        # Spreadsheet programs begin a UTF-8 file with a byte order mark, which would be part of the first column's
        # name.
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not a text file ({error}).") from error
    missing = [column for column in ("file", "identity") if not rows or column not in rows[0]]
    if missing:
        raise DatasetError(
            f"{path} has no column {', '.join(missing)}; it needs file and identity, and may have split."
        )
    return [_from_row(path, line, row) for line, row in enumerate(rows, 2)]


def _from_row(manifest: Path, line: int, row: Mapping[str, str | None]) -> Clip:
    values = {key: (row.get(key) or "").strip() for key in ("file", "identity", "split", "licence", "tier", "sound")}
    if not (values["file"] and values["identity"]):
        raise DatasetError(f"line {line} of {manifest} names no file or no identity.")
    # Published lists may have several test sets under names that begin so; they are all kept from training.
    split = "test" if values["split"].startswith("test") else values["split"]
    if split not in ("", *SPLITS):
        raise DatasetError(f"line {line} of {manifest}: the split is one of {', '.join(SPLITS)}; got '{split}'.")
    path = manifest.parent / values["file"]
    file = Path(values["file"]).as_posix()
    licence = values["licence"] or values["tier"]
    silent = values["sound"].lower() in ("no", "0", "false")
    return Clip(path, file, values["identity"], split, licence, sound_beside(path), silent)


def assign_splits(clips: Iterable[Clip]) -> list[Clip]:
    """Give every clip a split; no identity may be in both training and validation.

    A clip without a split gets that of the other clips of its identity, otherwise that of the identity's name.
    """
    clips = list(clips)
    named: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.split in ("train", "validation"):
            named[clip.identity].add(clip.split)
    mixed = sorted(identity for identity, splits in named.items() if len(splits) > 1)
    if mixed:
        names = f"{', '.join(mixed[:5])}{' …' if len(mixed) > 5 else ''}"
        raise DatasetError(
            f"{len(mixed)} identities are in both train and validation: {names}; put each into one of them."
        )
    known = {identity: next(iter(splits)) for identity, splits in named.items()}
    return [
        clip if clip.split else replace(clip, split=known.get(clip.identity) or split_of(clip.identity))
        for clip in clips
    ]


def split_of(identity: str) -> str:
    """The split that a name falls into, the same on every machine."""
    # A hash of the name and not a random draw: the split stays where it is when clips are added.
    digest = hashlib.sha256(identity.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < VALIDATION_SHARE:
        return "validation"
    return "test" if share < VALIDATION_SHARE + TEST_SHARE else "train"
