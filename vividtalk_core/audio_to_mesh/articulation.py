"""From audio features to curves: the expression generator over a whole clip, block by block, with the user's gains."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..audio.encoder import feature_rows, mel_windows
from ..audio.mel import FLOOR
from ..errors import MismatchError
from ..filters import blur_rows
from ..motion.edit import GROUPS, scale_groups
from ..settings import DEFAULT_ARTICULATION, ArticulationSettings
from ..structures import ARKIT_NAMES, AudioFeatures, Expression
from ..time_grid import frame_count, resampled_positions, sample_rows
from .expression import ExpressionGenerator, RollState

# Clips are computed in blocks: the memory of the network does not grow with their length.
BLOCK = 250  # frames
EYES = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith("eye")]
MOUTH = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith((*GROUPS["jaw"], *GROUPS["lips"]))]


def generate_expression(
    model: ExpressionGenerator,
    features: AudioFeatures,
    id_coefficients: Tensor | None = None,
    settings: ArticulationSettings = DEFAULT_ARTICULATION,
) -> Expression:
    """Lips, jaw, cheeks and brows for a sound (§3.2 of the paper). Lids and gaze stay still: see `add_blinks`.

    Frame t depends on `model.reach` frames of sound around it and, in the causal form, on the motion before it, but
    not on the length of the clip or on how it is cut into blocks.

    Args:
        model: from `hub.load_module`.
        features: of `encode_audio`, with the encoder that the model was trained for.
        id_coefficients: [I] α of the portrait; None is the average speaker.
        settings: gains and smoothing.

    Returns:
        Coefficients [T, 52] and lip offsets [T, L, 3] from rest (silence is a relaxed, closed mouth),
        T = features.frame_count.

    Raises:
        MismatchError: the features are of another encoder than the model's.
    """
    frames = features.frame_count
    # blocks are written into their final place: to join them at the end would hold all curves twice
    coefficients = torch.empty(frames, len(ARKIT_NAMES))
    lips = torch.empty(frames, model.config.lip_vertices, 3)
    done = 0
    for block in expression_blocks(model, features, id_coefficients, settings):
        part = slice(done, done + block.frame_count)
        coefficients[part], lips[part] = block.coefficients, block.lip_offsets
        done = part.stop
    return Expression.from_rest(coefficients, lips, features.fps)


def expression_blocks(
    model: ExpressionGenerator,
    features: AudioFeatures,
    id_coefficients: Tensor | None = None,
    settings: ArticulationSettings = DEFAULT_ARTICULATION,
) -> Iterator[Expression]:
    """`generate_expression` in blocks of `BLOCK` frames: the lip offsets of an hour need not be in memory at once.

    Yields:
        Coefficients [t, 52] and lip offsets [t, L, 3] of the frames that follow.
    """
    rows, frames = rows_at_model_rate(model, features), features.frame_count
    blocks = _motion_blocks(model, rows, _style(model, id_coefficients, settings.style))
    # the rows of a whole clip are small; the curves are made part by part, because their lip offsets are not
    motion = blur_rows(torch.cat(list(blocks)), settings.smoothing_s * model.config.fps)
    position = resampled_positions(frames, model.config.fps, features.fps).to(motion.device)
    for part in torch.split(sample_rows(motion, position), BLOCK):
        yield _curves(model, part, settings, features.fps)


def _curves(model: ExpressionGenerator, rows: Tensor, settings: ArticulationSettings, fps: float) -> Expression:
    """Curves of standardised motion and closure [T, M + 1], with the user's gains."""
    motion, closure = rows[:, :-1], rows[:, -1:]  # [T, M], [T, 1]
    coefficients, lips = model.to_curves(motion)
    # only what opens the mouth is scaled down: brows and cheeks go on through a closure
    apart = 1 - (settings.closure * closure).clamp(0, 1)
    coefficients[:, MOUTH] *= apart
    coefficients[:, EYES] = 0.0  # sound does not determine lids and gaze
    return apply_gains(Expression.from_rest(coefficients, lips * apart[..., None], fps), settings)


def apply_gains(expression: Expression, settings: ArticulationSettings) -> Expression:
    """An expression [T, 52] of any source with the user's gains on lips and face, without the smoothing."""
    jaw, lips = settings.lip_strength * settings.jaw_gain, settings.lip_strength * settings.lip_gain
    return scale_groups(
        expression, {"jaw": jaw, "lips": lips, "cheeks": settings.face_gain, "brows": settings.face_gain}
    )


def rows_at_model_rate(model: ExpressionGenerator, features: AudioFeatures) -> Tensor:
    """The model's input at its own frame rate, of features with mel [M, 80] or states [T, D].

    Returns:
        [T', D'] for the T' frames of the sound at `model.config.fps`.

    Raises:
        MismatchError: another encoder made the features.
    """
    config = model.config
    frames = max(1, frame_count(features.duration_s, config.fps))
    # such a model takes the log-mel, even where a speech model has given states too
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
    style: Tensor = model.style(id_coefficients[None].to(model.motion_mean))
    return strength * style


@torch.no_grad()
def _motion_blocks(model: ExpressionGenerator, rows: Tensor, style: Tensor) -> Iterator[Tensor]:
    """Standardised motion and, last, the probability of closed lips, [t, M + 1], block by block of rows [T, D]."""
    rows = rows.to(model.motion_mean)
    reach, frames, state = model.reach, len(rows), RollState()
    # before and after the clip there is silence
    quiet = math.log(FLOOR) if model.config.front_end == "mel" else 0.0
    edge = rows.new_full((reach, rows.shape[1]), quiet)
    rows = torch.cat((edge, rows, edge))
    for start in range(0, frames, BLOCK):
        length = min(BLOCK, frames - start)
        piece = rows[None, start : start + length + 2 * reach]
        audio = model.encode(piece, style)
        # frames near the ends of a piece lack sound around them: `reach` on either side are computed and dropped
        inside = audio[:, reach : reach + length]
        # the causal form continues from the last frame of the block before; the parallel one depends on the sound alone
        if model.config.causal:
            motion, state = model.roll(inside, state)
        else:
            motion = model.decode(audio)[:, reach : reach + length]
        yield torch.cat((motion, model.lip_closure(inside)[..., None]), -1)[0]
