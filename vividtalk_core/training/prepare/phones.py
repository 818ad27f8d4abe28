"""Phones of a prepared folder, for the auxiliary loss and the closures: DATA/phones/CLIP.json.

Run as `python -m vividtalk_core.training.phones DATA`, after `prepare`. Clips of which the words are known are aligned
to them: those in DATA/transcripts/CLIP.txt, and GRID's, whose names hold the sentence. The others are guessed, each
phone with a confidence. What is there already is kept.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ...audio.phones import Phone, align_phones, decode_phones, grid_transcript, write_phones
from ...structures import SAMPLE_RATE
from ..dataset.motion_shard import FOLDER, Shard, read_shard

log = logging.getLogger("vividtalk")

PHONES, TRANSCRIPTS = "phones", "transcripts"
USAGE = "usage: python -m vividtalk_core.training.phones DATA (a folder that `prepare` made)\n"


def label_folder(data: Path) -> int:
    """Write the phones of every clip with sound that has none yet; how many were written.

    Raises:
        FileNotFoundError: the folder was not made by `prepare`.
        ImportError: PocketSphinx is not installed.
    """
    if not (data / FOLDER).is_dir():
        raise FileNotFoundError(f"{data} has no folder '{FOLDER}': it was not made by `prepare`.")
    (data / PHONES).mkdir(exist_ok=True)
    written = 0
    for path in sorted((data / FOLDER).glob("*.safetensors")):
        shard = read_shard(path)
        out = data / PHONES / f"{shard.name}.json"
        if len(shard.waveform) and not out.is_file():
            write_phones(out, label(shard, transcript_of(data, shard.name)))
            written += 1
    return written


def transcript_of(data: Path, name: str) -> str | None:
    """What is said in a clip, if it is known."""
    path = data / TRANSCRIPTS / f"{name}.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else grid_transcript(name)


def label(shard: Shard, transcript: str | None) -> list[Phone]:
    """Phones of a shard in its own time, in which sound and picture agree."""
    if transcript is not None:
        try:
            return align_phones(shard.waveform, SAMPLE_RATE, transcript)
        except ValueError as error:
            log.warning("%s is guessed instead of aligned: %s", shard.name, error)
    return decode_phones(shard.waveform, SAMPLE_RATE)


def main(argv: Sequence[str] | None = None) -> int:
    """Label one folder; exit code 0, or 2 and one sentence on stderr."""
    words = sys.argv[1:] if argv is None else list(argv)
    if len(words) != 1 or words[0].startswith("-"):
        sys.stderr.write(USAGE)
        return 2
    try:
        sys.stdout.write(f"{label_folder(Path(words[0]))} clips labelled\n")
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
