"""Where a prepared folder keeps its files. NAME is the name of a clip.

clips/NAME.safetensors        motion shards
tracks/NAME.npz               tracks of the videos, or NAME.npz.refused.txt: why there is none
pairs/NAME.FRAME.safetensors  image pairs of one portrait
phones/NAME.json              phones of the speech
transcripts/NAME.txt          the spoken words, where the user has them
words/NAME.json               the spoken words and their language, as Whisper hears them
"""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetError

CLIPS, TRACKS, PAIRS = "clips", "tracks", "pairs"
PHONES, TRANSCRIPTS, WORDS = "phones", "transcripts", "words"
SHARD_SUFFIX = ".safetensors"


def shard_path(folder: Path, name: str) -> Path:
    """The motion shard of a clip."""
    return folder / CLIPS / f"{name}{SHARD_SUFFIX}"


def track_path(folder: Path, name: str) -> Path:
    """The track of a video."""
    return folder / TRACKS / f"{name}.npz"


def refusal_path(track: Path) -> Path:
    """The file beside a track's path that holds the reason why the video could not be tracked."""
    return track.with_name(f"{track.name}.refused.txt")


def pairs_path(folder: Path, name: str) -> Path:
    """The image pairs of one portrait."""
    return folder / PAIRS / f"{name}{SHARD_SUFFIX}"


def phones_path(folder: Path, name: str) -> Path:
    """The phones of a clip."""
    return folder / PHONES / f"{name}.json"


def transcript_path(folder: Path, name: str) -> Path:
    """The transcript of a clip."""
    return folder / TRANSCRIPTS / f"{name}.txt"


def words_path(folder: Path, name: str) -> Path:
    """The words that Whisper hears in a clip."""
    return folder / WORDS / f"{name}.json"


def shard_paths(folder: Path, kind: str, command: str) -> list[Path]:
    """The files of one kind of shard, by name.

    Args:
        folder: a prepared folder.
        kind: CLIPS or PAIRS.
        command: makes them; it is named in the error.

    Raises:
        DatasetError: the folder has none of this kind.
    """
    if not (folder / kind).is_dir():
        raise DatasetError(f"{folder} has no folder '{kind}': make it with `{command}`.")
    # Sorted, because the order of a folder differs between file systems, and with it the batches of a seed.
    return sorted((folder / kind).glob(f"*{SHARD_SUFFIX}"))
