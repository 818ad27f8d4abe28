"""Every metric that applies to a generated video, beside the real one if there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio.encoder import encode_audio
from ..face.models import FaceModels
from ..face.track import Track, track_video
from ..structures import HeadPose
from .footage import Footage
from .head_motion import beat_alignment, diversity, energy_below
from .identity import FaceEmbedder
from .lip_score import LipScore, score_lips, spoken_frames
from .lips import Span, aperture_of_landmarks, mouth_distance, width_of_landmarks
from .picture_score import PictureScore, score_pictures
from .sync import REACH, SyncScore, sync_score
from .sync_expert import SyncExpert

Progress = Callable[[int, int, Tensor | None], None]


@dataclass(frozen=True, slots=True)
class HeadScore:
    """How the head moves; natural is what real speakers have."""

    diversity: float  # degrees, standard deviation of pitch, yaw and roll
    energy_below_3hz: float  # 0..1 of the variance
    beat_alignment: float | None  # 0..1; None without sound


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one generated video."""

    frames: int
    fps: float
    embedder: str | None  # that CSIM was measured with
    sync: SyncScore | None  # None without sound or for clips under 1.8 s
    lips: LipScore
    mouth_distance: float | None  # M-LMD, IOD; None without a real video
    head: HeadScore
    pictures: PictureScore


@dataclass(frozen=True, eq=False, slots=True)
class Judges:
    """The networks that look and listen."""

    face: FaceModels
    sync: SyncExpert | None = None
    embedder: FaceEmbedder | None = None


def evaluate(
    judges: Judges,
    generated: Footage,
    reference: Footage | None = None,
    closures: Sequence[Span] = (),
    wrong: Footage | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Track a generated video and, beside it, the real one, and compare.

    Both are compared frame by frame from their first; what one has more is left out. Pictures are compared where the
    real face is: PSNR and SSIM say something only if the generated head moves as the real one does.

    Args:
        judges: at least a face tracker.
        generated: the video to judge; its sound is what it was driven by.
        reference: the real video of the same speech, at the same frame rate.
        closures: start and end in seconds of each p, b and m.
        wrong: the same portrait driven by somebody else's audio, for `audio_gain`; needs the reference.
        progress: called as progress(done, total, None) for each tracked frame; may raise to cancel.

    Raises:
        ValueError: different frame rates, or a video in which no face can be followed.
    """
    others = [footage for footage in (reference, wrong) if footage is not None]
    _check_rates(generated, *others)
    track, *tracks = (track_video(judges.face, f.frames(), f.fps, progress) for f in (generated, *others))
    count = min(len(t.landmarks_2d) for t in (track, *tracks))
    points, *compared = (t.landmarks_2d[:count] for t in (track, *tracks))
    curves = lips_of(points)
    speech = None if generated.audio is None else spoken_frames(*generated.audio, count, generated.fps)
    real = compared[0] if reference is not None else None
    misled = lips_of(compared[-1]) if wrong is not None else None
    embedder = judges.embedder if reference is not None else None
    return Evaluation(
        frames=count,
        fps=generated.fps,
        embedder=embedder.name if embedder else None,
        sync=_sync(judges.sync, generated, curves),
        lips=score_lips(curves, None if real is None else lips_of(real), generated.fps, speech, closures, misled),
        mouth_distance=None if real is None else mouth_distance(points, real),
        head=_head(track, generated, count),
        pictures=score_pictures(generated, points, reference, real, embedder),
    )


def _check_rates(generated: Footage, *others: Footage) -> None:
    for footage in others:
        if abs(footage.fps - generated.fps) > 0.01:
            raise ValueError(
                f"the videos run at {generated.fps:g} and {footage.fps:g} frames per second: read both at one rate"
            )


def lips_of(landmarks: Tensor) -> Tensor:
    """[T, 2] aperture and width in IOD."""
    return torch.stack((aperture_of_landmarks(landmarks), width_of_landmarks(landmarks)), -1)


def _sync(expert: SyncExpert | None, footage: Footage, curves: Tensor) -> SyncScore | None:
    if expert is None or footage.audio is None:
        return None
    enough = len(curves) / footage.fps * expert.config.fps >= expert.config.window + 2 * REACH
    return sync_score(expert, *footage.audio, curves, footage.fps) if enough else None


def _head(track: Track, footage: Footage, count: int) -> HeadScore:
    pose = HeadPose(track.pose.rotation[:count], track.pose.translation[:count], track.pose.fps)
    mel = None if footage.audio is None else encode_audio(*footage.audio, footage.fps).mel
    return HeadScore(diversity(pose), energy_below(pose), None if mel is None else beat_alignment(pose, mel))
