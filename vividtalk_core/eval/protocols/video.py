"""Every metric that applies to a generated video, beside the real one if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...audio.encoder import MEL, encode_audio
from ...critics.sync_expert import SyncExpert
from ...errors import MismatchError
from ...face.track import Track, track_video
from ...head.mouth_shape import aperture_of_landmarks, width_of_landmarks
from ...progress import Progress
from ..evaluators import Evaluators
from ..footage import Footage
from ..head_motion import beat_alignment, diversity, energy_below
from ..image_score import ImageScore, score_images
from ..lip_score import LipScore, score_lips, spoken_frames
from ..lips import Span, mouth_distance
from ..sync import REACH, SyncScore, sync_score

# Frames per second by which two rates may differ and still be one: files round 29.97.
SAME_FPS = 0.01


@dataclass(frozen=True, slots=True)
class HeadScore:
    """Metrics of head motion; compare them with those of real speakers."""

    diversity: float  # degrees, standard deviation of pitch, yaw and roll
    energy_below_3hz: float  # 0..1 of the variance
    beat_alignment: float | None  # 0..1; None without sound


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of one generated video."""

    frames: int
    fps: float
    embedder: str | None  # that CSIM was measured with
    sync: SyncScore | None  # None without sound or for clips under 1.8 s
    lips: LipScore
    mouth_distance: float | None  # M-LMD, IOD; None without a real video
    head: HeadScore
    images: ImageScore


def evaluate(
    evaluators: Evaluators,
    generated: Footage,
    reference: Footage | None = None,
    closures: Sequence[Span] = (),
    wrong: Footage | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Track a generated video and, beside it, the real one, and compare.

    Both are compared frame by frame from their first; frames that only one of them has are left out. Images are
    compared where the real face is: PSNR and SSIM mean something only if the generated head moves as the real one does.

    Args:
        evaluators: at least a face tracker.
        generated: the video to evaluate; its sound is the speech that it was generated from.
        reference: the real video of the same speech, at the same frame rate.
        closures: start and end in seconds of each p, b and m.
        wrong: the same portrait with somebody else's speech, for `audio_gain`; needs the reference.
        progress: called as progress(done, total, None) for each tracked frame; may raise to cancel.

    Raises:
        MismatchError: different frame rates.
        NoFaceError: a video in which no face can be tracked.
    """
    videos = (generated, reference, wrong)
    _check_rates([footage for footage in videos if footage is not None])
    return compare(
        evaluators,
        track_footage(evaluators, generated, progress),
        None if reference is None else track_footage(evaluators, reference, progress),
        None if wrong is None else track_footage(evaluators, wrong, progress),
        closures,
    )


@dataclass(frozen=True, eq=False, slots=True)
class TrackedVideo:
    """A video and the face that was tracked through it."""

    footage: Footage
    track: Track

    @property
    def points(self) -> Tensor:
        """[T, 478, 2] px."""
        return self.track.landmarks_2d


def track_footage(evaluators: Evaluators, footage: Footage, progress: Progress | None = None) -> TrackedVideo:
    """Track the face of a video; a video that is compared with several others is tracked once."""
    return TrackedVideo(footage, track_video(evaluators.face, footage.frames(), footage.fps, progress))


def compare(
    evaluators: Evaluators,
    generated: TrackedVideo,
    reference: TrackedVideo | None = None,
    wrong: TrackedVideo | None = None,
    closures: Sequence[Span] = (),
) -> Evaluation:
    """`evaluate` of videos that have been tracked."""
    videos = [video for video in (generated, reference, wrong) if video is not None]
    _check_rates([video.footage for video in videos])
    # What all videos have: lengths differ by a few frames, and only pairs of frames can be compared.
    footage, count = generated.footage, min(len(video.points) for video in videos)
    points = generated.points[:count]
    real = None if reference is None else reference.points[:count]
    curves = lips_of(points)
    speech = None if footage.audio is None else spoken_frames(*footage.audio, count, footage.fps)
    # CSIM compares with the reference: without one it is not measured.
    embedder = evaluators.embedder if reference is not None else None
    return Evaluation(
        frames=count,
        fps=footage.fps,
        embedder=embedder.name if embedder else None,
        sync=_sync(evaluators.sync, footage, curves),
        lips=score_lips(
            curves,
            None if real is None else lips_of(real),
            footage.fps,
            speech,
            closures,
            None if wrong is None else lips_of(wrong.points[:count]),
        ),
        mouth_distance=None if real is None else mouth_distance(points, real),
        head=_head(generated, count),
        images=score_images(footage, points, None if reference is None else reference.footage, real, embedder),
    )


def _check_rates(videos: Sequence[Footage]) -> None:
    for footage in videos:
        if abs(footage.fps - videos[0].fps) > SAME_FPS:
            raise MismatchError(
                f"the videos run at {videos[0].fps:g} and {footage.fps:g} frames per second: read them at one rate"
            )


def lips_of(landmarks: Tensor) -> Tensor:
    """[T, 2] aperture and width of the mouth in IOD, of landmarks [T, 478, 2] px."""
    return torch.stack((aperture_of_landmarks(landmarks), width_of_landmarks(landmarks)), -1)


def _sync(expert: SyncExpert | None, footage: Footage, curves: Tensor) -> SyncScore | None:
    """The sync of lip curves [T, 2] with their sound; None without an expert or sound, or if the clip is too short."""
    if expert is None or footage.audio is None:
        return None
    waveform, rate = footage.audio
    common_s = min(len(curves) / footage.fps, waveform.shape[-1] / rate)
    # The longest shift must leave one whole window.
    if common_s * expert.config.fps < expert.config.window + 2 * REACH:
        return None
    return sync_score(expert, waveform, rate, curves, footage.fps)


def _head(video: TrackedVideo, count: int) -> HeadScore:
    pose, audio, fps = video.track.pose, video.footage.audio, video.footage.fps
    pose = pose.frames(slice(count))
    beats = None if audio is None else beat_alignment(pose, encode_audio(*audio, fps, MEL).mel)
    return HeadScore(diversity(pose), energy_below(pose), beats)
