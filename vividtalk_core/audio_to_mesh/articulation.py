"""From audio features to curves: the expression generator over a whole clip, block by block, with the user's gains."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..audio.encoder import WHISPER, mel_windows, state_windows
from ..errors import MismatchError
from ..filters import blur_rows
from ..motion.edit import GROUPS, scale_groups
from ..settings import DEFAULT_ARTICULATION, ArticulationSettings
from ..structures import ARKIT_NAMES, AudioFeatures, Expression
from ..time_grid import frame_count, resampled_positions, sample_rows
from .expression import ExpressionConfig, ExpressionGenerator, RollState

# Clips are computed in blocks: the memory of the network does not grow with their length.
BLOCK = 250  # frames
EYES = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith("eye")]
TONGUE_OUT = ARKIT_NAMES.index("tongueOut")
TONGUE_SPREAD_S = 0.03  # standard deviation of a Gaussian: a tongue is slower than what is heard changes
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
    blocks = _motion_blocks(model, features, _style(model, id_coefficients, settings.style))
    # the motion of a whole clip is small; the curves are made part by part, because their lip offsets are not
    motion = torch.cat(list(blocks))
    motion[:, -1:] = blur_rows(motion[:, -1:], TONGUE_SPREAD_S * model.config.fps)
    motion = blur_rows(motion, settings.smoothing_s * model.config.fps)
    position = resampled_positions(features.frame_count, model.config.fps, features.fps).to(motion.device)
    for part in torch.split(sample_rows(motion, position), BLOCK):
        yield _curves(model, part, settings, features.fps)


def _curves(model: ExpressionGenerator, rows: Tensor, settings: ArticulationSettings, fps: float) -> Expression:
    """Curves of standardised motion, closure and tongue [T, M + 2], with the user's gains."""
    motion, closure, tongue = rows[:, :-2], rows[:, -2:-1], rows[:, -1]  # [T, M], [T, 1], [T]
    coefficients, lips = model.to_curves(motion)
    # only what opens the mouth is scaled down: brows and cheeks go on through a closure
    apart = 1 - (settings.closure * closure).clamp(0, 1)
    coefficients[:, MOUTH] *= apart
    coefficients[:, TONGUE_OUT] = settings.tongue * tongue
    coefficients[:, EYES] = 0.0  # sound does not determine lids and gaze
    return apply_gains(Expression.from_rest(coefficients, lips * apart[..., None], fps), settings)


def apply_gains(expression: Expression, settings: ArticulationSettings) -> Expression:
    """An expression [T, 52] of any source with the user's gains on lips and face, without the smoothing."""
    jaw, lips = settings.lip_strength * settings.jaw_gain, settings.lip_strength * settings.lip_gain
    return scale_groups(
        expression, {"jaw": jaw, "lips": lips, "cheeks": settings.face_gain, "brows": settings.face_gain}
    )


def feature_rows(features: AudioFeatures, config: ExpressionConfig, frames: int, first: int = 0) -> Tensor:
    """The input of a network, a row for each of T of its own frames, which depends on the sound under it alone.

    Args:
        features: with mel [M, 80] and, but for the front end "mel", states [S, D].
        config: of the network.
        frames: T, at `config.fps`.
        first: number of the first one.

    Returns:
        [T, D'], D' the sum of `config.feature_widths`.

    Raises:
        MismatchError: another encoder made the features.
    """
    parts = []
    # a network of the front end "mel" takes the mel, even where a speech encoder has given states too
    if config.hears_states:
        width = 0 if features.states is None else features.states.shape[1]
        if features.states is None or width != config.state_width:
            raise MismatchError(
                f"these weights were trained on {config.state_width} features per state, the audio encoder "
                f"'{features.encoder}' gave {width}: choose the encoder that they were trained with, or the embedded "
                f"weights with the encoder '{WHISPER}'."
            )
        parts.append(state_windows(features.states, frames, config.fps, first))
    if config.hears_mel:
        parts.append(mel_windows(features.mel, frames, config.fps, first))
    return torch.cat(parts, -1)


def _style(model: ExpressionGenerator, id_coefficients: Tensor | None, strength: float) -> Tensor:
    """[1, S] z_style; zeros for the average speaker."""
    if id_coefficients is None:
        return model.motion_mean.new_zeros(1, model.config.style_width)
    style: Tensor = model.style(id_coefficients[None].to(model.motion_mean))
    return strength * style


@torch.no_grad()
def _motion_blocks(model: ExpressionGenerator, features: AudioFeatures, style: Tensor) -> Iterator[Tensor]:
    """Of the model's own frames standardised motion [M], probability of closed lips, and tongue, [t, M + 2] each."""
    reach, state = model.reach, RollState()
    frames = max(1, frame_count(features.duration_s, model.config.fps))
    silence = model.audio_encoder.silence()
    for start in range(0, frames, BLOCK):
        length = min(BLOCK, frames - start)
        first, stop = max(0, start - reach), min(frames, start + length + reach)
        # the rows of a block only: those of an hour would take 370 MB
        rows = feature_rows(features, model.config, stop - first, first).to(model.motion_mean)
        # before and after the clip there is silence
        before, after = first - (start - reach), start + length + reach - stop
        rows = torch.cat((silence.expand(before, -1), rows, silence.expand(after, -1)))
        audio = model.encode(rows[None], style)
        # frames near the ends of a piece lack sound around them: `reach` on either side are computed and dropped
        inside = audio[:, reach : reach + length]
        # the causal form continues from the last frame of the block before; the parallel one depends on the sound alone
        if model.config.causal:
            motion, state = model.roll(inside, state)
        else:
            motion = model.decode(audio)[:, reach : reach + length]
        yield torch.cat((motion, torch.stack((model.lip_closure(inside), model.tongue(inside)), -1)), -1)[0]
