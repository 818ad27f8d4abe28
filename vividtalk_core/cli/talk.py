"""`vividtalk talk`: portrait + audio → video."""

from __future__ import annotations

import argparse

from ..audio.waveform import load_audio
from ..audio_to_mesh.curves import read_motion
from ..audio_to_mesh.pose import relative_to_first
from ..face.models import FaceModels
from ..hub import resolve_weights
from ..pipeline import talk
from ..structures import HeadPose
from ..video.reader import read_video
from .render import open_inputs, settings_of, write_video
from .track import track_clip


def run(args: argparse.Namespace) -> None:
    """Make the video of `args`."""
    if args.pose == "codebook":
        _check_codebook(args.weights)
    inputs = open_inputs(args)
    with inputs.timer("audio"):
        audio = load_audio(args.audio)
    with inputs.timer("pose"):
        pose = read_pose(args.pose, inputs.models.face, args.progress)
    source = args.pose if pose is None else "still"
    settings = settings_of(args, inputs, fps=args.fps, seed=args.seed, pose=source)
    stream = talk(inputs.models, inputs.portrait, *audio, settings, pose, inputs.timer)
    write_video(args, inputs, stream, audio)


def read_pose(source: str, models: FaceModels, shown: bool = True) -> HeadPose | None:
    """The head motion of "video:FILE" or "file:FILE"; None for the sources that the pipeline makes itself.

    Args:
        source: the value of `--pose`.
        models: track the video.
        shown: draw a progress bar.
    """
    kind, _, file = source.partition(":")
    if kind == "video":
        return relative_to_first(track_clip(read_video(file, with_audio=False), models, shown).pose)
    if kind == "file":
        pose = read_motion(file).pose
        if pose is None:
            raise ValueError(f"'{file}' holds no head pose (no 'rotation'): choose another file, or --pose idle")
        return pose
    return None


def _check_codebook(weights: str) -> None:
    if "pose.safetensors" not in resolve_weights(weights):
        raise ValueError(
            f"pose 'codebook' needs the weights 'pose.safetensors', which the set '{weights}' does not contain; "
            "use --pose idle, or load a set that has them"
        )
