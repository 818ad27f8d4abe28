"""Metrics of the lips beside those of real people: acoustic baseline, log-mel alone, causal and parallel form.

`python -m vividtalk_core evaluate expression DATA` prints them as JSON: medians over the clips of a split (validation:
people that were not trained on), gestures of the mouth over all phones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from ...audio.encoder import MEL, WHISPER
from ...audio.phones import Phone, read_phones
from ...audio_to_mesh.acoustic import acoustic_expression
from ...audio_to_mesh.articulation import generate_expression
from ...audio_to_mesh.expression import ExpressionGenerator
from ...errors import DatasetError
from ...eval.gestures import GESTURES, gesture_recall
from ...eval.lip_score import LipScore, score_lips, spoken_frames
from ...head.mouth_shape import mouth_curves
from ...pipeline import Models
from ...settings import ACOUSTIC
from ...structures import SAMPLE_RATE, AudioFeatures, Expression, MorphableModel
from ..dataset.layout import phones_path
from ..dataset.motion_shard import FPS, Shard, encode_shard, load_shards

REAL = "real"
Row = Callable[[AudioFeatures, Tensor], Expression]  # sound and α [I] → curves


def rows_of(models: Models) -> dict[str, Row]:
    """Every method that the weights allow, by name."""
    lip_vertices = len(models.face.head.lip_vertices)
    rows: dict[str, Row] = {ACOUSTIC: lambda features, face: acoustic_expression(features, lip_vertices)}
    mel = models.audio_to_mesh.expression("parallel", MEL)
    # a set of the user's own may have no network for the log-mel alone
    if not mel.config.hears_states:
        rows[MEL] = _learned(mel)
    return rows | {mode: _learned(models.audio_to_mesh.expression(mode)) for mode in models.audio_to_mesh.modes}


def _learned(model: ExpressionGenerator) -> Row:
    """The row of one expression model."""
    return lambda features, face: generate_expression(model, features, face)


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """A clip to measure on: what is heard, what the real lips do, and what is spoken."""

    shard: Shard
    features: AudioFeatures
    wrong: AudioFeatures  # of another clip
    phones: Sequence[Phone]  # empty where they are not known


def score_row(row: Row | None, clips: Sequence[Clip], head: MorphableModel) -> tuple[list[LipScore], list[Tensor]]:
    """Scores and curves [T, 3] of one method on every clip; None is the real lips."""
    pairs = [_score(row, clip, head) for clip in clips]
    return [score for score, _ in pairs], [curves for _, curves in pairs]


def _score(row: Row | None, clip: Clip, head: MorphableModel) -> tuple[LipScore, Tensor]:
    shard = clip.shard
    real = _real_curves(shard, head)
    speech = spoken_frames(shard.sound, SAMPLE_RATE, shard.frames, FPS)
    if row is None:
        return score_lips(real[:, :2], real[:, :2], FPS, speech), real
    generated, wrong = _curves(row, clip.features, shard, head), _curves(row, clip.wrong, shard, head)
    # The other clip may be shorter: both errors are taken over the same frames, or they could not be divided.
    frames = min(len(generated), len(wrong), shard.frames)
    whole = score_lips(generated[: shard.frames, :2], real[:, :2], FPS, speech)
    common = score_lips(generated[:frames, :2], real[:frames, :2], FPS, wrong=wrong[:frames, :2])
    return replace(whole, audio_gain=common.audio_gain), generated[: shard.frames]


def _real_curves(shard: Shard, head: MorphableModel) -> Tensor:
    """[T, 3] aperture and width of the landmarks, and the height of the upper lip of the tracked mesh."""
    tracked = Expression.from_rest(shard.coefficients, shard.lip_offsets.float(), FPS)
    upper = mouth_curves(tracked, head, shard.id_coefficients)[:, 2]
    return torch.stack((shard.aperture, shard.width, upper), -1)


def _curves(row: Row, features: AudioFeatures, face: Shard, head: MorphableModel) -> Tensor:
    """[T, 3] curves of the mouth; the aperture is not below that of closed lips, which cannot pass each other."""
    curves = mouth_curves(row(features, face.id_coefficients), head)
    rest = Expression.from_rest(torch.zeros(1, len(head.exp_names)), torch.zeros(1, len(head.lip_vertices), 3), FPS)
    least = float(mouth_curves(rest, head)[0, 0])
    return torch.cat((curves[:, :1].clamp(min=least), curves[:, 1:]), 1)


def summarise(
    scores: Sequence[LipScore], curves: Sequence[Tensor], phones: Sequence[Sequence[Phone]]
) -> dict[str, float | int]:
    """Medians over clips; `in_sync` is the share of clips within ±1 frame, gestures are counted over all phones.

    Args:
        scores: of each clip.
        curves: [T, 3] of each clip.
        phones: of each clip.
    """
    rows = [asdict(score) for score in scores]
    table = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0]}
    summary: dict[str, float | int] = {"clips": len(scores)}
    summary |= {name: round(median(values), 3) for name, values in table.items() if values}
    offsets = table["offset_frames"]
    summary["in_sync"] = round(sum(abs(offset) <= 1 for offset in offsets) / max(1, len(offsets)), 3)
    # Over all phones and not the median over clips: most clips have only one or two of a kind.
    for name, gesture in GESTURES.items():
        recall, count = gesture_recall(list(zip(curves, phones, strict=True)), gesture, FPS)
        if recall is not None:
            summary |= {f"{name}_recall": round(recall, 3), f"{name}_phones": count}
    return summary


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
    clips = clips_of(data, shards)
    rows: dict[str, Row | None] = {REAL: None, **rows_of(models)}
    phones = [clip.phones for clip in clips]
    return {name: summarise(*score_row(row, clips, models.face.head), phones) for name, row in rows.items()}


def clips_of(data: Path, shards: Sequence[Shard]) -> list[Clip]:
    """The clips of a prepared folder, each with the sound of the next one as the wrong one."""
    features = [encode_shard(shard, WHISPER) for shard in shards]
    # Phones are optional: without them gestures are left out, all else is measured.
    paths = [phones_path(data, shard.name) for shard in shards]
    phones = [read_phones(path) if path.is_file() else [] for path in paths]
    return [Clip(*row) for row in zip(shards, features, [*features[1:], features[0]], phones, strict=True)]
