"""Lids that close on the portrait's own eyes.

A blendshape closes the eyes of the head for which it was sculpted; on a fitted face it leaves a gap or goes too far.
Here the blink is computed from the portrait's own lid landmarks: the upper lash line moves down onto the lower one, and
the skin between lash line and brow follows in proportion, as skin stretches over the lid.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..structures import ARKIT_NAMES, FaceFit
from .morphable import landmark_positions, shape
from .topology import LEFT_BROW_LOWER, LEFT_LID_PAIRS, RIGHT_BROW_LOWER, RIGHT_LID_PAIRS

EYES = (
    ("eyeBlinkLeft", LEFT_LID_PAIRS, LEFT_BROW_LOWER),
    ("eyeBlinkRight", RIGHT_LID_PAIRS, RIGHT_BROW_LOWER),
)
LOWER_LID_RISE = 0.12  # share of the opening that the lower lid closes
# The lash lines cross by this much: without it a white gap remains.
OVERLAP = 0.12  # of the opening
ALREADY_CLOSED = 0.85  # a blink coefficient above which the portrait's eye counts as closed


def lid_closure(face: FaceFit) -> Iterator[tuple[str, Tensor, float]]:
    """Of each open eye: the name of its blink, the displacement [V, 3] that closes it, and how far it is open, 0..1."""
    head = shape(face.model, face.id_coefficients, face.exp_coefficients) + face.vertex_offsets
    points = landmark_positions(face.model, head)
    for name, pairs, brow in EYES:
        index = ARKIT_NAMES.index(name)
        opened = 1 - float(face.exp_coefficients[index])
        if opened > 1 - ALREADY_CLOSED:
            yield name, _closing_field(head, points, face.model.exp_basis[index], pairs, brow), opened


def _closing_field(
    head: Tensor, points: Tensor, blink: Tensor, pairs: tuple[tuple[int, int], ...], brow: tuple[int, ...]
) -> Tensor:
    """Displacement [V, 3] of the vertices `head` [V, 3] that brings the upper lid onto the lower one."""
    upper, lower = (points[list(side)] for side in zip(*pairs, strict=True))  # [7, 3]
    closing = (lower - upper) * (1 + OVERLAP)
    along = _column_weights(head[:, 0], upper[:, 0])  # [V, 7]
    move = along @ closing  # [V, 3]
    lash_y, floor_y = along @ upper[:, 1], along @ lower[:, 1]
    brow_y = _column_weights(head[:, 0], points[list(brow), 0]) @ points[list(brow), 1]
    # the skin between lash line and brow moves in proportion to its height: nothing tears at the brow, which stays
    rise = ((brow_y - head[:, 1]) / (brow_y - lash_y).clamp(min=1e-3)).clamp(0, 1)  # 1 at the lash line, 0 at the brow
    sink = ((head[:, 1] - (floor_y - 0.15)) / 0.15).clamp(0, 1)  # 1 at the lower lid, 0 where the cheek begins
    # where the eye is nearly closed, height cannot separate the two lids; the direction of the blendshape can
    is_upper = blink[:, 1] < -0.15 * blink[:, 1].abs().amax()  # lashes and lid edge: what the blendshape lowers
    above = head[:, 1] > (lash_y + floor_y) / 2
    weight = torch.where(is_upper | above, rise * (1 - LOWER_LID_RISE), -sink * LOWER_LID_RISE)
    # beside the eye and behind it nothing may move: temple, ears and the back of the head have the same heights as lids
    middle, half = upper[:, 0].mean(), (upper[:, 0].amax() - upper[:, 0].amin()) / 2
    beyond = ((head[:, 0] - middle).abs() / half - 1.15).clamp(min=0)
    weight = weight * torch.exp(-((beyond / 0.25) ** 2)) * (head[:, 2] > upper[:, 2].amin() - 0.35)
    return move * weight[:, None]


def _column_weights(x: Tensor, columns: Tensor) -> Tensor:
    """Linear interpolation weights [V, N] of x [V] among columns [N], held beyond both ends."""
    order = columns.argsort()
    knots = columns[order]
    right = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = ((x - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    weights = x.new_zeros(len(x), len(knots))
    weights.scatter_(1, order[right - 1, None], (1 - share)[:, None])
    weights.scatter_add_(1, order[right, None], share[:, None])
    return weights
