"""Self-reenactment: a clip's own tracked motion on one of its frames, compared with the clip.

It measures the renderer without the audio: no better lip curve can recover what is lost here.
`python -m vividtalk_core evaluate reenactment VIDEO …` prints it.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...critics.perceptual import Backbone, load_perceptual
from ...errors import MediaError, MissingPackageError, NoFaceError, SettingsError
from ...face.align import to_crop
from ...face.track import Track, track_video
from ...mesh_to_video.generator import painted_alpha
from ...mesh_to_video.paste import changed_pixels
from ...mesh_to_video.source_view import view_source
from ...motion.head_pose import relative_to_frame
from ...pipeline import Models, TalkSettings, TalkStream, drive
from ...pixels import to_float
from ...structures import CROP, Expression, FaceFit, HeadMotion
from ..evaluators import Evaluators
from ..footage import Footage, read_footage
from ..image_metrics import face_oval
from ..image_score import spread_frames
from .reenactment_score import (
    CLOSED_FORM,
    NETWORK,
    REAL,
    STATIC,
    RowMeter,
    RowScore,
    oval_border,
    sample_frame,
    small_crop,
    to_native,
)

log = logging.getLogger("vividtalk")

# px of the crop around what moves or is painted that resampling may reach.
REACH_PX = 3
# Share of the head's motion that a pixel follows; below it is the band where motion ends.
FADING = 0.5
TURNED_DEG = (15.0, 30.0)  # difference of yaw
LEAST_FRAMES = 3  # a second difference needs as many


@dataclass(frozen=True, slots=True)
class ReenactmentSettings:
    """Which frames of a clip are used."""

    frames: int = 200  # at most, from the first: 8 s at 25 frames per second
    pictures: int = 30  # of them, spread evenly, are compared one by one; jitter is measured in all
    source: int = 0  # number of the frame that is the portrait
    # compare the frames whose yaw is 15 to 30° from that of the source; the source is then chosen for most such frames
    turned: bool = False

    def __post_init__(self) -> None:
        if self.frames < LEAST_FRAMES or self.pictures < 2 or not 0 <= self.source < self.frames:
            raise SettingsError(
                f"at least {LEAST_FRAMES} frames and 2 pictures are needed, and the source must be one of the frames; "
                f"got frames {self.frames}, pictures {self.pictures}, source {self.source}"
            )


@dataclass(frozen=True, slots=True)
class Reenactment:
    """The metrics of one clip."""

    frames: int
    fps: float
    embedder: str | None  # that CSIM was measured with
    backbone: str | None  # that the perceptual distance was measured with
    rows: dict[str, RowScore]  # static, closed form, network (if the models have one) and real


def self_reenactment(
    models: Models, footage: Footage, evaluators: Evaluators, settings: ReenactmentSettings = ReenactmentSettings()
) -> Reenactment:
    """Measure one clip.

    Args:
        models: from `load_models`; without networks of stage 2 there is no row for them.
        footage: a video; no more than a few frames are held at a time.
        evaluators: the networks that metrics are computed with.
        settings: which frames.

    Raises:
        MediaError: fewer than three frames, or no such source frame.
        NoFaceError: no face that can be tracked.
    """
    with torch.no_grad():
        track = track_video(models.face, islice(footage.frames(), settings.frames), footage.fps)
        count = len(track.landmarks_2d)
        if count < LEAST_FRAMES or settings.source >= count:
            raise MediaError(
                f"frame {settings.source} of a clip of {LEAST_FRAMES} or more is needed; the clip has {count} frames"
            )
        # Read a second time instead of kept, because a clip in memory would take gigabytes.
        source, compared = _choose_frames(track, settings)
        portrait = to_float(next(islice(footage.frames(), source, None)))
        expression, pose = motion_from(track, source)
        streams = {
            row: drive(
                portrait[None], expression, pose, TalkSettings(fps=footage.fps, strength=strength), models=models
            )
            for row, strength in strengths(models).items()
        }
        rows = _measure_rows(footage, streams, track, portrait, evaluators, source, compared)
    embedder, perceptual = evaluators.embedder, evaluators.perceptual
    return Reenactment(
        count,
        footage.fps,
        None if embedder is None else embedder.name,
        None if perceptual is None else perceptual.name,
        rows,
    )


def strengths(models: Models) -> dict[str, float]:
    """Row → strength of the networks; only the closed form where the models have no networks of stage 2."""
    networks = models.mesh_to_video
    learned = networks.motion is not None or networks.generator is not None
    return {CLOSED_FORM: 0.0} | ({NETWORK: 1.0} if learned else {})


def _choose_frames(track: Track, settings: ReenactmentSettings) -> tuple[int, set[int]]:
    """Number of the frame that is the portrait, and of those that are compared one by one."""
    count = len(track.landmarks_2d)
    if not settings.turned:
        # the source frame is left out: it is the portrait itself and would raise every mean
        return settings.source, spread_frames(count, settings.pictures) - {settings.source}
    yaw = track.pose.rotation[:, 1] * (180 / math.pi)
    turn = (yaw[:, None] - yaw).abs()
    far = (turn >= TURNED_DEG[0]) & (turn <= TURNED_DEG[1])
    source = int(far.sum(1).argmax())
    numbers = far[source].nonzero()[:, 0]
    if not len(numbers):
        raise MediaError(
            f"no frame is turned {TURNED_DEG[0]:g} to {TURNED_DEG[1]:g}° from another; yaw goes from {yaw.amin():.0f} "
            f"to {yaw.amax():.0f}°"
        )
    return source, {int(numbers[index]) for index in spread_frames(len(numbers), settings.pictures)}


def motion_from(track: Track, source: int) -> tuple[Expression, HeadMotion]:
    """The motion of a track relative to one of its frames."""
    expression = track.expression
    expression = replace(
        expression,
        neutral_coefficients=expression.coefficients[source],
        neutral_lip_offsets=expression.lip_offsets[source],
    )
    return expression, relative_to_frame(track.pose, source)


def _measure_rows(
    footage: Footage,
    streams: dict[str, TalkStream],
    track: Track,
    portrait: Tensor,
    evaluators: Evaluators,
    source_frame: int,
    compared: set[int],
) -> dict[str, RowScore]:
    """Go through the real frames and all that is generated from the portrait [3, H, W], side by side."""
    face, count = streams[CLOSED_FORM].face, len(track.landmarks_2d)
    points = to_crop(F.pad(track.landmarks_2d, (0, 1)), face.crop)[..., :2]  # [T, 478, 2] px of the crop
    source = sample_frame(evaluators.face, portrait, face.crop, points[source_frame])
    meters = {row: RowMeter(evaluators, source, face.crop) for row in (STATIC, *streams, REAL)}
    edge, background = still_parts(face)
    generated = zip(*(_frames_with_still(stream) for stream in streams.values()), strict=True)
    for index, (real, rows) in enumerate(zip(islice(footage.frames(), count), generated, strict=True)):
        images = {row: frame for row, (frame, _) in zip(streams, rows, strict=True)} | {REAL: to_float(real)}
        oval = face_oval(points[index], CROP, CROP)
        for row, frame in images.items():
            meters[row].jitter.add(small_crop(frame, face.crop)[0], (oval, oval_border(oval), edge))
        if index in compared:
            _compare_images(meters, images, points[index])
            for row, (frame, still) in zip(streams, rows, strict=True):
                meters[row].compare_background(frame, to_native(still, face.crop, outside=True), background)
    return {row: meter.score(meters[REAL]) for row, meter in meters.items()}


def _compare_images(meters: dict[str, RowMeter], images: dict[str, Tensor], points: Tensor) -> None:
    """Measure the images [3, H, W] of all rows at one time, whose real landmarks are [478, 2] px of the crop."""
    samples = {row: meters[row].sample(frame, points) for row, frame in images.items()}
    samples[STATIC] = meters[STATIC].source
    for row, sample in samples.items():
        meters[row].measure(sample, points)
        if row != REAL:
            meters[row].compare(sample, samples[REAL].small, points)


def _frames_with_still(stream: TalkStream) -> Iterator[tuple[Tensor, Tensor]]:
    """Frames [3, H, W] one by one, each with a mask [256, 256] bool of where nothing was moved or painted."""
    for generated, chunk in stream.generated():
        changed = changed_pixels(generated.motion)[:, None] | (painted_alpha(generated) > 0)  # [t, 1, 256, 256]
        # Interpolation at the portrait's own resolution reads a few pixels around what moves: they may change as
        # well.
        reached = F.max_pool2d(changed.float(), 2 * REACH_PX + 1, 1, REACH_PX)
        yield from zip(chunk, reached[:, 0] == 0, strict=True)


def still_parts(face: FaceFit) -> tuple[Tensor, Tensor]:
    """The band in which motion ends [256, 256] bool, and what lies beyond it and off the person [H, W] bool."""
    follow = view_source(face).follow
    background = (follow == 0) & (face.person_mask[0, 0] < 0.5)
    return (follow > 0) & (follow < FADING), to_native(background, face.crop, outside=True)


def find_perceptual() -> Backbone | None:
    """The perceptual backbone, or None with a warning that its column is missing."""
    try:
        return load_perceptual()
    except MissingPackageError as error:
        log.warning("The perceptual distance is left out: %s", error)
        return None


def json_line(name: str, clip: Reenactment) -> str:
    """The metrics of a clip in one line of JSON."""
    rows = {
        row: {key: None if value is None else round(value, 5) for key, value in asdict(score).items()}
        for row, score in clip.rows.items()
    }
    return json.dumps({"clip": name, **asdict(replace(clip, rows={})), "rows": rows}) + "\n"


def reenact_files(
    models: Models, videos: Iterable[Path], evaluators: Evaluators, settings: ReenactmentSettings
) -> Iterator[tuple[str, Reenactment]]:
    """Name and metrics of each video; one that is too short or shows no face is left out with a warning."""
    for video in videos:
        try:
            yield video.name, self_reenactment(models, read_footage(video), evaluators, settings)
        except (MediaError, NoFaceError) as error:
            log.warning("%s is left out: %s", video.name, error)
