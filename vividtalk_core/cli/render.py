"""What `talk` and `drive` share: the portrait in, the video and its report out."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from ..files import check_writable
from ..pipeline import Models, TalkStream, load_models
from ..settings import TalkSettings
from ..structures import Audio
from ..timing import StageTimer
from ..video.reader import read_image
from ..video.writer import write_video
from .progress import ProgressBar
from .report import make_report, write_json


@dataclass(frozen=True, eq=False, slots=True)
class Inputs:
    """The opened inputs of both commands."""

    models: Models
    portrait: Tensor  # [1, 3, H, W] 0..1 at the size of the video
    settings: TalkSettings  # `box` in px of `portrait`
    timer: StageTimer
    start: float  # seconds of `time.perf_counter`


def open_inputs(args: argparse.Namespace, settings: TalkSettings) -> Inputs:
    """Read the portrait and load the models, once it is known that the results can be written."""
    start, timer = time.perf_counter(), StageTimer()
    check_writable(args.out, (".mp4",))
    if args.report:
        check_writable(args.report, (".json",))
    with timer("load"):
        picture = read_image(args.portrait)
        portrait = scale_portrait(picture, args.size)
        if args.box is not None:
            # the user gives the box in px of the picture, before it is scaled
            ratio = portrait.shape[-1] / picture.shape[-1]
            left, top, right, bottom = (ratio * side for side in args.box)
            settings = replace(settings, box=(left, top, right, bottom))
        models = load_models(args.weights)
        # models are loaded when they are first used: now, so that the report counts it as loading
        _ = models.face, models.mesh_to_video.motion, models.mesh_to_video.generator
    return Inputs(models, portrait, settings, timer, start)


def scale_portrait(portrait: Tensor, size: str) -> Tensor:
    """A portrait [1, 3, H, W] with its longer side at `size` px and even sides; "native" does not scale."""
    if size == "native":
        return portrait
    height, width = portrait.shape[2:]
    factor = int(size) / max(height, width)
    # even sides, because H.264 has one colour sample for 2 × 2 px
    sides = [max(2, 2 * round(side * factor / 2)) for side in (height, width)]
    if sides == [height, width]:
        return portrait
    # clamped, because bicubic sampling overshoots at edges
    return F.interpolate(portrait, sides, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


def write_out(args: argparse.Namespace, inputs: Inputs, stream: TalkStream, audio: Audio | None) -> None:
    """Render the stream into the mp4, with its sound, and write the report."""
    # the timer subtracts the stages that run within this block; what is left is encoding
    with inputs.timer("encode"):
        write_video(args.out, stream, audio, ProgressBar(args.command, args.progress))
    # as the writer cuts it: H.264 has even sides
    size = (stream.width // 2 * 2, stream.height // 2 * 2)
    sys.stdout.write(f"{args.out}: {stream.frame_count} frames, {size[0]} × {size[1]} px, {stream.fps:g} fps\n")
    if args.report:
        total_s = time.perf_counter() - inputs.start
        write_json(args.report, make_report(stream, size, total_s, inputs.models.weights))
