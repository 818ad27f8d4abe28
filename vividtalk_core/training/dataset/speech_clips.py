"""Clips of sound with the motion that belongs to it, from the shards of `train prepare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ...audio.encoder import encode_audio
from ...audio.phones import read_phones
from ...audio_to_mesh.articulation import feature_rows
from ...audio_to_mesh.expression import LIP_NAMES, OTHER_NAMES, PHONES, ExpressionConfig
from ...structures import ARKIT_NAMES, SAMPLE_RATE
from ..augment.speech import SpeechAugmentation, augment_speech, retime
from ..sampling import between
from .motion_shard import Shard

# By which the level of an augmented soundtrack differs from that to which `encode_audio` brings it.
LOUDER_DB = (-3.0, 3.0)
NO_PHONE = -1  # label of frames whose phone is not known
LIP_COLUMNS = [ARKIT_NAMES.index(name) for name in LIP_NAMES]
OTHER_COLUMNS = [ARKIT_NAMES.index(name) for name in OTHER_NAMES]


@dataclass(frozen=True, eq=False, slots=True)
class MotionStatistics:
    """Statistics that make motion comparable: a basis of O_lip, mean and standard deviation of each dimension."""

    lip_basis: Tensor  # [C, L, 3] model units, orthonormal
    mean: Tensor  # [M] of lip coefficients, other coefficients and components of O_lip in a row
    std: Tensor  # [M]
    ranges: dict[str, float]  # identity → range of its aperture relative to the median speaker


@dataclass(frozen=True, eq=False, slots=True)
class SpeechClip:
    """One clip of T frames, as training draws windows from it."""

    name: str
    identity: str
    features: tuple[Tensor, ...]  # [T, D] float16 each: the clip as it is, then augmented
    motion: tuple[Tensor, ...]  # [T, M] standardised motion for each of the features, whose tempo may differ
    phones: tuple[Tensor, ...]  # [T] int64 into PHONES, NO_PHONE where unknown
    valid: tuple[Tensor, ...]  # [T] bool, frames whose motion counts
    id_coefficients: Tensor  # [I] α
    known: Tensor  # [M] bool, dimensions of the motion that were observed


def mouth_range(shards: Sequence[Shard]) -> float:
    """Range of a speaker's aperture in IOD: the 95th percentile minus the 10th, over all its clips."""
    aperture = torch.cat([shard.aperture[shard.valid.bool()] for shard in shards])
    # Not the extremes, which may be tracking errors.
    return float(aperture.quantile(0.95) - aperture.quantile(0.1))


def by_identity(shards: Sequence[Shard]) -> dict[str, list[Shard]]:
    """The clips of each speaker."""
    groups: dict[str, list[Shard]] = {}
    for shard in shards:
        groups.setdefault(shard.identity, []).append(shard)
    return groups


def measure_motion(shards: Sequence[Shard], components: int, range_share: float) -> MotionStatistics:
    """Statistics of training clips; every speaker counts by the square root of its frames.

    Args:
        shards: clips with lip offsets.
        components: C of the basis of O_lip.
        range_share: exponent with which a speaker's range is divided out: 1 = all open equally wide, 0 = no change.
    """
    groups = by_identity(shards)
    ranges = {identity: mouth_range(clips) for identity, clips in groups.items()}
    # Relative to the median speaker, so that the average mouth keeps its size.
    middle = float(torch.tensor(list(ranges.values())).median())
    ranges = {identity: (value / middle) ** range_share for identity, value in ranges.items()}
    frames, offsets, weights = [], [], []
    for identity, clips in groups.items():
        valid = [clip.valid.bool() for clip in clips]
        rows = torch.cat([clip.coefficients[v] for clip, v in zip(clips, valid, strict=True)]) / ranges[identity]
        lips = torch.cat([clip.lip_offsets[v].float() for clip, v in zip(clips, valid, strict=True)]) / ranges[identity]
        frames.append(rows[:, LIP_COLUMNS + OTHER_COLUMNS])
        offsets.append(lips.flatten(1))
        # n frames of weight 1/√n weigh √n together: a speaker with many clips must not define the mean face alone.
        weights.append(torch.full((len(rows),), len(rows) ** -0.5))
    weight = torch.cat(weights)[:, None]
    basis = _principal_axes(torch.cat(offsets), weight, components)
    motion = torch.cat((torch.cat(frames), torch.cat(offsets) @ basis.T), 1)
    mean = (weight * motion).sum(0) / weight.sum()
    std = ((weight * (motion - mean).square()).sum(0) / weight.sum()).sqrt()
    # A dimension that never moves has the standard deviation 0, by which targets are divided: hence the lower bound.
    return MotionStatistics(basis.reshape(len(basis), -1, 3), mean, std.clamp(min=1e-4), ranges)


