"""Head motion without learning: still, idle sway, and motion from other clips fitted to the length of a clip.

What they give is `HeadMotion`, on top of the portrait's own pose: zero is the portrait as it is.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio.speech import analyse, speaking_and_stress
from ..errors import MismatchError, SettingsError
from ..filters import smoothstep
from ..geometry import rotation_angles, rotation_matrix
from ..structures import MEL_RATE, AudioFeatures, HeadMotion, HeadPose
from ..time_grid import check_fps, sample_rows
from .resample import retime_pose

logger = logging.getLogger("vividtalk")


@dataclass(frozen=True, slots=True)
class SwaySettings:
    """The random motion of a head that no other source moves."""

    limits_deg: tuple[float, float, float] = (3.0, 4.0, 2.0)  # pitch, yaw, roll at amplitude 1
    slowest_hz: float = 0.06
    fastest_hz: float = 2.4  # heads of talking people have their energy below 3 Hz
    partials: int = 12  # sinusoids per angle, spaced evenly in octaves
    slope: float = 1.1  # amplitude falls as 1 / frequency^slope: most energy below 1 Hz
    ease_in_s: float = 0.7  # from the portrait's own pose
    pivot: tuple[float, float, float] = (0.0, -1.1, -0.3)  # model units; heads turn about the neck, not the ears
    nod_deg: float = 2.5  # downwards on the strongest accent of speech, at amplitude 1
    quiet_share: float = 0.6  # of the sway that is left where nobody speaks


def still_pose(frames: int, fps: float) -> HeadMotion:
    """No motion, zeros [T, 3] for T = `frames`: the portrait's own pose."""
    return HeadMotion(torch.zeros(frames, 3), torch.zeros(frames, 3), check_fps(fps))


def idle_pose(
    frames: int,
    fps: float,
    seed: int,
    amplitude: float = 1.0,
    features: AudioFeatures | None = None,
    settings: SwaySettings = SwaySettings(),
) -> HeadMotion:
    """Seeded, band-limited sway that starts from the portrait's own pose.

    A pure function of seed and time: a longer clip begins exactly like a shorter one, at any frame rate.

    Args:
        frames: T.
        fps: frames per second.
        seed: of the random frequencies and phases.
        amplitude: 1 = up to about ±3° pitch, ±4° yaw, ±2° roll; 0 = still.
        features: speech, for nods on its accents; None for sway alone.
        settings: frequencies and limits.

    Returns:
        Rotation [T, 3] and translation [T, 3], zero at the first frame.

    Raises:
        SettingsError: amplitude or frame rate out of range.
    """
    if amplitude < 0 or not math.isfinite(amplitude):
        raise SettingsError(f"the amplitude of the sway must be 0 or more; got {amplitude}.")
    # in double precision: after an hour, neighbouring float32 numbers are a quarter of a millisecond apart
    seconds = torch.arange(frames, dtype=torch.float64) / check_fps(fps)
    angles = torch.tensor(settings.limits_deg, dtype=torch.float64).deg2rad() * _sway(seconds, seed, settings)
    if features is not None:
        speaking, nods = _speech_drive(features, frames, fps)
        angles = angles * (settings.quiet_share + (1 - settings.quiet_share) * speaking)[:, None]
        # positive pitch is downwards (`geometry`)
        angles[:, 0] += math.radians(settings.nod_deg) * nods
    ease = smoothstep(seconds / settings.ease_in_s)
    rotation = angles * (amplitude * ease)[:, None]
    pivot = torch.tensor(settings.pivot, dtype=torch.float64)
    # R·(x − p) + p = R·x + (p − R·p): a turn about the neck as a turn about the origin
    translation = pivot - rotation_matrix(rotation) @ pivot
    return HeadMotion(rotation.float(), translation.float(), float(fps))


