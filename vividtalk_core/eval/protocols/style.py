"""Whether portraits keep their style when they talk: the closed form beside the networks, portrait by portrait.

Run as `python -m vividtalk_core.eval.style_table SPEECH PORTRAIT [PORTRAIT ...]`: a Markdown table.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

import torch
from torch import Tensor

from ...audio.waveform import read_audio
from ...pipeline import Models, TalkSettings, TalkStream, load_models, talk
from ...structures import CROP
from ...video.reader import read_image
from ..pictures import face_oval
from ..style import StyleChange, style_change
from .reenactment import strengths
from .reenactment_score import small_crop, take_shot

EVERY = 12  # frames: half a second between those that are looked at
FIGURES = tuple(field.name for field in fields(StyleChange))


def talking_style(models: Models, portrait: Tensor, waveform: Tensor, sample_rate: int) -> dict[str, StyleChange]:
    """Mean change of style over the frames of a talking portrait, for the closed form and the networks.

    Args:
        models: from `load_models`.
        portrait: [1, 3, H, W] RGB in 0..1.
        waveform: [C, N] speech.
        sample_rate: Hz.

    Returns:
        Row → change inside the face oval of the 256 crop, as found again in each frame.
    """
    rows = {}
    for row, strength in strengths(models).items():
        stream = talk(portrait, (waveform, sample_rate), TalkSettings(strength=strength), models=models)
        changes = [astuple(change) for change in _changes(models, stream)]
        rows[row] = StyleChange(*(sum(column) / len(column) for column in zip(*changes, strict=True)))
    return rows


def _changes(models: Models, stream: TalkStream) -> list[StyleChange]:
    """The change of every `EVERY`-th frame."""
    face, changes = stream.face, []
    own, where = small_crop(stream.portrait[0], face.crop), face_oval(face.landmarks[:, :2], CROP, CROP)
    with torch.no_grad():
        for index, frame in enumerate(frame for chunk in stream for frame in chunk):
            if index % EVERY == 0:
                shot = take_shot(models.face, frame, face.crop, face.landmarks[:, :2])
                changes.append(style_change(own, shot.small, where, face_oval(shot.points, CROP, CROP)))
    return changes


def to_markdown(portraits: dict[str, dict[str, StyleChange]]) -> str:
    """A line for each portrait and row."""
    lines = [("portrait", "row", *(name.replace("_", " ") for name in FIGURES)), ("---",) * (len(FIGURES) + 2)]
    for name, rows in portraits.items():
        lines += [(name, row, *(f"{value:.2f}" for value in astuple(change))) for row, change in rows.items()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit code 0, or 2 and why."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if len(words) < 2:
            raise ValueError("name the speech, and at least one portrait: SPEECH PORTRAIT [PORTRAIT ...]")
        waveform, sample_rate = read_audio(Path(words[0]))
        models = load_models()
        paths = [Path(word) for word in words[1:]]
        rows = {path.stem: talking_style(models, read_image(path), waveform, sample_rate) for path in paths}
        sys.stdout.write(to_markdown(rows))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
