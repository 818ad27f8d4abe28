"""`vividtalk drive`: portrait + motion curves → video."""

from __future__ import annotations

import argparse

import torch

from ..audio.waveform import load_audio
from ..audio_to_mesh.curves import Motion, read_motion
from ..audio_to_mesh.pose import still_pose
from ..pipeline import drive
from ..structures import ARKIT_NAMES, Expression, HeadPose
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


def fill_in(motion: Motion, lip_vertices: int) -> tuple[Expression, HeadPose]:
    """The half that a motion file does not have: the portrait's own expression, a still head."""
    expression, pose = motion.expression, motion.pose
    if expression is None:
        zeros = torch.zeros(motion.frames, len(ARKIT_NAMES))
        lips = torch.zeros(motion.frames, lip_vertices, 3)
        expression = Expression(zeros, lips, motion.fps, zeros[0], lips[0])
    return expression, still_pose(motion.frames, motion.fps) if pose is None else pose