def _principal_axes(rows: Tensor, weight: Tensor, count: int) -> Tensor:
    """[C, K] principal directions of weighted rows [N, K] about zero, not about the mean: zero is the lips at rest."""
    scatter = (rows * weight).T @ rows / weight.sum()
    # In double precision, because the small eigenvalues are lost beside the large ones; in ascending order, hence the
    # flip.
    vectors: Tensor = torch.linalg.eigh(scatter.double()).eigenvectors
    return vectors.flip(1)[:, :count].T.float()


def standardise(shard: Shard, statistics: MotionStatistics, speaker_range: float) -> Tensor:
    """[T, M] standardised motion of a clip, as the networks predict it."""
    components = shard.lip_offsets.float().flatten(1) @ statistics.lip_basis.flatten(1).T
    coefficients = shard.coefficients[:, LIP_COLUMNS + OTHER_COLUMNS]
    return (torch.cat((coefficients, components), 1) / speaker_range - statistics.mean) / statistics.std


def phone_labels(path: Path, frames: int, fps: float) -> Tensor:
    """The phone of each frame, of shape [T], from a file of `audio.phones`; NO_PHONE if there is none."""
    labels = torch.full((frames,), NO_PHONE)
    if not path.is_file():
        return labels
    for phone in read_phones(path):
        if phone.name in PHONES:
            labels[round(phone.start_s * fps) : round(phone.end_s * fps)] = PHONES.index(phone.name)
    return labels


@dataclass(frozen=True, slots=True)
class SoundtrackSettings:
    """How soundtracks become features, and how many augmented ones there are."""

    config: ExpressionConfig  # of the network: which features, and at what frame rate
    encoder: str  # of `encode_audio`
    variants: int = 0  # augmented soundtracks of every clip


class Variants(NamedTuple):
    """The soundtracks of a clip with the motion that follows each of them; see `SpeechClip`."""

    features: tuple[Tensor, ...]  # [T, D] float16 each
    motion: tuple[Tensor, ...]  # [T, M] each
    phones: tuple[Tensor, ...]  # [T] int64 each
    valid: tuple[Tensor, ...]  # [T] bool each


def make_clip(
    shard: Shard, motion: Tensor, phones: Tensor, soundtracks: SoundtrackSettings, generator: Generator
) -> SpeechClip:
    """A clip with its augmented soundtracks; motion [T, M] and phones [T] get the tempo of each soundtrack."""
    rows = augmented_clip(shard.sound[0], motion, phones, shard.valid.bool(), soundtracks, generator)
    components = motion.shape[1] - len(LIP_COLUMNS + OTHER_COLUMNS)
    known = torch.cat((shard.known_mask[LIP_COLUMNS + OTHER_COLUMNS], torch.full((components,), shard.has_offsets)))
    return SpeechClip(
        shard.name,
        shard.identity,
        rows.features,
        rows.motion,
        rows.phones,
        rows.valid,
        shard.id_coefficients,
        known,
    )


def augmented_clip(
    sound: Tensor, motion: Tensor, phones: Tensor, valid: Tensor, soundtracks: SoundtrackSettings, generator: Generator
) -> Variants:
    """A sound [N] at 16 kHz, as it is and augmented, with motion [T, M], phones [T] and valid [T] that follow it."""
    # The clip as it was recorded stays in: augmented voices alone would shift what is learned.
    sounds = [(sound, 1.0, 0.0)]
    for _ in range(soundtracks.variants):
        other, tempo = augment_speech(sound, SpeechAugmentation(), generator)
        sounds.append((other, tempo, between(LOUDER_DB, generator)))
    rows = [_variant(*one, motion, phones, valid, soundtracks) for one in sounds]
    return Variants(
        features=tuple(row[0] for row in rows),
        motion=tuple(row[1] for row in rows),
        phones=tuple(row[2] for row in rows),
        valid=tuple(row[3] for row in rows),
    )


def _variant(
    sound: Tensor,
    tempo: float,
    louder_db: float,
    motion: Tensor,
    phones: Tensor,
    valid: Tensor,
    soundtracks: SoundtrackSettings,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features [T', D] of a soundtrack [N] that runs `tempo` times as fast, with its motion, phones and valid frames.

    Those are given as [T, M], [T] and [T], and become [T', M], [T'] and [T'].
    """
    heard = encode_audio(sound[None], SAMPLE_RATE, soundtracks.config.fps, soundtracks.encoder, louder_db)
    # half precision: the rows of all soundtracks are in memory at once
    features = feature_rows(heard, soundtracks.config, heard.frame_count).half()
    motion, phones, valid = retime(motion, tempo), retime(phones, tempo), retime(valid, tempo)
    # The lengths are rounded independently and may differ by one frame.
    frames = min(len(features), len(motion))
    return features[:frames], motion[:frames], phones[:frames], valid[:frames]
