"""Metrics of the upper face of a speaker: how far brows and lids move, with what, how often eyes blink and where to.

Brows and lids are the curves [T, 3] of `head.upper_face` in inter-ocular distances (IOD). A value is natural if it is
near the same metric of real speakers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..audio.encoder import mel_position
from ..filters import blur_rows
from ..structures import ARKIT_NAMES, HeadTrajectory
from ..time_grid import sample_rows
from .head_motion import FOLLOW_SIGMA_S
from .lips import pearson

# A blink rises so far above the clip's usual lids; narrow eyes close at less than 1.
BLINK = 0.35
# Two blinks are at least so far apart.
APART_S = 0.2


def upper_face_metrics(curves: Tensor, coefficients: Tensor, pose: HeadTrajectory, mel: Tensor) -> Mapping[str, float]:
    """All metrics of one clip.

    Args:
        curves: [T, 3] of `head.upper_face`.
        coefficients: [T, E] of which blinks and gaze count.
        pose: T frames of the head.
        mel: [M, 80] natural-log mel of the speech.
    """
    gaze = gaze_directions(coefficients).std(0)
    return {
        "brow_std_iod": float(curves[:, 0].std()),
        "inner_brow_std_iod": float(curves[:, 1].std()),
        "lower_lid_std_iod": float(curves[:, 2].std()),
        "brow_with_pitch": pearson(curves[:, 0], pose.rotation[:, 0]),
        "brow_follows_loudness": brow_follows_loudness(curves, pose.fps, mel),
        "blinks_per_minute": 60 * len(blink_frames(coefficients, pose.fps)) / (len(coefficients) / pose.fps),
        "gaze_aside_std": float(gaze[0]),
        "gaze_up_std": float(gaze[1]),
        # −1 is an eye that makes up for the turn of the head
        "gaze_with_yaw": pearson(gaze_directions(coefficients)[:, 0], pose.rotation[:, 1]),
    }


def brow_follows_loudness(curves: Tensor, fps: float, mel: Tensor) -> float:
    """Correlation −1..1 of the height of the brows with the loudness of a mel [M, 80], both smoothed (σ 0.16 s).

    Of curves [T, 3]; the first half second, in which generated curves start from rest, does not count.
    """
    loudness = sample_rows(mel.logsumexp(-1, keepdim=True), mel_position(len(curves), fps))
    both = blur_rows(torch.cat((curves[:, :1], loudness), 1), FOLLOW_SIGMA_S * fps)[round(fps / 2) :]
    return pearson(both[:, 0], both[:, 1])


def blink_frames(coefficients: Tensor, fps: float) -> list[int]:
    """The frames of coefficients [T, E] in which lids are most closed, once for each blink."""
    lids = coefficients[:, [ARKIT_NAMES.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]].mean(1)
    above = (lids - lids.median()).tolist()
    found: list[int] = []
    for frame in range(1, len(above) - 1):
        peak = above[frame] > BLINK and above[frame - 1] <= above[frame] > above[frame + 1]
        if peak and (not found or frame - found[-1] > APART_S * fps):
            found.append(frame)
    return found


def gaze_directions(coefficients: Tensor) -> Tensor:
    """[T, 2] mean direction of both eyes to the viewer's right and up, of coefficients [T, E]."""

    def mean(*names: str) -> Tensor:
        return coefficients[:, [ARKIT_NAMES.index(name) for name in names]].mean(1)

    aside = mean("eyeLookOutLeft", "eyeLookInRight") - mean("eyeLookInLeft", "eyeLookOutRight")
    up = mean("eyeLookUpLeft", "eyeLookUpRight") - mean("eyeLookDownLeft", "eyeLookDownRight")
    return torch.stack((aside, up), 1)
