"""Figures of the lips beside those of real people: acoustic baseline, causal and parallel form.

`python -m vividtalk_core.training.expression_figures DATA [SPLIT] [WEIGHTS]` prints them as JSON: medians over the
clips of a split (validation: nobody that was trained on), closures over all phones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from ...audio.phones import closures_of, read_phones
from ...audio_to_mesh.acoustic import acoustic_expression
from ...audio_to_mesh.articulation import generate_expression
from ...audio_to_mesh.models import ACOUSTIC
from ...eval.lip_score import LipScore, score_lips, spoken_frames
from ...eval.lips import Span
from ...head.mouth_shape import lip_curves
from ...pipeline import Models, load_models
from ...structures import SAMPLE_RATE, AudioFeatures, Expression, MorphableModel
from ..dataset.motion_shard import FPS, Shard, hear, load_shards

REAL = "real"
Row = Callable[[AudioFeatures, Tensor], Expression]


def rows_of(models: Models) -> dict[str, Row]:
    """Every way to make lips that the weights allow, by name: sound and α [I] → curves."""
    lip_vertices = len(models.face.head.lip_vertices)
    rows: dict[str, Row] = {ACOUSTIC: lambda features, face: acoustic_expression(features, lip_vertices)}
    for mode in models.audio_to_mesh.modes:
        model = models.audio_to_mesh.expression(mode)
        rows[mode] = lambda features, face, model=model: generate_expression(model, features, face)
    return rows


def score_row(
    row: Row | None, shards: Sequence[Shard], closures: Sequence[Sequence[Span]], head: MorphableModel
) -> list[LipScore]:
    """One way on every clip, with the next clip's sound as the wrong one; None is what the people themselves did."""
    return [_score(row, shard, shards[(i + 1) % len(shards)], closures[i], head) for i, shard in enumerate(shards)]


def _score(row: Row | None, shard: Shard, other: Shard, closures: Sequence[Span], head: MorphableModel) -> LipScore:
    real = torch.stack((shard.aperture, shard.width), -1)
    speech = spoken_frames(shard.sound, SAMPLE_RATE, shard.frames, FPS)
    if row is None:
        return score_lips(real, real, FPS, speech, closures)
    made, wrong = (_curves(row, clip, shard, head) for clip in (shard, other))
    frames = min(len(made), len(wrong), shard.frames)
    whole = score_lips(made[: shard.frames], real, FPS, speech, closures)
    misled = score_lips(made[:frames], real[:frames], FPS, wrong=wrong[:frames])
    return LipScore(**{**_fields(whole), "audio_gain": misled.audio_gain})


def _curves(row: Row, heard: Shard, face: Shard, head: MorphableModel) -> Tensor:
    """Aperture and width [T, 2]; lips that touch do not go through each other, whatever their curves say."""
    aperture, width = lip_curves(row(hear(heard), face.id_coefficients), head)
    rest = Expression.from_rest(torch.zeros(1, len(head.exp_names)), torch.zeros(1, len(head.lip_vertices), 3), FPS)
    return torch.stack((aperture.clamp(min=float(lip_curves(rest, head)[0])), width), -1)


def _fields(score: LipScore) -> dict[str, float | None]:
    return {field.name: getattr(score, field.name) for field in fields(LipScore)}


def summarise(scores: Sequence[LipScore], closures: Sequence[Sequence[Span]]) -> dict[str, float | int]:
    """Medians over clips; `closure_recall` over all closures, `in_sync` the share of clips within ±1 frame."""
    table = {name: [v for v in (getattr(s, name) for s in scores) if v is not None] for name in _fields(scores[0])}
    summary = {name: round(median(values), 3) for name, values in table.items() if values}
    counts = [len(spans) for spans in closures]
    pairs = [(s.closure_recall, n) for s, n in zip(scores, counts, strict=True) if s.closure_recall is not None]
    met = sum(recall * count for recall, count in pairs)
    offsets = table["offset_frames"]
    return {
        "clips": len(scores),
        **summary,
        "in_sync": round(sum(abs(offset) <= 1 for offset in offsets) / max(1, len(offsets)), 3),
        "closure_recall": round(met / max(1, sum(count for _, count in pairs)), 3),
        "closures": sum(count for _, count in pairs),
    }


def main(arguments: Sequence[str]) -> None:
    """Print the figures of all rows."""
    data, split = Path(arguments[0]), arguments[1] if len(arguments) > 1 else "validation"
    models = load_models(*arguments[2:3])
    shards = [shard for shard in load_shards(data, split) if len(shard.waveform)]
    paths = [data / "phones" / f"{shard.name}.json" for shard in shards]
    closures = [closures_of(read_phones(path)) if path.is_file() else [] for path in paths]
    rows = {REAL: None} | rows_of(models)
    figures = {
        name: summarise(score_row(row, shards, closures, models.face.head), closures) for name, row in rows.items()
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
