"""From what is heard to curves: the expression generator over a whole clip, in pieces, with the user's gains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..audio.encoder import feature_rows, mel_windows
from ..audio.mel import FLOOR
from ..errors import MismatchError
from ..filters import blur_rows
from ..motion.edit import GROUPS, scale_groups
from ..structures import ARKIT_NAMES, AudioFeatures, Expression
from ..time_grid import frame_count, resampled_positions, sample_rows
from .expression import ExpressionGenerator, RollState

BLOCK = 250  # frames that are made at once: memory does not grow with the clip
EYES = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith("eye")]
MOUTH = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith((*GROUPS["jaw"], *GROUPS["lips"]))]


@dataclass(frozen=True, slots=True)
class ArticulationSettings:
    """What a user may choose; 1 is the strength of the people that were learned from."""

    lip_strength: float = 1.0  # of all mouth motion, jaw and lips
    jaw_gain: float = 1.0  # of the jaw alone
    lip_gain: float = 1.0  # of the lips alone, lip offsets included
    face_gain: float = 1.0  # of brows and cheeks
    smoothing_s: float = 0.0  # width of a Gaussian over time; above 0.05 closures go missing
    closure: float = 2.0  # how readily lips meet where p, b or m is heard: 1 = as sure as it is heard, 0 = not at all
    style: float = 1.0  # how far α colours the motion: 0 is the average speaker

    def __post_init__(self) -> None:
        wrong = [f"{f.name} {getattr(self, f.name)}" for f in fields(self) if not 0 <= getattr(self, f.name) < math.inf]
        if wrong:
            raise ValueError(f"gains, smoothing, closure and style must be 0 or more; got {', '.join(wrong)}.")


def generate_expression(
    model: ExpressionGenerator,
    features: AudioFeatures,
    id_coefficients: Tensor | None = None,
    settings: ArticulationSettings = ArticulationSettings(),
) -> Expression:
    """Lips, jaw, cheeks and brows for what is heard (§3.2 of the paper). Lids and gaze stay still: see `add_blinks`.

    Frame t depends on `model.reach` frames of sound around it and, in the causal form, on the motion before it; never
    on how long the clip is or how it is cut into blocks.

    Args:
        model: from `hub.load_module`.
        features: of `encode_audio`, with the encoder that the model was trained for.
        id_coefficients: [I] α of the portrait; None is the average speaker.
        settings: gains and smoothing.

    Returns:
        T = features.frame_count frames from rest: silence is a relaxed, closed mouth.

    Raises:
        ValueError: the features are of another encoder than the model's.
    """
    frames = features.frame_count
    coefficients = torch.empty(frames, len(ARKIT_NAMES))
    lips = torch.empty(frames, *model.lip_basis.shape[1:])
    done = 0
    for block in expression_blocks(model, features, id_coefficients, settings):
        part = slice(done, done + len(block.coefficients))
        coefficients[part], lips[part] = block.coefficients, block.lip_offsets
        done = part.stop
    return Expression.from_rest(coefficients, lips, features.fps)


def expression_blocks(
    model: ExpressionGenerator,
    features: AudioFeatures,
    id_coefficients: Tensor | None = None,
    settings: ArticulationSettings = ArticulationSettings(),
) -> Iterator[Expression]:
    """`generate_expression` in pieces of `BLOCK` frames, for who has no room for the lip offsets of an hour at once."""
    heard, frames = rows_at_model_rate(model, features), features.frame_count
    blocks = _motion_blocks(model, heard, _style(model, id_coefficients, settings.style))
    motion = blur_rows(torch.cat(list(blocks)), settings.smoothing_s * model.config.fps)
    position = resampled_positions(frames, model.config.fps, features.fps).to(motion.device)
    for part in sample_rows(motion, position).split(BLOCK):
        yield _curves(model, part, settings, features.fps)


def _curves(model: ExpressionGenerator, rows: Tensor, settings: ArticulationSettings, fps: float) -> Expression:
    """Curves of standardised motion and closure [T, M + 1], with the user's gains."""
    motion, closure = rows.split((sum(model.sizes), 1), -1)  # [T, M], [T, 1]
    coefficients, lips = model.to_curves(motion)
    apart = 1 - (settings.closure * closure).clamp(0, 1)
    coefficients[:, MOUTH] *= apart
    coefficients[:, EYES] = 0.0  # sound tells nothing of lids and gaze
    return apply_gains(Expression.from_rest(coefficients, lips * apart[..., None], fps), settings)


def apply_gains(expression: Expression, settings: ArticulationSettings) -> Expression:
    """The user's strengths on lips and face of any source; smoothing is another matter."""
    jaw, lips = settings.lip_strength * settings.jaw_gain, settings.lip_strength * settings.lip_gain
    return scale_groups(
        expression, {"jaw": jaw, "lips": lips, "cheeks": settings.face_gain, "brows": settings.face_gain}
    )


def rows_at_model_rate(model: ExpressionGenerator, features: AudioFeatures) -> Tensor:
    """[T', D] what the model hears, at its own frame rate; ValueError if another encoder made the features."""
    config = model.config
    frames = max(1, frame_count(features.duration_s, config.fps))
    if config.front_end == "mel":
        return mel_windows(features.mel, frames, config.fps)
    rows = feature_rows(features, frames, config.fps)
    if rows.shape[1] != config.feature_width or features.states is None:
        raise MismatchError(
            f"these weights were trained on {config.feature_width} features per frame, the audio encoder "
            f"'{features.encoder}' gave {rows.shape[1]}: choose the encoder that they were trained with, or the "
            "embedded weights with the encoder 'mel'."
        )
    return rows


def _style(model: ExpressionGenerator, id_coefficients: Tensor | None, strength: float) -> Tensor:
    """[1, S] z_style; zeros for the average speaker."""
    if id_coefficients is None:
        return model.motion_mean.new_zeros(1, model.config.style_width)
    return strength * model.style(id_coefficients[None].to(model.motion_mean))


@torch.no_grad()
def _motion_blocks(model: ExpressionGenerator, heard: Tensor, style: Tensor) -> Iterator[Tensor]:
    """Standardised motion and, last, how likely lips are shut, [t, M + 1], of block after block of features [T, D]."""
    heard = heard.to(model.motion_mean)
    reach, frames, state = model.reach, len(heard), RollState()
    # before and after the clip there is silence
    quiet = math.log(FLOOR) if model.config.front_end == "mel" else 0.0
    edge = heard.new_full((reach, heard.shape[1]), quiet)
    heard = torch.cat((edge, heard, edge))
    for start in range(0, frames, BLOCK):
        length = min(BLOCK, frames - start)
        piece = heard[None, start : start + length + 2 * reach]
        audio = model.encode(piece, style)
        inside = audio[:, reach : reach + length]
        if model.config.causal:
            motion, state = model.roll(inside, state)
        else:
            motion = model.decode(audio)[:, reach : reach + length]
        yield torch.cat((motion, model.lip_closure(inside)[..., None]), -1)[0]
