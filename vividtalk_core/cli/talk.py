"""`vividtalk talk`: portrait + audio → video."""

from __future__ import annotations

import argparse

from ..audio.waveform import read_audio
from ..errors import CurveFileError
from ..face.models import FaceModels
from ..motion.files import read_curves
from ..motion.head_pose import relative_to_frame
from ..pipeline import talk
from ..settings import POSE_SOURCES, TalkSettings
from ..structures import HeadMotion
from ..video.reader import read_video
from .options import given
from .render import open_inputs, write_out
from .track import track_clip


def run(args: argparse.Namespace) -> None:
    """Make the video of `args`."""
    source = args.pose if args.pose in POSE_SOURCES else "still"  # a file replaces the source
    inputs = open_inputs(args, given(TalkSettings(), vars(args) | {"pose": source}))
    if args.pose == "codebook":
        # missing weights are reported before any work is done
        with inputs.timer("load"):
            _ = inputs.models.audio_to_mesh.pose
    with inputs.timer("audio"):
        audio = read_audio(args.audio)
    with inputs.timer("pose"):
        pose = read_pose(args.pose, inputs.models.face, args.progress)
    stream = talk(inputs.portrait, audio, inputs.settings, models=inputs.models, pose=pose, timer=inputs.timer)
    write_out(args, inputs, stream, audio)


def read_pose(source: str, models: FaceModels, shown: bool = True) -> HeadMotion | None:
    """The head motion of "video:FILE" or "file:FILE"; None for the sources that the pipeline makes itself.

    Args:
        source: the value of `--pose`.
        models: track the video.
        shown: draw a progress bar.

    Raises:
        CurveFileError: the file holds no head pose.
    """
    kind, _, file = source.partition(":")
    if kind == "video":
        return relative_to_frame(track_clip(read_video(file, with_audio=False), models, shown).pose)
    if kind == "file":
        pose = read_curves(file).pose
        if pose is None:
            raise CurveFileError(f"'{file}' holds no head pose (no 'rotation'): choose another file, or --pose idle")
        return pose
    return None
