"""Audio-video offset: the aperture expected from the sound is correlated with the aperture of the landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...audio.encoder import mel_position
from ...audio.mel import log_mel
from ...audio.speech import analyse
from ...audio.waveform import analysis_gain
from ...errors import SettingsError
from ...filters import blur_rows
from ...time_grid import sample_rows
from ..dataset.motion_shard import SAMPLES_PER_FRAME, Shard

# Frames: weight of the mean correlation of all clips of a speaker, beside the clip's own. A clip of ten seconds
# decides half by itself.
SHARED_WEIGHT = 250.0


@dataclass(frozen=True, slots=True)
class LagSettings:
    """How lags are estimated and what follows from them."""

    reach: int = 12  # frames either way
    trend_s: float = 0.8  # σ of the slow trend that is subtracted from both curves: mood and posture
    far: int = 4  # frames from the peak; correlations at least so far away measure the noise level
    # Parts of clips against the whole: from 5 s on and with z ≥ 3 no estimate was off by more than a frame (n = 71). Of
    # 3 s clips that are in sync one in ten seems to be off by several, and with z ≥ 4 still one in sixty.
    sure_z: float = 3.0  # from which an estimate is acted on
    sure_s: float = 4.5  # of good frames
    tolerated: int = 1  # frames of delay that are not corrected: on clips in sync the estimate is half a frame early
    furthest_shift: int = 8  # frames; what is further off is another edit, not a delay
    # Over 10 s, the sound of another speaker reaches at most 0.22 at its best lag, the right one at least 0.34.
    telling_s: float = 10.0  # of good frames from which a low correlation is reliable
    least_correlation: float = 0.25  # at the best lag, below which the sound is another speaker's

    def __post_init__(self) -> None:
        # wherever the peak is, correlations that far from it must be left to measure the noise with
        if not 1 <= self.far <= self.reach:
            raise SettingsError(f"far must be between 1 and reach; got far {self.far} and reach {self.reach}")


@dataclass(frozen=True, slots=True)
class Lag:
    """An estimate."""

    frames: int  # by which the sound is late; negative is early
    z: float  # how far the peak stands above the correlations at other lags, in their standard deviations
    correlation: float  # at the peak
    seconds: float  # of good frames that were looked at


def expected_aperture(mono: Tensor, frames: int, fps: float) -> Tensor:
    """Mouth opening, of shape [T], predicted from 16 kHz sound of shape [N] alone; it has no unit."""
    speech = analyse(log_mel(mono * analysis_gain(mono)))
    opening = speech.opening * (1 - speech.closure)
    return sample_rows(opening[:, None], mel_position(frames, fps))[:, 0]


def estimate_lag(
    expected: Tensor, aperture: Tensor, valid: Tensor, fps: float, settings: LagSettings = LagSettings()
) -> Lag:
    """The lag at which two curves of shape [T] agree best.

    Args:
        expected: [T] of `expected_aperture`.
        aperture: [T] as tracked.
        valid: [T] bool, frames of `aperture` that count.
        fps: frames per second.
        settings: how.
    """
    # Mood and posture open the mouth slowly, without the sound: they would correlate at every lag.
    sigma = settings.trend_s * fps
    expected, aperture = (curve - blur_rows(curve[:, None], sigma)[:, 0] for curve in (expected, aperture))
    lags = torch.arange(-settings.reach, settings.reach + 1)
    scores = torch.stack([correlation_at(expected, aperture, valid, int(lag)) for lag in lags])
    peak = int(scores.argmax())
    # The noise level is that of lags which cannot be right; those beside the peak are high because curves are smooth.
    others = scores[(lags - lags[peak]).abs() >= settings.far]
    z = (scores[peak] - others.mean()) / others.std().clamp(min=1e-6)
    return Lag(int(lags[peak]), float(z), float(scores[peak]), float(valid.sum()) / fps)


def correlation_at(expected: Tensor, observed: Tensor, valid: Tensor, lag: int) -> Tensor:
    """Pearson's r of expected[t + lag] and observed[t], of shape [T], over the valid frames that have both."""
    if abs(lag) >= len(observed):
        return observed.new_zeros(())
    first, last = max(0, -lag), min(len(observed), len(observed) - lag)
    keep = valid[first:last]
    a, b = expected[first + lag : last + lag][keep], observed[first:last][keep]
    if len(a) < 2:
        return observed.new_zeros(())
    a, b = a - a.mean(), b - b.mean()
    correlation: Tensor = (a @ b) / (a.norm() * b.norm()).clamp(min=1e-9)
    return correlation


def shift_of(lag: Lag, settings: LagSettings = LagSettings()) -> tuple[int, str]:
    """Decide by an estimate: frames to move the sound forward by, and the reason to leave the clip out, or ""."""
    # First of all: the sound of another speaker has a best lag too, but shifting by it would not help.
    if lag.seconds >= settings.telling_s and lag.correlation < settings.least_correlation:
        return 0, f"sound out of sync: it does not follow the lips (r = {lag.correlation:.2f})"
    sure = lag.z >= settings.sure_z and lag.seconds >= settings.sure_s
    if not sure or abs(lag.frames) <= settings.tolerated:
        return 0, ""
    if abs(lag.frames) > settings.furthest_shift:
        return 0, f"sound out of sync: it is {lag.frames:+d} frames late"
    return lag.frames, ""


def shift_sound(shard: Shard, frames: float) -> Shard:
    """The clip with its sound [N] moved forward by `frames`; the gap at the end is filled with silence."""
    # Whole samples, each 1/640 of a frame: finer than any estimate.
    late = round(frames * SAMPLES_PER_FRAME)
    return replace(shard, waveform=F.pad(shard.waveform, (-late, late)))  # negative padding cuts off


def estimate_lags(expected: Sequence[Tensor], shards: Sequence[Shard], reach: int = 5) -> list[float]:
    """Remaining delay of the sound of each clip, in frames, for the clips of one speaker.

    Short clips of one recording share its delay, clips from different sources do not: the correlations of a clip count
    by its frames, those of all the speaker's clips together as `SHARED_WEIGHT` frames more.

    Args:
        expected: aperture, of shape [T], predicted from the sound of each clip.
        shards: the clips, with their observed apertures.
        reach: frames either way.

    Returns:
        A number of frames each, between frames too: the top of the parabola through the peak.
    """
    lags = range(-reach, reach + 1)
    rows = []
    for curve, shard in zip(expected, shards, strict=True):
        valid = shard.valid.bool()
        rows.append(torch.stack([correlation_at(curve, shard.aperture, valid, lag) for lag in lags]))
    count = torch.tensor([float(shard.frames) for shard in shards])
    shared = (torch.stack(rows) * count[:, None]).sum(0) / count.sum()
    # the expected curve has the timing of the sound, so its delay against the observed curve is that of the sound
    return [_peak(n * row + SHARED_WEIGHT * shared) - reach for row, n in zip(rows, count, strict=True)]


def _peak(scores: Tensor) -> float:
    """Position of the highest score of shape [N], interpolated by a parabola where it has two neighbours."""
    top = int(scores.argmax())
    if not 0 < top < len(scores) - 1:
        return float(top)
    left, middle, right = scores[top - 1 : top + 2].tolist()
    # Between frames too, because a delay is rarely a whole number of them.
    return float(top + 0.5 * (left - right) / (left - 2 * middle + right))