def _sway(seconds: Tensor, seed: int, settings: SwaySettings) -> Tensor:
    """[T, 3] within −1..1 at the times [T] in s: sums of sinusoids, limited by tanh."""
    generator = torch.Generator().manual_seed(seed)
    octaves = math.log2(settings.fastest_hz / settings.slowest_hz)
    step = (torch.arange(settings.partials) + torch.rand(3, settings.partials, generator=generator)) / settings.partials
    # a random frequency within each step, so that seeds differ in more than their phases
    hertz = settings.slowest_hz * 2 ** (octaves * step.double())  # [3, K]
    phase = 2 * math.pi * torch.rand(3, settings.partials, generator=generator).double()
    # flat below four times the slowest frequency: else the slowest wave would have about half of the power
    weight = hertz.clamp(min=4 * settings.slowest_hz) ** -settings.slope
    weight = weight / weight.square().sum(-1, keepdim=True).sqrt()
    waves = torch.sin(2 * math.pi * hertz * seconds[:, None, None] + phase) * weight  # [T, 3, K], variance 1/2 in sum
    # a smooth limit: at a hard one the head would stop with a jolt
    return torch.tanh(0.75 * waves.sum(-1))


def _speech_drive(features: AudioFeatures, frames: int, fps: float) -> tuple[Tensor, Tensor]:
    """[T] how much of the time around a frame is speech, and [T] nods, both 0..1 and smooth."""
    curves = torch.stack(speaking_and_stress(analyse(features.mel).level), -1).double()  # [M, 2]
    rows = sample_rows(curves, torch.arange(frames, dtype=torch.float64) * (MEL_RATE / fps))
    return rows[:, 0], rows[:, 1]


def relative_to_frame(pose: HeadPose, frame: int = 0) -> HeadMotion:
    """An absolute pose [T, 3] as motion [T, 3] from one of its frames f: R_t · R_f⁻¹, and the translations' difference.

    Raises:
        MismatchError: the pose has 0 frames.
    """
    if not pose.frame_count:
        raise MismatchError("the head pose has 0 frames.")
    start = slice(frame, frame + 1)
    rotation = rotation_matrix(pose.rotation)
    angles = rotation_angles(rotation @ rotation[start].transpose(1, 2))
    angles[start] = 0  # exactly: rounding must not move the portrait
    return HeadMotion(angles, pose.translation - pose.translation[start], pose.fps)


def fit_to_length(pose: HeadMotion, frames: int, fps: float, loop: bool = True) -> HeadMotion:
    """A pose of any length and frame rate for a clip of `frames` frames at `fps`.

    It is resampled to `fps`; what is too long is cut; what is too short is played forwards and backwards (no jump), or
    holds its last frame if `loop` is False. What was done is logged.

    Returns:
        Rotation [T, 3] and translation [T, 3], T = `frames`.

    Raises:
        SettingsError: `frames` below 1, or a frame rate out of range.
        MismatchError: the pose has 0 frames.
    """
    if frames < 1:
        raise SettingsError(f"a clip has at least 1 frame; got {frames}.")
    if not pose.frame_count:
        raise MismatchError("the head pose has 0 frames.")
    if abs(pose.fps - fps) > 1e-3:
        logger.warning("The head motion is resampled from %g to %g fps.", pose.fps, fps)
        pose = retime_pose(pose, fps)
    found = pose.frame_count
    if found != frames:
        longer = "played forwards and backwards to fill" if loop else "held on its last frame to fill"
        change = "cut to" if found > frames else longer
        logger.warning("The head motion has %d frames at %g fps; it is %s the clip's %d.", found, fps, change, frames)
    index = torch.arange(frames)
    if loop and found > 1:
        # 0 … n−1 … 1: neither end is used for two frames in a row
        index = index % (2 * found - 2)
        index = torch.minimum(index, 2 * found - 2 - index)
    index = index.clamp(max=found - 1)
    return HeadMotion(pose.rotation[index], pose.translation[index], float(fps))
