"""Metrics of a pose sampler on speakers it was not trained on, beside the same metrics of their real heads.

`python -m vividtalk_core evaluate head-pose DATA FILE` prints them as JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...audio.speech import phrase_ends
from ...audio_to_mesh.pose_codebook import CHUNK
from ...audio_to_mesh.pose_sampler import PoseSampler, PoseSamplerConfig, sample_head_and_face
from ...errors import DatasetError
from ...eval.head_motion import (
    beat_alignment,
    diversity,
    energy_below,
    follows_loudness,
    perplexity,
    reconstruction_rms,
    seed_distance,
    speed,
)
from ...eval.upper_face import upper_face_metrics
from ...head.morphable import load_morphable
from ...head.upper_face import upper_face_of_coefficients
from ...hub import load_module, resolve_weights
from ...motion.blink import add_blinks
from ...structures import MEL_RATE, AudioFeatures, HeadMotion, MorphableModel
from ..dataset.motion_shard import FPS, Shard, encode_shard, load_shards
from ..dataset.pose_clips import PoseClip, activity, pose_clips, relative_to_rest
from ..tasks.pose_vqvae import reconstruct

# Of the samples whose metrics are averaged: one sample is one of many motions that would fit the sound.
SEEDS = range(10)
# Of `PoseCodebookSettings`, so that the reconstruction is measured on stretches like those of training.
LEAST_GAIN, LEAST_S = 0.5, 1.0
# Of an average speaker's rotation: people who read hardly move their heads.
FREE = 0.6
# Seconds: many times a training window of 13 s, so that a drift would show.
LONG_S = 600.0


@dataclass(frozen=True, eq=False, slots=True)
class Case:
    """A clip of a person who speaks, the real motion and ten generated ones."""

    name: str
    identity: str
    features: AudioFeatures
    real: HeadMotion
    generated: tuple[HeadMotion, ...]
    face: Mapping[str, float]  # `upper_face_metrics` of the real face
    generated_face: tuple[Mapping[str, float], ...]
    free: bool  # speaks freely: the head moves at least `FREE` times as far as that of an average speaker


def make_case(sampler: PoseSampler, shard: Shard, head: MorphableModel) -> Case:
    """Sample `SEEDS` for the sound and the face of a shard with head motion and sound."""
    features = encode_shard(shard)
    curves = relative_to_rest(shard.rotation, shard.translation)
    real = HeadMotion(curves[:, :3], curves[:, 3:], FPS)
    generated, faces = [], []
    for seed in SEEDS:
        drawn = sample_head_and_face(sampler, features, seed=seed, id_coefficients=shard.id_coefficients)
        # with blinks and small movements of the eyes, as they are seen
        shown = add_blinks(drawn.face, seed, phrase_ends=phrase_ends(features.mel)).coefficients
        upper = upper_face_of_coefficients(shown, head)
        generated.append(drawn.pose)
        faces.append(upper_face_metrics(upper, shown, drawn.pose, features.mel))
    return Case(
        shard.name,
        shard.identity,
        features,
        real,
        tuple(generated),
        upper_face_metrics(shard.upper_face, shard.coefficients, real, features.mel),
        tuple(faces),
        activity(curves, torch.tensor(sampler.config.scales)) >= FREE,
    )


def codebook_metrics(sampler: PoseSampler, clips: Sequence[PoseClip]) -> dict[str, float]:
    """Error of the reconstruction in degrees, and perplexity of the codes."""
    book = sampler.codebook
    codes, errors = reconstruct(book, clips)
    per_clip = torch.tensor([reconstruction_rms(error) for error in errors])
    used = {
        f"perplexity_{level}": perplexity(torch.cat(codes)[:, level], book.config.codes)
        for level in range(book.config.all_levels)
    }
    return {
        "stretches": len(clips),
        "frames": sum(len(clip.pose) for clip in clips),
        "rms_deg": reconstruction_rms(torch.cat(errors)),
        "rms_deg_median_clip": float(per_clip.median()),
        "codes": book.config.codes,
    } | used


def motion_metrics(cases: Sequence[Case]) -> dict[str, float]:
    """Motion of the generated heads beside the real ones; means over clips and seeds."""
    metrics: dict[str, float] = {
        "clips": len(cases),
        "identities": len({case.identity for case in cases}),
        "seeds": len(SEEDS),
    }
    metrics |= _beside("diversity_deg", cases, diversity)
    metrics |= _beside("energy_below_3_hz", cases, energy_below)
    metrics["diversity_ratio"] = metrics["diversity_deg"] / metrics["diversity_deg_real"]
    metrics["energy_below_3_hz_least"] = min(energy_below(pose) for case in cases for pose in case.generated)
    for name, measure in (("beat_alignment", beat_alignment), ("follows_loudness", follows_loudness)):
        metrics |= _with_sound(name, cases, measure)
    metrics["seed_distance_deg"] = _mean(seed_distance(case.generated) for case in cases)
    return metrics


def face_metrics(cases: Sequence[Case]) -> dict[str, float]:
    """The upper face, generated and real: means over the clips, and over those of people who speak freely."""
    free = [case for case in cases if case.free]
    metrics: dict[str, float] = {"clips": len(cases), "clips_free": len(free)}
    for name in cases[0].face:
        metrics[name] = _mean(face[name] for case in cases for face in case.generated_face)
        metrics[f"{name}_real"] = _mean(case.face[name] for case in cases)
        if free:
            metrics[f"{name}_real_free"] = _mean(case.face[name] for case in free)
    return metrics


def _beside(name: str, cases: Sequence[Case], measure: Callable[[HeadMotion], float]) -> dict[str, float]:
    generated = _mean(measure(pose) for case in cases for pose in case.generated)
    return {name: generated, f"{name}_real": _mean(measure(case.real) for case in cases)}


def _with_sound(name: str, cases: Sequence[Case], measure: Callable[[HeadMotion, Tensor], float]) -> dict[str, float]:
    """A metric of heads and a mel [M, 80], generated and real, each with its own sound and with another clip's."""
    # The next clip's sound: a head that only moves much follows any speech alike.
    others = [*cases[1:], cases[0]]
    pairs = [
        (case, case.features.mel, _to_length(other.features.mel, len(case.features.mel)))
        for case, other in zip(cases, others, strict=True)
    ]
    return {
        name: _mean(measure(pose, own) for case, own, _ in pairs for pose in case.generated),
        f"{name}_other_speech": _mean(measure(pose, other) for case, _, other in pairs for pose in case.generated),
        f"{name}_real": _mean(measure(case.real, own) for case, own, _ in pairs),
        f"{name}_real_other_speech": _mean(measure(case.real, other) for case, _, other in pairs),
    }


