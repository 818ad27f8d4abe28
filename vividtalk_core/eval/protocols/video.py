"""Every metric that applies to a generated video, beside the real one if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...audio.encoder import encode_audio
from ...critics.face_embedder import FaceEmbedder
from ...critics.sync_expert import SyncExpert
from ...face.models import FaceModels
from ...face.track import Track, track_video
from ...head.mouth_shape import aperture_of_landmarks, width_of_landmarks
from ...progress import Progress
from ..footage import Footage
from ..head_motion import beat_alignment, diversity, energy_below
from ..lip_score import LipScore, score_lips, spoken_frames
from ..lips import Span, mouth_distance
from ..picture_score import PictureScore, score_pictures
from ..sync import REACH, SyncScore, sync_score


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
    videos = (generated, reference, wrong)
    _check_rates([footage for footage in videos if footage is not None])
    return compare(judges, *(None if f is None else watch(judges, f, progress) for f in videos), closures)


@dataclass(frozen=True, eq=False, slots=True)
class Watched:
    """A video and the face that was followed through it."""

    footage: Footage
    track: Track

    @property
    def points(self) -> Tensor:
        """[T, 478, 2] px."""
        return self.track.landmarks_2d


def watch(judges: Judges, footage: Footage, progress: Progress | None = None) -> Watched:
    """Follow the face of a video; what is compared with several others is watched once."""
    return Watched(footage, track_video(judges.face, footage.frames(), footage.fps, progress))


def compare(
    judges: Judges,
    generated: Watched,
    reference: Watched | None = None,
    wrong: Watched | None = None,
    closures: Sequence[Span] = (),
) -> Evaluation:
    """`evaluate` of videos that have been watched."""
    others = [video for video in (reference, wrong) if video is not None]
    _check_rates([video.footage for video in (generated, *others)])
    made, count = generated.footage, min(len(video.points) for video in (generated, *others))
    points = generated.points[:count]
    real, misled = (None if video is None else video.points[:count] for video in (reference, wrong))
    curves, real_curves, wrong_curves = (None if p is None else lips_of(p) for p in (points, real, misled))
    speech = None if made.audio is None else spoken_frames(*made.audio, count, made.fps)
    embedder = judges.embedder if reference is not None else None
    return Evaluation(
        frames=count,
        fps=made.fps,
        embedder=embedder.name if embedder else None,
        sync=_sync(judges.sync, made, curves),
        lips=score_lips(curves, real_curves, made.fps, speech, closures, wrong_curves),
        mouth_distance=None if real is None else mouth_distance(points, real),
        head=_head(generated, count),
        pictures=score_pictures(made, points, None if reference is None else reference.footage, real, embedder),
    )


def _check_rates(videos: Sequence[Footage]) -> None:
    for footage in videos:
        if abs(footage.fps - videos[0].fps) > 0.01:
            raise ValueError(
                f"the videos run at {videos[0].fps:g} and {footage.fps:g} frames per second: read them at one rate"
            )


def lips_of(landmarks: Tensor) -> Tensor:
    """[T, 2] aperture and width in IOD."""
    return torch.stack((aperture_of_landmarks(landmarks), width_of_landmarks(landmarks)), -1)


def _sync(expert: SyncExpert | None, footage: Footage, curves: Tensor) -> SyncScore | None:
    if expert is None or footage.audio is None:
        return None
    waveform, rate = footage.audio
    common_s = min(len(curves) / footage.fps, waveform.shape[-1] / rate)
    if common_s * expert.config.fps < expert.config.window + 2 * REACH:
        return None
    return sync_score(expert, waveform, rate, curves, footage.fps)


def _head(video: Watched, count: int) -> HeadScore:
    pose, audio, fps = video.track.pose, video.footage.audio, video.footage.fps
    pose = pose.frames(slice(count))
    beats = None if audio is None else beat_alignment(pose, encode_audio(*audio, fps).mel)
    return HeadScore(diversity(pose), energy_below(pose), beats)
