"""How late the sound of a clip comes: what the sound says about the mouth against what the picture shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio.encoder import mel_position
from ..audio.mel import log_mel, sample_rows
from ..audio.speech import analyse
from ..audio.waveform import analysis_gain
from ..audio_to_mesh.edit import gaussian


@dataclass(frozen=True, slots=True)
class LagSettings:
    """How lags are estimated and what follows from them."""

    reach: int = 12  # frames either way
    trend_s: float = 0.8  # σ of what is taken off both curves: slower changes are mood and posture
    far: int = 4  # frames from the peak from where correlations tell how high chance reaches
    # Parts of clips against the whole: from 5 s on and with z ≥ 3 no estimate was off by more than a frame (n = 71). Of
    # 3 s clips that are in sync one in ten seems to be off by several, and with z ≥ 4 still one in sixty.
    sure_z: float = 3.0  # from which an estimate is acted on
    sure_s: float = 4.5  # of good frames
    tolerated: int = 1  # frames that are left as they are: the estimate is half a frame early on clips in sync
    furthest_shift: int = 8  # frames; what is further off is another edit, not a delay
    # Over 10 s, sound of somebody else reaches 0.22 at its best lag and the right one 0.34 and more.
    telling_s: float = 10.0  # of good frames from which a low correlation tells
    least_correlation: float = 0.25  # at the best lag, below which the sound is somebody else's


@dataclass(frozen=True, slots=True)
class Lag:
    """An estimate."""

    frames: int  # by which the sound is late; negative is early
    z: float  # how far the peak stands above the correlations at other lags, in their standard deviations
    correlation: float  # at the peak
    seconds: float  # of good frames that were looked at


def expected_aperture(mono: Tensor, frames: int, fps: float) -> Tensor:
    """How far a mouth is open [T] by the sound [N] at 16 kHz alone, no unit."""
    speech = analyse(log_mel(mono * analysis_gain(mono)))
    opening = speech.opening * (1 - speech.closure)
    return sample_rows(opening[:, None], mel_position(frames, fps))[:, 0]


def estimate_lag(
    expected: Tensor, aperture: Tensor, valid: Tensor, fps: float, settings: LagSettings = LagSettings()
) -> Lag:
    """The lag at which two curves agree best.

    Args:
        expected: [T] of `expected_aperture`.
        aperture: [T] as tracked.
        valid: [T] bool, frames of `aperture` that count.
        fps: frames per second.
        settings: how.
    """
    sigma = settings.trend_s * fps
    heard, seen = (curve - gaussian(curve[:, None], sigma)[:, 0] for curve in (expected, aperture))
    lags = torch.arange(-settings.reach, settings.reach + 1)
    scores = torch.stack([_correlation(heard, seen, valid, int(lag)) for lag in lags])
    peak = int(scores.argmax())
    others = scores[(lags - lags[peak]).abs() >= settings.far]
    z = (scores[peak] - others.mean()) / others.std().clamp(min=1e-6)
    return Lag(int(lags[peak]), float(z), float(scores[peak]), float(valid.sum()) / fps)


def _correlation(heard: Tensor, seen: Tensor, valid: Tensor, lag: int) -> Tensor:
    """Pearson's r of heard[t + lag] and seen[t] over the valid frames that have both."""
    if abs(lag) >= len(seen):
        return seen.new_zeros(())
    first, last = max(0, -lag), min(len(seen), len(seen) - lag)
    keep = valid[first:last]
    a, b = heard[first + lag : last + lag][keep], seen[first:last][keep]
    if len(a) < 2:
        return seen.new_zeros(())
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / (a.norm() * b.norm()).clamp(min=1e-9)


def shift_of(lag: Lag, settings: LagSettings = LagSettings()) -> tuple[int, str]:
    """What follows from an estimate: frames to move the sound forward by, and why the clip is left out, or ""."""
    if lag.seconds >= settings.telling_s and lag.correlation < settings.least_correlation:
        return 0, f"sound out of sync: it does not follow the lips (r = {lag.correlation:.2f})"
    sure = lag.z >= settings.sure_z and lag.seconds >= settings.sure_s
    if not sure or abs(lag.frames) <= settings.tolerated:
        return 0, ""
    if abs(lag.frames) > settings.furthest_shift:
        return 0, f"sound out of sync: it is {lag.frames:+d} frames late"
    return lag.frames, ""
