"""`vividtalk drive`: portrait + motion curves → video."""

from __future__ import annotations

import argparse

from ..audio.waveform import load_audio
from ..motion.files import fill_in, read_motion
from ..pipeline import drive
from .render import open_inputs, settings_of, write_video


def run(args: argparse.Namespace) -> None:
    """Make the video of `args`."""
    inputs = open_inputs(args)
    with inputs.timer("audio"):
        audio = load_audio(args.audio) if args.audio else None
    with inputs.timer("expression"):
        lips = len(inputs.models.face.head.lip_vertices)
        expression, pose = fill_in(read_motion(args.motion, lips), lips)
    settings = settings_of(args, inputs, fps=pose.fps)
    stream = drive(inputs.models, inputs.portrait, expression, pose, settings, inputs.timer)
    write_video(args, inputs, stream, audio)
