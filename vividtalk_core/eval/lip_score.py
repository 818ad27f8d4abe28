"""All metrics of lip curves, alone and beside those of the reference, in one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..audio.encoder import MEL, encode_audio
from ..audio.speech import analyse
from ..structures import MEL_RATE, check_shapes
from .lips import Span, amplitude_ratio, audio_gain, closure_recall, frozen_share, pearson, sync_offset, velocity_ratio

# Of the loudness between the clip's background (0) and its loud parts (1); speech is above it.
SPOKEN = 0.3
REACH = 12  # frames: offsets up to this many are searched


@dataclass(frozen=True, slots=True)
class LipScore:
    """Generated lips, alone and beside those of the reference; None where there is nothing to measure."""

    aperture_correlation: float | None = None  # Pearson with the reference, 1 is best
    width_correlation: float | None = None  # Pearson with the reference, 1 is best
    amplitude_ratio: float | None = None  # of the aperture to the reference's, 0.8–1.2 is good
    velocity_ratio: float | None = None  # of the aperture to the reference's, 0.8–1.2 is good
    offset_frames: int | None = None  # by which the lips come after the reference's, ±1 is good
    audio_gain: float | None = None  # error with wrong audio over error with the right one, above 1.4 is good
    frozen_share: float | None = None  # of the transitions in speech, below 0.08 is good
    closure_recall: float | None = None  # of p, b and m, above 0.9 is good


def score_lips(
    generated: Tensor,
    reference: Tensor | None,
    fps: float,
    speech: Tensor | None = None,
    closures: Sequence[Span] = (),
    wrong: Tensor | None = None,
) -> LipScore:
    """All metrics of the lip curves of T frames.

    Args:
        generated: [T, 2] aperture and width in IOD.
        reference: [T, 2], the same of the real video; None leaves out what compares.
        fps: frames per second.
        speech: [T] bool, frames in which somebody speaks.
        closures: start and end in seconds of each p, b and m.
        wrong: [T, 2] generated from somebody else's audio; needs the reference.

    Raises:
        MismatchError: curves of several lengths.
        MediaError: the mouth of the reference does not move.
    """
    check_shapes(generated=(generated, "T 2"))
    alone = LipScore(
        frozen_share=None if speech is None else none_if_nan(frozen_share(generated, speech)),
        closure_recall=none_if_nan(closure_recall(generated[:, 0], closures, fps)),
    )
    if reference is None:
        return alone
    check_shapes(reference=(reference, "T 2"))
    (aperture, width), (real_aperture, real_width) = generated.unbind(-1), reference.unbind(-1)
    return replace(
        alone,
        aperture_correlation=pearson(aperture, real_aperture),
        width_correlation=pearson(width, real_width),
        amplitude_ratio=amplitude_ratio(aperture, real_aperture),
        velocity_ratio=velocity_ratio(aperture, real_aperture),
        offset_frames=sync_offset(aperture, real_aperture, REACH) if len(aperture) >= 3 * REACH else None,
        audio_gain=None if wrong is None else audio_gain(generated, wrong, reference),
    )


def none_if_nan(value: float) -> float | None:
    """None for NaN, which is what a metric without anything to measure gives; JSON has no NaN."""
    return None if math.isnan(value) else value


def spoken_frames(waveform: Tensor, sample_rate: int, frames: int, fps: float) -> Tensor:
    """[T] bool, video frames in which the sound [C, N] is speech: loud beside its own background and peaks."""
    level = analyse(encode_audio(waveform, sample_rate, fps, MEL).mel).level
    # The mel frame in the middle of each video frame; what lies behind the sound is silent.
    index = ((torch.arange(frames) + 0.5) * MEL_RATE / fps).long()
    padded = torch.cat((level, level.new_zeros(1)))
    return padded[index.clamp(max=len(level))] > SPOKEN
