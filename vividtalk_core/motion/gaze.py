"""Where the eyes look: signed directions added to the eyeLook curves, and eyes that stay with the viewer.

A direction is in units of the coefficients: 1 to the viewer's right is eyeLookOutLeft = eyeLookInRight = 1, and 1 up
is eyeLookUp = 1 of both eyes. The names are the person's own left and right.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures import ARKIT_NAMES, Expression, HeadTrajectory

# Of each eye: the coefficients towards the viewer's right, left, up and down.
EYES = (
    ("eyeLookOutLeft", "eyeLookInLeft", "eyeLookUpLeft", "eyeLookDownLeft"),
    ("eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight", "eyeLookDownRight"),
)
# Angle by which a coefficient of 1 turns the head model's eyes, rad.
YAW_OF_1, PITCH_OF_1 = math.radians(14.8), math.radians(10.5)
# Of the turn of the head, how much the eyes make up for. Speakers who look into a camera make up for all of it, but the
# tracked curves of rendered heads have the slopes of theirs (−0.011 per degree of yaw, 0.03 of pitch) with half of it:
# in a picture that is warped, the eyes keep a part of their direction by themselves.
HOLD = 0.5
SHIFT_S = 0.3  # within which one turn has one peak


def add_gaze(coefficients: Tensor, gaze: Tensor) -> Tensor:
    """Coefficients [T, E] with the eyes turned further by directions [T, 2], to the viewer's right and up."""
    turned = coefficients.clone()
    for eye in EYES:
        right, left, up, down = (ARKIT_NAMES.index(name) for name in eye)
        for towards, against, more in ((right, left, gaze[:, 0]), (up, down, gaze[:, 1])):
            # an eye looks one way or the other: the difference of the two curves is its direction
            direction = coefficients[:, towards] - coefficients[:, against] + more.to(coefficients)
            turned[:, towards], turned[:, against] = direction.clamp(0, 1), (-direction).clamp(0, 1)
    return turned


def hold_gaze(expression: Expression, pose: HeadTrajectory) -> Expression:
    """An expression [T, E] whose eyes turn against a head motion [T, 3] on top of the portrait's pose.

    The eyes stay with the viewer while the head turns and nods, as the vestibulo-ocular reflex keeps them.
    """
    right = -HOLD * pose.rotation[:, 1] / YAW_OF_1
    up = HOLD * pose.rotation[:, 0] / PITCH_OF_1
    return replace(expression, coefficients=add_gaze(expression.coefficients, torch.stack((right, up), -1)))


def gaze_shifts(expression: Expression, least: float) -> list[float]:
    """When the eyes turn aside fastest, in seconds, ascending: the peaks of their speed that reach `least` per second.

    In the curves of `hold_gaze` these are the turns of the head.
    """
    right, left, _, _ = (expression.coefficients[:, ARKIT_NAMES.index(name)] for name in EYES[0])
    speed = (right - left).diff().abs() * expression.fps  # [T − 1]
    if not len(speed):
        return []
    reach = max(1, round(SHIFT_S * expression.fps))
    largest = F.max_pool1d(speed[None, None], 2 * reach + 1, 1, reach)[0, 0]
    # of equal speeds in a row only the first is above the one before
    first = speed > F.pad(speed, (1, 0))[:-1]
    peaks = ((speed == largest) & (speed >= least) & first).nonzero()[:, 0]
    # the speed between frames i and i + 1, whose middles are at i + ½ and i + 1½
    return [(peak + 1) / expression.fps for peak in peaks.tolist()]
