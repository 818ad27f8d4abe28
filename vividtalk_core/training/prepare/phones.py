"""Phones of a prepared folder, for the auxiliary loss and the closures: DATA/phones/CLIP.json.

Clips with known words are aligned to them: those in DATA/transcripts/CLIP.txt, and those of the GRID corpus, whose
file names encode the sentence. The phones of the other clips are recognised, each with a confidence. Existing files are
kept.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ...audio.phones import Phone, align_phones, decode_phones, grid_transcript, write_phones
from ...errors import MediaError
from ...structures import SAMPLE_RATE
from ..dataset.layout import CLIPS, PHONES, phones_path, shard_paths, transcript_path
from ..dataset.motion_shard import Shard, read_shard

log = logging.getLogger("vividtalk")


def label_folder(data: Path) -> int:
    """Write the phones of every clip with sound that has none yet, and return how many were written.

    Raises:
        DatasetError: the folder was not made by `train prepare`.
        MissingPackageError: PocketSphinx is not installed.
    """
    paths = shard_paths(data, CLIPS, "train prepare")
    (data / PHONES).mkdir(exist_ok=True)
    written = 0
    for path in paths:
        shard = read_shard(path)
        out = phones_path(data, shard.name)
        # Existing files are kept: they may have been corrected by hand, and finding phones takes long.
        if len(shard.waveform) and not out.is_file():
            write_phones(out, label(shard, transcript_of(data, shard.name)))
            written += 1
    return written


def transcript_of(data: Path, name: str) -> str | None:
    """The words of a clip, if they are known."""
    path = transcript_path(data, name)
    return path.read_text(encoding="utf-8") if path.is_file() else grid_transcript(name)


def label(shard: Shard, transcript: str | None) -> list[Phone]:
    """Phones of a shard, timed by its sound after the delay was removed."""
    if transcript is not None:
        try:
            return align_phones(shard.waveform, SAMPLE_RATE, transcript)
        except MediaError as error:
            log.warning("The phones of %s are recognised instead of aligned: %s", shard.name, error)
    return decode_phones(shard.waveform, SAMPLE_RATE)
