"""Whether portraits keep their style when they talk: the closed form beside the networks, portrait by portrait.

`python -m vividtalk_core evaluate style SPEECH PORTRAIT …` prints it as a Markdown table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, fields

import torch
from torch import Tensor

from ...pipeline import Models, TalkSettings, TalkStream, talk
from ...structures import CROP
from ..image_metrics import face_oval
from ..style import StyleChange, style_change
from .reenactment import strengths
from .reenactment_score import sample_frame, small_crop

# Frames between two that are compared: half a second, so that they show different sounds.
EVERY = 12
METRICS = tuple(field.name for field in fields(StyleChange))


def talking_style(models: Models, portrait: Tensor, waveform: Tensor, sample_rate: int) -> dict[str, StyleChange]:
    """Mean change of style over the frames of a talking portrait, for the closed form and the networks.

    Args:
        models: from `load_models`.
        portrait: [1, 3, H, W] RGB in 0..1.
        waveform: [C, N] speech.
        sample_rate: Hz.

    Returns:
        Row → change inside the face oval of the 256 crop, which is found anew in each frame.
    """
    rows = {}
    for row, strength in strengths(models).items():
        stream = talk(portrait, (waveform, sample_rate), TalkSettings(strength=strength), models=models)
        changes = [astuple(change) for change in _changes(models, stream)]
        rows[row] = StyleChange(*(sum(column) / len(column) for column in zip(*changes, strict=True)))
    return rows


def _changes(models: Models, stream: TalkStream) -> list[StyleChange]:
    """The change of every `EVERY`-th frame [3, H, W]."""
    face, changes = stream.face, []
    points = face.landmarks[:, :2]  # [478, 2] px of the crop
    # Compared at 256 px, because the size decides how steep lines are.
    portrait, where = small_crop(stream.portrait[0], face.crop), face_oval(points, CROP, CROP)
    with torch.no_grad():
        for index, frame in enumerate(frame for chunk in stream for frame in chunk):
            if index % EVERY == 0:
                sample = sample_frame(models.face, frame, face.crop, points)
                changes.append(style_change(portrait, sample.small, where, face_oval(sample.points, CROP, CROP)))
    return changes


def to_markdown(portraits: Mapping[str, Mapping[str, StyleChange]]) -> str:
    """A line for each portrait and row."""
    lines = [("portrait", "row", *(name.replace("_", " ") for name in METRICS)), ("---",) * (len(METRICS) + 2)]
    for name, rows in portraits.items():
        lines += [(name, row, *(f"{value:.2f}" for value in astuple(change))) for row, change in rows.items()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
