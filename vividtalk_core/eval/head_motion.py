"""Metrics of head motion: how much, how smoothly, how varied, and whether it follows the speech.

Angles are in rad and speeds in degrees per second. A value is natural if it is near the same metric of real speakers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.encoder import mel_position
from ..errors import SettingsError
from ..filters import blur_rows, gaussian
from ..structures import MEL_RATE, HeadTrajectory
from ..time_grid import sample_rows

# Of beat alignment, as papers on co-speech motion use it.
BEAT_SIGMA_S = 0.1
# Syllables come at 3 to 6 a second: peaks nearer to each other belong to one.
BEAT_APART_S = 0.2
# Mel frames, so that noise in single frames is not counted as an onset.
ONSET_BLUR = 2.0
# Smooths syllables away but keeps phrases: heads follow stress, not every vowel.
FOLLOW_SIGMA_S = 0.16
STILL = 1e-6  # standard deviation of a curve that does not move


def diversity(pose: HeadTrajectory) -> float:
    """Standard deviation of the angles over time in degrees, mean of pitch, yaw and roll."""
    return float(pose.rotation.std(0).mean().rad2deg())


def energy_below(pose: HeadTrajectory, hertz: float = 3.0) -> float:
    """Share 0..1 of the variance of the angles that lies below a frequency; 1 for a head that does not move."""
    # Without the mean, which is the direction of the head and not its motion.
    angles = pose.rotation.double() - pose.rotation.double().mean(0)
    # Without a window the jump between the last and the first angle would count as high frequencies.
    window = torch.hann_window(len(angles), periodic=False, dtype=angles.dtype)[:, None]
    power = torch.fft.rfft(angles * window, dim=0).abs().square().sum(1)
    low = torch.fft.rfftfreq(len(angles), 1 / pose.fps) < hertz
    total = float(power.sum())
    return float(power[low].sum()) / total if total > 0 else 1.0


def speed(pose: HeadTrajectory) -> Tensor:
    """Degrees per second from each frame to the next, of shape [T − 1]."""
    step: Tensor = pose.rotation.diff(dim=0).norm(dim=1)
    return step.rad2deg() * pose.fps


def reconstruction_rms(error: Tensor) -> float:
    """Root mean square in degrees over the angles of errors [T, 6] in rad and model units."""
    return float(error[:, :3].square().mean().sqrt().rad2deg())


def perplexity(codes: Tensor, count: int) -> float:
    """exp(entropy) of codes, shape [N], out of `count`: `count` if all are equally frequent, 1 if only one is used."""
    share = torch.bincount(codes.flatten(), minlength=count).double() / codes.numel()
    return float(torch.special.entr(share).sum().exp())


def audio_beats(mel: Tensor) -> Tensor:
    """Times [B] in seconds of the onsets in a natural-log mel [M, 80]: peaks of the rise in energy."""
    # Only the rise: a syllable begins where energy rises, and its end is no beat.
    rise = F.relu(mel.diff(dim=0, prepend=mel[:1])).mean(1, keepdim=True)
    onset = blur_rows(rise, ONSET_BLUR)[:, 0]
    peaks = _peaks(onset, round(BEAT_APART_S * MEL_RATE))
    return (peaks[onset[peaks] > onset.mean()] + 0.5) / MEL_RATE


def motion_beats(pose: HeadTrajectory) -> Tensor:
    """Times in seconds, shape [B], at which the head pauses or turns back: the minima of its speed."""
    # Smoothed over neighbouring frames, because the noise of tracking has minima of its own.
    slow = -blur_rows(speed(pose)[:, None], 1.0)[:, 0]
    return (_peaks(slow, max(1, round(BEAT_APART_S / 2 * pose.fps))) + 1.0) / pose.fps


def _peaks(curve: Tensor, apart: int) -> Tensor:
    """Indices of the values of a curve, shape [T], that are the largest within ± `apart`, without the ends."""
    largest = F.max_pool1d(curve[None, None], 2 * apart + 1, 1, apart)[0, 0]
    inner = (curve == largest) & (curve > curve.min())
    # At the ends it is not known whether the curve would go on rising.
    inner[:1] = inner[-1:] = False
    return inner.nonzero()[:, 0]


def beat_alignment(pose: HeadTrajectory, mel: Tensor) -> float:
    """Mean over the beats of the sound (mel [M, 80]) of exp(−d²/2σ²), d to the nearest beat of the head, σ 0.1 s."""
    onsets, pauses = audio_beats(mel), motion_beats(pose)
    if not len(onsets) or not len(pauses):
        return 0.0
    distance = (onsets[:, None] - pauses).abs().amin(1)
    return float(gaussian(distance, BEAT_SIGMA_S).mean())


def follows_loudness(pose: HeadTrajectory, mel: Tensor) -> float:
    """Correlation −1..1 of the head's speed with the loudness of a natural-log mel [M, 80], both smoothed (σ 0.16 s).

    The first half second, in which a generated head starts to move from rest, does not count.
    """
    loudness = sample_rows(mel.logsumexp(-1, keepdim=True), mel_position(pose.frame_count, pose.fps))
    curves = torch.stack((speed(pose), loudness[1:, 0]), 1)  # [T − 1, 2]
    curves = blur_rows(curves, FOLLOW_SIGMA_S * pose.fps)[round(pose.fps / 2) :]
    if len(curves) < 2 or (curves.std(0) < STILL).any():
        return 0.0
    return float(torch.corrcoef(curves.T)[0, 1])


def seed_distance(poses: Sequence[HeadTrajectory]) -> float:
    """Difference of several motions: mean distance in degrees between the angles of any two, frame by frame.

    SettingsError for fewer than two.
    """
    if len(poses) < 2:
        raise SettingsError(f"a distance between seeds needs two motions or more; got {len(poses)}.")
    angles = torch.stack([pose.rotation for pose in poses]).rad2deg()  # [S, T, 3]
    # Every pair once: the distance is symmetric.
    pairs = torch.combinations(torch.arange(len(angles)))
    return float((angles[pairs[:, 0]] - angles[pairs[:, 1]]).square().mean(-1).sqrt().mean())
