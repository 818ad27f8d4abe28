"""`vividtalk drive`: portrait + motion curves → video."""

from __future__ import annotations

import argparse

from ..audio.waveform import read_audio
from ..motion.files import fill_in, read_curves
from ..pipeline import drive
from .render import open_inputs, settings_of, write_out


def run(args: argparse.Namespace) -> None:
    """Make the video of `args`."""
    inputs = open_inputs(args)
    with inputs.timer("audio"):
        audio = read_audio(args.audio) if args.audio else None
    with inputs.timer("expression"):
        lips = len(inputs.models.face.head.lip_vertices)
        expression, pose = fill_in(read_curves(args.motion, lips), lips)
    settings = settings_of(args, inputs, fps=pose.fps)
    stream = drive(inputs.portrait, expression, pose, settings, models=inputs.models, timer=inputs.timer)
    write_out(args, inputs, stream, audio)
