"""An observed clip at 25 frames per second with its sound: the input of the calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...audio.waveform import to_mono_16k
from ...face.track import odd_frames, smooth
from ...head.mouth_shape import aperture_of_landmarks, width_of_landmarks
from ...head.upper_face import upper_face_of_landmarks
from ...motion.resample import frame_positions
from ...structures import ARKIT_NAMES, Audio, MorphableModel, check_shapes
from ...time_grid import sample_rows
from ...video.reader import read_video
from ..dataset.motion_shard import FPS, SAMPLES_PER_FRAME, curve_shapes
from .av_offset import Lag, LagSettings, estimate_lag, expected_aperture
from .frame_filter import FrameSettings, bad_frames
from .tracks import ClipTrack

# Window of the quadratic that smooths the upper face: that of the head pose, because brows are as slow as the head and
# their landmarks as noisy.
UPPER_FACE_S = 0.36


@dataclass(frozen=True, eq=False, slots=True)
class Observation:
    """T frames of one clip, not calibrated."""

    coefficients: Tensor  # [T, E] β
    lip_offsets: Tensor  # [T, L, 3] model units
    rotation: Tensor  # [T, 3] rad, absolute
    translation: Tensor  # [T, 3] model units
    aperture: Tensor  # [T] IOD
    width: Tensor  # [T] IOD
    upper_face: Tensor  # [T, 3] IOD from rest
    bad: dict[str, Tensor]  # reason → [T] bool
    id_coefficients: Tensor  # [I] α
    sound: Tensor  # [N] float32 at 16 kHz, as it lies in the file; N = 0 without sound
    has_pose: bool = True
    has_offsets: bool = True
    known: tuple[str, ...] = ARKIT_NAMES  # coefficients that were observed

    def __post_init__(self) -> None:
        check_shapes(
            **curve_shapes(self),
            aperture=(self.aperture, "T"),
            width=(self.width, "T"),
            upper_face=(self.upper_face, "T 3"),
            sound=(self.sound, "N"),
        )

    @property
    def valid(self) -> Tensor:
        """The good frames, bool of shape [T]."""
        return ~torch.stack([torch.zeros(len(self.aperture), dtype=torch.bool), *self.bad.values()]).any(0)


def observe_video(video: Path, track: ClipTrack, model: MorphableModel, settings: FrameSettings) -> Observation:
    """A tracked video with its sound, at 25 frames per second."""
    aperture = aperture_of_landmarks(track.landmarks)
    bad = bad_frames(track, aperture, settings)
    upper_face = upper_face_of_landmarks(track.landmarks, track.rotation, track.coefficients, track.identity, model)
    observation = Observation(
        coefficients=track.coefficients,
        lip_offsets=track.lip_offsets.float(),
        rotation=track.rotation,
        translation=track.translation,
        aperture=aperture,
        width=width_of_landmarks(track.landmarks),
        upper_face=smooth(upper_face, odd_frames(UPPER_FACE_S, track.fps)),
        bad=bad,
        id_coefficients=track.identity,
        sound=sound_of(read_video(video).audio),
    )
    return retimed(observation, track.fps)


def sound_of(audio: Audio | None) -> Tensor:
    """Mono sound, of shape [N], at 16 kHz of a waveform [C, M] and its rate; N = 0 if there is none, or silence."""
    # Digital silence is no sound: it would teach that speech is silent.
    if audio is None or audio.waveform.numel() == 0 or not audio.waveform.any():
        return torch.zeros(0)
    return to_mono_16k(audio.waveform, audio.sample_rate)


def retimed(observation: Observation, fps: float) -> Observation:
    """An observation at `fps` brought to 25; a frame between a good and a bad one is bad."""
    position = frame_positions(len(observation.aperture), fps, FPS)

    def rows(values: Tensor) -> Tensor:
        """[T, ...] to [T', ...]."""
        return sample_rows(values.flatten(1) if values.ndim > 1 else values[:, None], position).view(
            -1, *values.shape[1:]
        )

    return replace(
        observation,
        coefficients=rows(observation.coefficients),
        lip_offsets=rows(observation.lip_offsets),
        rotation=rows(observation.rotation),
        translation=rows(observation.translation),
        aperture=rows(observation.aperture),
        width=rows(observation.width),
        upper_face=rows(observation.upper_face),
        # Interpolated between a good and a bad frame, a value is half bad: anything above 0 counts.
        bad={why: rows(bad.float()) > 0 for why, bad in observation.bad.items()},
    )


def lag_of(observation: Observation, settings: LagSettings) -> Lag | None:
    """How late the sound is; None without sound."""
    if not len(observation.sound):
        return None
    expected = expected_aperture(observation.sound, len(observation.aperture), FPS)
    return estimate_lag(expected, observation.aperture, observation.valid, FPS, settings)


def aligned_sound(sound: Tensor, frames: int, lag: int) -> Tensor:
    """int16 samples of shape [640·frames] of a sound of shape [N] that comes `lag` frames late; [0] stays [0]."""
    if not len(sound):
        return torch.zeros(0, dtype=torch.int16)
    late, count = lag * SAMPLES_PER_FRAME, frames * SAMPLES_PER_FRAME
    # Negative padding removes samples. The end is cut or filled with silence to whole frames.
    moved = F.pad(sound, (-late, late + count - len(sound)))
    return (moved.clamp(-1, 1) * 32767).round().to(torch.int16)
