"""Metrics of the lips beside those of real people: acoustic baseline, causal and parallel form.

`python -m vividtalk_core evaluate expression DATA` prints them as JSON: medians over the clips of a split (validation:
people that were not trained on), closures over all phones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from ...audio.phones import closures_of, read_phones
from ...audio_to_mesh.acoustic import acoustic_expression
from ...audio_to_mesh.articulation import generate_expression
from ...errors import DatasetError
from ...eval.lip_score import LipScore, score_lips, spoken_frames
from ...eval.lips import Span
from ...head.mouth_shape import lip_curves
from ...pipeline import Models
from ...settings import ACOUSTIC
from ...structures import SAMPLE_RATE, AudioFeatures, Expression, MorphableModel
from ..dataset.motion_shard import FPS, Shard, encode_shard, load_shards

REAL = "real"
Row = Callable[[AudioFeatures, Tensor], Expression]  # sound and α [I] → curves


def rows_of(models: Models) -> dict[str, Row]:
    """Every method that the weights allow, by name."""
    lip_vertices = len(models.face.head.lip_vertices)
    rows: dict[str, Row] = {ACOUSTIC: lambda features, face: acoustic_expression(features, lip_vertices)}
    return rows | {mode: _learned(models, mode) for mode in models.audio_to_mesh.modes}


def _learned(models: Models, mode: str) -> Row:
    """The row of one expression model."""
    model = models.audio_to_mesh.expression(mode)
    return lambda features, face: generate_expression(model, features, face)


def score_row(
    row: Row | None, shards: Sequence[Shard], closures: Sequence[Sequence[Span]], head: MorphableModel
) -> list[LipScore]:
    """Scores of one method on every clip, with the next clip's sound as the wrong one; None is the real lips."""
    return [_score(row, shard, shards[(i + 1) % len(shards)], closures[i], head) for i, shard in enumerate(shards)]


def _score(row: Row | None, shard: Shard, other: Shard, closures: Sequence[Span], head: MorphableModel) -> LipScore:
    real = torch.stack((shard.aperture, shard.width), -1)
    speech = spoken_frames(shard.sound, SAMPLE_RATE, shard.frames, FPS)
    if row is None:
        return score_lips(real, real, FPS, speech, closures)
    generated, wrong = _curves(row, shard, shard, head), _curves(row, other, shard, head)
    # The other clip may be shorter: both errors are taken over the same frames, or they could not be divided.
    frames = min(len(generated), len(wrong), shard.frames)
    whole = score_lips(generated[: shard.frames], real, FPS, speech, closures)
    common = score_lips(generated[:frames], real[:frames], FPS, wrong=wrong[:frames])
    return replace(whole, audio_gain=common.audio_gain)


def _curves(row: Row, sound: Shard, face: Shard, head: MorphableModel) -> Tensor:
    """[T, 2] aperture and width; the aperture is not below that of closed lips, which cannot pass each other."""
    aperture, width = lip_curves(row(encode_shard(sound), face.id_coefficients), head)
    rest = Expression.from_rest(torch.zeros(1, len(head.exp_names)), torch.zeros(1, len(head.lip_vertices), 3), FPS)
    return torch.stack((aperture.clamp(min=float(lip_curves(rest, head)[0])), width), -1)


def summarise(scores: Sequence[LipScore], closures: Sequence[Sequence[Span]]) -> dict[str, float | int]:
    """Medians over clips; `closure_recall` over all closures, `in_sync` the share of clips within ±1 frame."""
    rows = [asdict(score) for score in scores]
    table = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0]}
    summary = {name: round(median(values), 3) for name, values in table.items() if values}
    counts = [len(spans) for spans in closures]
    pairs = [(s.closure_recall, n) for s, n in zip(scores, counts, strict=True) if s.closure_recall is not None]
    # Over all closures and not the median over clips: most clips have only one or two.
    met = sum(recall * count for recall, count in pairs)
    offsets = table["offset_frames"]
    return {
        "clips": len(scores),
        **summary,
        "in_sync": round(sum(abs(offset) <= 1 for offset in offsets) / max(1, len(offsets)), 3),
        "closure_recall": round(met / max(1, sum(count for _, count in pairs)), 3),
        "closures": sum(count for _, count in pairs),
    }


def expression_metrics(data: Path, split: str, models: Models) -> Mapping[str, Mapping[str, float | int]]:
    """The summary of every row, the real lips first.

    Args:
        data: a prepared folder.
        split: "train", "validation" or "test".
        models: from `load_models`.

    Raises:
        DatasetError: the split has no clips with sound.
    """
    shards = [shard for shard in load_shards(data, split) if len(shard.waveform)]
    if not shards:
        raise DatasetError(f"'{data}' has no clips with sound in its split '{split}'")
    # Phones are optional: without them closures are left out, all else is measured.
    paths = [data / "phones" / f"{shard.name}.json" for shard in shards]
    closures = [closures_of(read_phones(path)) if path.is_file() else [] for path in paths]
    rows: dict[str, Row | None] = {REAL: None, **rows_of(models)}
    head = models.face.head
    return {name: summarise(score_row(row, shards, closures, head), closures) for name, row in rows.items()}
