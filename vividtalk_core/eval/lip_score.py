"""All that two pairs of lip curves say about each other, in one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..audio.encoder import encode_audio
from ..audio.speech import analyse
from ..structures import MEL_RATE, check_shapes
from .lips import Span, amplitude_ratio, audio_gain, closure_recall, frozen_share, pearson, sync_offset, velocity_ratio

SPOKEN = 0.3  # loudness between the clip's background (0) and its loud parts (1), from which somebody speaks
REACH = 12  # frames around 0 in which the offset is looked for


@dataclass(frozen=True, slots=True)
class LipScore:
    """Generated lips, and how they compare with those of the real video; None where there is nothing to measure."""

    aperture_correlation: float | None = None  # Pearson with the real video, 1 is wanted
    width_correlation: float | None = None  # Pearson with the real video, 1 is wanted
    amplitude_ratio: float | None = None  # of the aperture to the real one, 0.8–1.2 is wanted
    velocity_ratio: float | None = None  # of the aperture to the real one, 0.8–1.2 is wanted
    offset_frames: int | None = None  # by which the lips come after the real ones, ±1 is wanted
    audio_gain: float | None = None  # error with wrong audio over error with the right one, above 1.4 is wanted
    frozen_share: float | None = None  # of the transitions in speech, below 0.08 is wanted
    closure_recall: float | None = None  # of p, b and m, above 0.9 is wanted


def score_lips(
    generated: Tensor,
    reference: Tensor | None,
    fps: float,
    speech: Tensor | None = None,
    closures: Sequence[Span] = (),
    wrong: Tensor | None = None,
) -> LipScore:
    """All figures of the lip curves of T frames.

    Args:
        generated: [T, 2] aperture and width in IOD.
        reference: [T, 2], the same of the real video.
        fps: frames per second.
        speech: [T] bool, frames in which somebody speaks.
        closures: start and end in seconds of each p, b and m.
        wrong: [T, 2] generated from somebody else's audio; needs the reference.

    Raises:
        ValueError: curves of several lengths, or a reference that does not move.
    """
    check_shapes(generated=(generated, "T 2"))
    alone = LipScore(
        frozen_share=None if speech is None else known(frozen_share(generated, speech)),
        closure_recall=known(closure_recall(generated[:, 0], closures, fps)),
    )
    if reference is None:
        return alone
    check_shapes(generated=(generated, "T 2"), reference=(reference, "T 2"))
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


def known(value: float) -> float | None:
    """None for NaN."""
    return None if value != value else value


def spoken_frames(waveform: Tensor, sample_rate: int, frames: int, fps: float) -> Tensor:
    """[T] bool, video frames in which the sound [C, N] is loud enough to be speech, by its own background and peaks."""
    level = analyse(encode_audio(waveform, sample_rate, fps).mel).level
    index = ((torch.arange(frames) + 0.5) * MEL_RATE / fps).long()
    padded = torch.cat((level, level.new_zeros(1)))
    return padded[index.clamp(max=len(level))] > SPOKEN
