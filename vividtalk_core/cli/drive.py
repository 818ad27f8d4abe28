"""`vividtalk drive`: portrait + motion curves → video."""

from __future__ import annotations

import argparse

from ..audio.waveform import read_audio
from ..motion.files import fill_in, read_curves
from ..pipeline import drive
from ..settings import TalkSettings
from .options import given
from .render import open_inputs, write_out


def run(args: argparse.Namespace) -> None:
    """Make the video of `args`, at the frame rate of the curves."""
    inputs = open_inputs(args, given(TalkSettings(), vars(args)))
    with inputs.timer("audio"):
        audio = read_audio(args.audio) if args.audio else None
    with inputs.timer("expression"):
        lips = len(inputs.models.face.head.lip_vertices)
        expression, pose = fill_in(read_curves(args.motion, lips), lips)
    stream = drive(inputs.portrait, expression, pose, inputs.settings, models=inputs.models, timer=inputs.timer)
    write_out(args, inputs, stream, audio)
