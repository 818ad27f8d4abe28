"""Head motion and upper face of the shards, scaled to be comparable between speakers, and random windows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...audio.encoder import mel_windows
from ...audio_to_mesh.pose_codebook import HEAD
from ...geometry import rotation_angles, rotation_matrix
from ...time_grid import sample_rows
from ..sampling import speaker_weights
from .motion_shard import FPS, Shard, encode_shard

# Pitch, yaw, roll, x, y, z and the upper face, which is the mean of both sides: in a mirror yaw, roll and x change
# their sign.
MIRROR = torch.tensor((1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0))
# Degrees per second; above it is a cut or a tracking error.
FASTEST = 250.0
# Degrees from rest, where a side of the face begins to hide and tracking becomes unreliable.
FARTHEST = 40.0


@dataclass(frozen=True, eq=False, slots=True)
class PoseClip:
    """A stretch of T frames with the tracked head of one speaker."""

    name: str
    identity: str
    pose: Tensor  # [T, C] head and upper face relative to rest, in units of `scales` · `gains`
    gains: Tensor  # [C] amplitude of this speaker's head and of its upper face; 1 = the average of `scales`
    features: Tensor | None  # [T, 320] of the sound; None if there is none
    id_coefficients: Tensor  # [I] α

    @property
    def gain(self) -> float:
        """Amplitude of the head."""
        return float(self.gains[0])


@dataclass(frozen=True, slots=True)
class PoseAugmentation:
    """How windows of head motion are augmented."""

    slowest: float = 0.8  # of the original speed
    fastest: float = 1.25
    smallest: float = 0.7  # of the original amplitude
    largest: float = 1.4
    uneven: float = 1.5  # largest factor between a channel and the others
    mirror: float = 0.5  # share of windows
    reverse: float = 0.5  # share of windows that run backwards; only for what has no sound


def relative_to_rest(rotation: Tensor, translation: Tensor) -> Tensor:
    """Absolute pose [T, 3] and [T, 3] → [T, 6] relative to the clip's median pose, rad and model units."""
    # The median, because a long look aside would pull a mean to it.
    rest = rotation_matrix(rotation.median(0).values)
    turned = rotation_angles(rotation_matrix(rotation) @ rest.T)
    return torch.cat((turned, translation - translation.median(0).values), 1)


def pose_clips(
    shards: Sequence[Shard], scales: Sequence[float], least_gain: float, least_s: float, sound: bool = False
) -> list[PoseClip]:
    """The usable stretches of head motion of shards, by name.

    Args:
        shards: of `load_shards`.
        scales: [C] standard deviations of an average speaker: rad, model units and IOD.
        least_gain: lower bound of the gains: below it the motion is mostly tracking noise, which would be amplified.
        least_s: seconds of a stretch.
        sound: take only clips that have sound, and its features.
    """
    found = []
    for shard in shards:
        if not shard.has_pose or (sound and not len(shard.waveform)):
            continue
        found += _stretches(shard, torch.tensor(scales), least_gain, round(least_s * FPS), sound)
    return found


def _stretches(shard: Shard, scales: Tensor, least_gain: float, least: int, sound: bool) -> list[PoseClip]:
    """The stretches of a shard that have at least `least` frames; `scales` is of shape [C]."""
    valid = shard.valid.bool()
    if valid.sum() < least:
        return []
    pose = relative_to_rest(shard.rotation[valid], shard.translation[valid])
    # Each speaker at its own amplitude, so that the codes describe how a head moves and not how much.
    gains = [max(least_gain, activity(pose, scales))] * HEAD
    face = shard.upper_face[valid]
    gains += [max(least_gain, float(face[:, 0].std() / scales[HEAD]))] * face.shape[1]
    curves = torch.cat((pose, face - face.median(0).values), 1) / (scales * torch.tensor(gains))
    index = valid.nonzero()[:, 0]
    features = mel_windows(encode_shard(shard).mel, shard.frames, FPS)[index] if sound else None
    # a stretch ends where a frame was left out, and where the head is too far or too fast to be tracked reliably
    degrees = pose[:, :3].rad2deg()
    fine = degrees.abs().amax(1) < FARTHEST
    step = torch.cat((torch.zeros(1), degrees.diff(dim=0).abs().amax(1))) * FPS < FASTEST
    breaks = torch.cat((torch.ones(1, dtype=torch.bool), index.diff() > 1)) | ~step
    number = (breaks | ~fine).cumsum(0)
    parts = [((number == n) & fine).nonzero()[:, 0] for n in sorted(set(number.tolist()))]
    return [
        PoseClip(
            shard.name,
            shard.identity,
            curves[part],
            torch.tensor(gains),
            None if features is None else features[part],
            shard.id_coefficients,
        )
        for part in parts
        if len(part) >= least
    ]


def activity(pose: Tensor, scales: Tensor) -> float:
    """Rotation amplitude relative to an average speaker: pose [T, 6] in rad and model units, `scales` [6]."""
    return float((pose[:, :3].std(0) / scales[:3]).square().mean().sqrt())


def clip_weights(clips: Sequence[PoseClip], balance: float, liveliness: float) -> Tensor:
    """Sampling weights of clips, of shape [C].

    Args:
        clips: C clips.
        balance: exponent of a speaker's frames; 0 = all speakers alike, 1 = all frames alike.
        liveliness: exponent of the gain, for heads that move less than the average.
    """
    # Motion of a head that hardly moves is mostly tracking noise, which the division by its gain has enlarged.
    by_gain = torch.tensor([min(1.0, clip.gain) ** liveliness for clip in clips])
    return speaker_weights([(clip.identity, len(clip.pose)) for clip in clips], balance) * by_gain


def draw_window(
    clip: PoseClip, frames: int, augmentation: PoseAugmentation, generator: Generator
) -> tuple[Tensor, Tensor | None, Tensor]:
    """A random, varied window of T = `frames` of a clip: pose [T, C], features [T, 320] or None, inside [T] bool.

    Past the end of a short clip the last pose is repeated; `inside` is False there.
    """
    # All five are drawn, used or not: the numbers that follow are then the same for clips with sound and without.
    speed, place, mirror, reverse, size = torch.rand(5, generator=generator).tolist()
    # Between the two factors evenly in their logarithm: half and twice the speed are equally strong changes.
    step = augmentation.slowest * (augmentation.fastest / augmentation.slowest) ** speed
    last = len(clip.pose) - 1
    position = place * max(0.0, last - (frames - 1) * step) + step * torch.arange(frames, dtype=torch.float64)
    pose = sample_rows(clip.pose, position)
    pose = pose * (augmentation.smallest * (augmentation.largest / augmentation.smallest) ** size)
    # Each channel by a factor of its own, because how nodding relates to turning differs between people.
    pose = pose * augmentation.uneven ** (2 * torch.rand(pose.shape[1], generator=generator) - 1)
    if mirror < augmentation.mirror:
        pose = pose * MIRROR
    if clip.features is not None:
        return pose, sample_rows(clip.features, position), position <= last
    # Only without sound, because speech that runs backwards is none.
    if reverse < augmentation.reverse:
        pose = pose.flip(0)
    return pose, None, position <= last
