"""`vividtalk talk`: portrait + audio → video."""

from __future__ import annotations

import argparse

from ..audio.waveform import read_audio
from ..audio_to_mesh.articulation import ArticulationSettings
from ..face.models import FaceModels
from ..motion.files import read_curves
from ..motion.head_pose import relative_to_frame
from ..pipeline import talk
from ..structures import HeadMotion
from ..video.reader import read_video
from .render import open_inputs, settings_of, write_out
from .track import track_clip


def run(args: argparse.Namespace) -> None:
    """Make the video of `args`."""
    inputs = open_inputs(args)
    if args.pose == "codebook":
        _ = inputs.models.audio_to_mesh.pose  # says what is missing before any work is done
    with inputs.timer("audio"):
        audio = read_audio(args.audio)
    with inputs.timer("pose"):
        pose = read_pose(args.pose, inputs.models.face, args.progress)
    source = args.pose if pose is None else "still"
    motion = {"pose": source, "pose_amplitude": args.pose_amplitude, "pose_temperature": args.pose_temperature}
    gains = ArticulationSettings(
        lip_strength=args.lip_strength, jaw_gain=args.jaw_gain, lip_gain=args.lip_gain, smoothing_s=args.smoothing
    )
    lips = {"mode": args.mode, "articulation": gains}
    settings = settings_of(args, inputs, fps=args.fps, seed=args.seed, **motion, **lips)
    stream = talk(inputs.portrait, audio, settings, models=inputs.models, pose=pose, timer=inputs.timer)
    write_out(args, inputs, stream, audio)


def read_pose(source: str, models: FaceModels, shown: bool = True) -> HeadMotion | None:
    """The head motion of "video:FILE" or "file:FILE"; None for the sources that the pipeline makes itself.

    Args:
        source: the value of `--pose`.
        models: track the video.
        shown: draw a progress bar.
    """
    kind, _, file = source.partition(":")
    if kind == "video":
        return relative_to_frame(track_clip(read_video(file, with_audio=False), models, shown).pose)
    if kind == "file":
        pose = read_curves(file).pose
        if pose is None:
            raise ValueError(f"'{file}' holds no head pose (no 'rotation'): choose another file, or --pose idle")
        return pose
    return None