def _to_length(mel: Tensor, rows: int) -> Tensor:
    """A mel [M, 80] repeated or cut to [rows, 80]."""
    return mel.repeat(-(-rows // len(mel)), 1)[:rows]


def _mean(values: Iterable[float]) -> float:
    return float(torch.tensor(list(values)).mean())


def long_metrics(sampler: PoseSampler, cases: Sequence[Case]) -> dict[str, float]:
    """Ten minutes of speech: seconds to sample a minute, drift, and the speed where codes and chunks join."""
    mel = _to_length(torch.cat([case.features.mel for case in cases]), round(LONG_S * MEL_RATE))
    frames = round(LONG_S * FPS)
    features = AudioFeatures(mel, frames, FPS, LONG_S)
    # Processor time, because the clock on the wall depends on what else runs.
    began = time.process_time()
    pose = sample_head_and_face(sampler, features).pose
    seconds = time.process_time() - began
    degrees = pose.rotation.rad2deg()
    # Speeds at the joins beside those everywhere: equal percentiles mean that no join can be seen.
    speeds, chunk = speed(pose), CHUNK * sampler.config.stride
    return {
        "cpu_seconds_per_minute": seconds * 60 / LONG_S,
        "same_again": float(torch.equal(pose.rotation, sample_head_and_face(sampler, features).pose.rotation)),
        "diversity_deg": diversity(pose),
        "farthest_deg": float(degrees.abs().max()),
        "mean_of_last_minute_deg": float(degrees[-round(60 * FPS) :].mean(0).norm()),
        "speed_p99": float(speeds.quantile(0.99)),
        "speed_p99_at_code_joins": float(speeds[sampler.config.stride - 1 :: sampler.config.stride].quantile(0.99)),
        "speed_p99_at_chunk_joins": float(speeds[chunk - 1 :: chunk].quantile(0.99)),
        "speed_mean_at_chunk_joins": float(speeds[chunk - 1 :: chunk].mean()),
        "speed_mean": float(speeds.mean()),
    }


def head_pose_metrics(data: Path, weights: Path) -> Mapping[str, Mapping[str, float]]:
    """All metrics of a pose sampler on the validation split of a prepared folder.

    Args:
        data: the folder.
        weights: the sampler's file.

    Raises:
        DatasetError: the split has no clips with sound and head motion.
        WeightsError: the file holds no pose sampler.
    """
    sampler = load_module(PoseSampler, PoseSamplerConfig, weights)
    shards = load_shards(data, "validation")
    speech = [shard for shard in shards if shard.has_pose and len(shard.waveform)]
    if not speech:
        raise DatasetError(f"'{data}' has no validation clips with both sound and head motion")
    with torch.no_grad():
        head = load_morphable(resolve_weights("embedded").file("head.safetensors"))
        cases = [make_case(sampler, shard, head) for shard in speech]
        clips = pose_clips(shards, sampler.config.scales, LEAST_GAIN, LEAST_S)
        return {
            "codebook": codebook_metrics(sampler, clips),
            "motion": motion_metrics(cases),
            "upper_face": face_metrics(cases),
            "ten_minutes": long_metrics(sampler, cases),
        }
