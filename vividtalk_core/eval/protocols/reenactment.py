"""Self-reenactment: a clip's own tracked motion on one of its frames, compared with the clip.

It separates the renderer from the audio: whatever is lost here, no better lip curve brings back. Run as
`python -m vividtalk_core.eval.reenactment VIDEO [VIDEO ...] [--table] [--frames=200] [--pictures=30] [--source=0]
[--embedder=FILE.onnx] [--weights=embedded]`: a JSON line for each clip, and with --table a Markdown table of all.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...critics.face_embedder import FaceEmbedder
from ...critics.perceptual import load_perceptual
from ...face.align import to_crop
from ...face.track import Track, track_video
from ...mesh_to_video.generator import painted_alpha
from ...mesh_to_video.source_view import view_source
from ...motion.head_pose import relative_to_frame
from ...pipeline import Models, TalkSettings, TalkStream, drive, load_models
from ...pixels import to_float
from ...structures import CROP, Expression, FaceFit, HeadMotion
from ..footage import Footage, read_footage
from ..pictures import face_oval
from .reenactment_score import (
    CLOSED_FORM,
    NETWORK,
    REAL,
    STATIC,
    Examiner,
    RowMeter,
    RowScore,
    oval_border,
    small_crop,
    take_shot,
    to_native,
)
from .reenactment_table import to_markdown

log = logging.getLogger("vividtalk")

REACH_PX = 3  # px of the crop around what moves or is painted, that resampling may reach
FADING = 0.5  # of how far a pixel follows the head, below which motion is dying out
NUMBERS = ("frames", "pictures", "source")  # options of the command that are ReenactmentSettings
OPTIONS = (*NUMBERS, "embedder", "weights", "table")


@dataclass(frozen=True, slots=True)
class ReenactmentSettings:
    """What is looked at."""

    frames: int = 200  # at most, from the first: 8 s at 25 frames per second
    pictures: int = 30  # of them, spread evenly, are judged as pictures; trembling is measured in all
    source: int = 0  # the frame that is the portrait

    def __post_init__(self) -> None:
        if self.frames < 3 or self.pictures < 2 or not 0 <= self.source < self.frames:
            raise ValueError(
                "at least 3 frames and 2 pictures are looked at, and the source is one of the frames; "
                f"got frames {self.frames}, pictures {self.pictures}, source {self.source}"
            )


@dataclass(frozen=True, slots=True)
class Reenactment:
    """The figures of one clip."""

    frames: int
    fps: float
    embedder: str | None  # that CSIM was measured with
    backbone: str | None  # that the perceptual distance was measured with
    rows: dict[str, RowScore]  # static, closed form, network (if the models have one) and real


def self_reenactment(
    models: Models, footage: Footage, examiner: Examiner, settings: ReenactmentSettings = ReenactmentSettings()
) -> Reenactment:
    """Measure one clip.

    Args:
        models: from `load_models`; without networks of stage 2 there is no row for them.
        footage: a video; no more than a few frames are held at a time.
        examiner: what looks at the pictures.
        settings: how many frames, and from which.

    Raises:
        ValueError: fewer than three frames, no such source frame, or no face that can be followed.
    """
    with torch.no_grad():
        track = track_video(models.face, islice(footage.frames(), settings.frames), footage.fps)
        count = len(track.landmarks_2d)
        if count < 3 or settings.source >= count:
            raise ValueError(f"frame {settings.source} of a clip of 3 or more is needed; the clip has {count} frames")
        portrait = to_float(next(islice(footage.frames(), settings.source, None)))
        motion = motion_from(track, settings.source)
        streams = {
            row: drive(portrait[None], *motion, TalkSettings(fps=footage.fps, strength=strength), models=models)
            for row, strength in strengths(models).items()
        }
        rows = _watch(footage, streams, track, portrait, examiner, settings)
    judges = (None if judge is None else judge.name for judge in (examiner.embedder, examiner.perceptual))
    return Reenactment(count, footage.fps, *judges, rows)


def strengths(models: Models) -> dict[str, float]:
    """Row → strength of the networks; only the closed form where the models have none."""
    networks = models.mesh_to_video
    learned = networks.motion is not None or networks.generator is not None
    return {CLOSED_FORM: 0.0} | ({NETWORK: 1.0} if learned else {})


def motion_from(track: Track, source: int) -> tuple[Expression, HeadMotion]:
    """The motion of a track on top of one of its frames."""
    expression = track.expression
    neutral = (expression.coefficients[source], expression.lip_offsets[source])
    expression = replace(expression, neutral_coefficients=neutral[0], neutral_lip_offsets=neutral[1])
    return expression, relative_to_frame(track.pose, source)


def _watch(
    footage: Footage,
    streams: dict[str, TalkStream],
    track: Track,
    portrait: Tensor,
    examiner: Examiner,
    settings: ReenactmentSettings,
) -> dict[str, RowScore]:
    """Walk through the real frames and all that is made of the portrait [3, H, W], side by side."""
    face, count = streams[CLOSED_FORM].face, len(track.landmarks_2d)
    points = to_crop(F.pad(track.landmarks_2d, (0, 1)), face.crop)[..., :2]  # [T, 478, 2] px of the crop
    source = take_shot(examiner.face, portrait, face.crop, points[settings.source])
    meters = {row: RowMeter(examiner, source, face.crop) for row in (STATIC, *streams, REAL)}
    looked_at = set(torch.linspace(0, count - 1, min(count, settings.pictures)).round().long().tolist())
    looked_at -= {settings.source}  # it is the portrait itself
    edge, background = still_parts(face)
    frames = zip(islice(footage.frames(), count), *map(_single, streams.values()), strict=True)
    for index, (real, *made) in enumerate(frames):
        pictures = {row: frame for row, (frame, _) in zip(streams, made, strict=True)} | {REAL: to_float(real)}
        oval = face_oval(points[index], CROP, CROP)
        for row, frame in pictures.items():
            meters[row].tremble.add(small_crop(frame, face.crop)[0], (oval, oval_border(oval), edge))
        if index in looked_at:
            _look(meters, pictures, points[index])
            for row, (frame, still) in zip(streams, made, strict=True):
                meters[row].compare_background(frame, to_native(still, face.crop, outside=True), background)
    return {row: meter.score(meters[REAL]) for row, meter in meters.items()}


def _look(meters: dict[str, RowMeter], pictures: dict[str, Tensor], points: Tensor) -> None:
    """Judge pictures [3, H, W] of all rows at one moment, whose real landmarks are [478, 2] px of the crop."""
    portrait = meters[STATIC].source
    shots = {row: meters[row].shoot(frame, points) for row, frame in pictures.items()} | {STATIC: portrait}
    for row, shot in shots.items():
        meters[row].look(shot, points)
        if row != REAL:
            meters[row].compare(shot, shots[REAL].small, points)


def _single(stream: TalkStream) -> Iterator[tuple[Tensor, Tensor]]:
    """Frames [3, H, W] one by one, each with where nothing was moved or painted, [256, 256] bool."""
    for generated, chunk in stream.generated():
        changed = (generated.motion.flow != 0).any(-1)[:, None] | (painted_alpha(generated) > 0)  # [t, 1, 256, 256]
        reached = F.max_pool2d(changed.float(), 2 * REACH_PX + 1, 1, REACH_PX)
        yield from zip(chunk, reached[:, 0] == 0, strict=True)


def still_parts(face: FaceFit) -> tuple[Tensor, Tensor]:
    """Where motion dies out [256, 256] bool, and what lies beyond it and off the person [H, W] bool of the portrait."""
    follow = view_source(face).follow
    background = (follow == 0) & (face.person_mask[0, 0] < 0.5)
    return (follow > 0) & (follow < FADING), to_native(background, face.crop, outside=True)


def read_words(words: Sequence[str]) -> tuple[list[Path], ReenactmentSettings, dict[str, str]]:
    """Videos, settings, and what else is written as --name=value, of a command line."""
    videos = [Path(word) for word in words if not word.startswith("--")]
    options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    unknown = sorted(options.keys() - OPTIONS)
    if unknown or not videos:
        found = f"there is no option --{unknown[0]}" if unknown else "no video is named"
        raise ValueError(f"{found}: write VIDEO [VIDEO ...] {' '.join(f'[--{name}]' for name in OPTIONS)}")
    numbers = {name: options.pop(name) for name in NUMBERS if name in options}
    for name, text in numbers.items():
        if not text.isdecimal():
            raise ValueError(f"--{name} takes a whole number: write --{name}=NUMBER; got '{text}'")
    return videos, ReenactmentSettings(**{name: int(text) for name, text in numbers.items()}), options


def find_perceptual() -> nn.Module | None:
    """The perceptual backbone, or None with a word about the missing column."""
    try:
        return load_perceptual()
    except FileNotFoundError as error:
        log.warning("The perceptual distance is left out: %s", error)
        return None


def json_line(name: str, clip: Reenactment) -> str:
    """The figures of a clip in one line of JSON."""
    rows = {
        row: {key: None if value is None else round(value, 5) for key, value in asdict(score).items()}
        for row, score in clip.rows.items()
    }
    return json.dumps({"clip": name, **asdict(replace(clip, rows={})), "rows": rows}) + "\n"


def measure(
    models: Models, videos: Sequence[Path], examiner: Examiner, settings: ReenactmentSettings
) -> Iterator[tuple[str, Reenactment]]:
    """Name and figures of each video; one in which no face can be followed is left out with a word."""
    for video in videos:
        try:
            yield video.name, self_reenactment(models, read_footage(video), examiner, settings)
        except ValueError as error:
            log.warning("%s is left out: %s", video.name, error)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures of each clip as a JSON line, and a table if it is asked for; exit code 0, or 2 and why."""
    try:
        videos, settings, options = read_words(sys.argv[1:] if argv is None else argv)
        models = load_models(options.get("weights", "embedded"))
        embedder = FaceEmbedder(options["embedder"]) if "embedder" in options else None
        examiner, rows = Examiner(models.face, embedder, find_perceptual()), {}
        for name, clip in measure(models, videos, examiner, settings):
            sys.stdout.write(json_line(name, clip))
            sys.stdout.flush()
            rows[name] = clip.rows
        if "table" in options and rows:
            sys.stdout.write(to_markdown(rows))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
