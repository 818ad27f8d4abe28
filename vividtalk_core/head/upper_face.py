"""Brows and lower lids as three curves: what people move with the head and with stress, not with single sounds.

The curves are the height of the brows, how much higher their inner ends are than their outer ends, and how far the
lower lids are raised, mean of both sides, relative to the face at rest. They are measured from the landmarks and not
taken from a fit's coefficients, because a fit explains most of a small motion of the brows by the head pose.

All lengths are in units of the inter-ocular distance (IOD), the distance of the outer eye corners seen from the front.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import rotation_matrix
from ..structures import ARKIT_NAMES, MorphableModel
from .morphable import at_landmarks, landmark_positions, shape
from .mouth_shape import EYES, upright
from .topology import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

CURVES = ("brow_height", "inner_brow", "lower_lids")
# upper and lower rim of the brows
INNER_BROWS = (66, 107, 65, 55, 296, 336, 295, 285)
OUTER_BROWS = (70, 63, 46, 53, 300, 293, 276, 283)
CORNERS = (*RIGHT_EYE_CORNERS, *LEFT_EYE_CORNERS)
LOWER_LIDS = (145, 374)
POINTS = (*EYES, *CORNERS, *INNER_BROWS, *OUTER_BROWS, *LOWER_LIDS)
# The eyes' own coefficients move lids, and with them corners: their effect is not counted.
EYE_MOTION = ("eyeBlink", "eyeLook")
# IOD by which a coefficient of 1, of both sides, moves the mean head.
BROW_DOWN = 0.054
INNER_UP = 0.046  # at the inner ends
OUTER_UP = 0.056  # at the outer ends
OUTER_AT_INNER = 0.010  # the outer brows raise the inner ends too
SQUINT = 0.038  # of the lower lids: eyeSquint, and cheekSquint at `CHEEK_SHARE` of it
CHEEK_SHARE = 0.5


def upper_face_of_landmarks(
    landmarks: Tensor, rotation: Tensor, coefficients: Tensor, id_coefficients: Tensor, model: MorphableModel
) -> Tensor:
    """The three curves of a tracked face.

    What a turned head, blinks and the gaze change in the picture is computed with the 3DMM and subtracted.

    Args:
        landmarks: [T, N, 2] px, N ≥ 468, y down.
        rotation: [T, 3] rad, absolute.
        coefficients: [T, E] β as tracked, of which those of blinks and gaze count.
        id_coefficients: [I] α.
        model: the 3DMM of both.

    Returns:
        [T, 3] in IOD, relative to the clip's median.
    """
    small, _ = at_landmarks(model, POINTS)
    kept = torch.tensor([name.startswith(EYE_MOTION) for name in model.exp_names])
    head = landmark_positions(small, shape(small, id_coefficients, coefficients * kept))  # [T, 468, 3]
    front = head[:, EYES[0], :2] - head[:, EYES[1], :2]
    turned = (head @ rotation_matrix(rotation).mT)[..., :2] * head.new_tensor((1.0, -1.0))
    # a head turned aside has a shorter IOD in the picture
    shortened = (turned[:, EYES[0]] - turned[:, EYES[1]]).norm(dim=-1) / front.norm(dim=-1)
    curves: Tensor = (_measure(landmarks[..., :2]) - _measure(turned)) * shortened[:, None]
    return curves - curves.median(0).values


def _measure(points: Tensor) -> Tensor:
    """Heights above the eye corners, [T, 3] in IOD of the frame, of landmarks [T, N, 2], y down."""
    distance: Tensor = (points[:, EYES[1]] - points[:, EYES[0]]).norm(dim=-1, keepdim=True)
    up = -upright(points)[1]
    corners = points[:, list(CORNERS)].mean(1)
    inner, outer, lids = (
        ((points[:, list(group)].mean(1) - corners) * up).sum(-1) for group in (INNER_BROWS, OUTER_BROWS, LOWER_LIDS)
    )
    return torch.stack(((inner + outer) / 2, inner - outer, lids), -1) / distance


def upper_face_of_coefficients(coefficients: Tensor, model: MorphableModel) -> Tensor:
    """The three curves [T, 3] in IOD by which coefficients [T, E] move the mean head, without blinks and gaze."""
    small, _ = at_landmarks(model, POINTS)
    kept = torch.tensor([not name.startswith(EYE_MOTION) for name in model.exp_names])
    mean = small.id_basis.new_zeros(len(small.id_basis))
    # the last row is the head at rest
    rows = torch.cat((coefficients * kept, coefficients.new_zeros(1, coefficients.shape[1])))
    curves = _measure(landmark_positions(small, shape(small, mean, rows))[..., :2] * rows.new_tensor((1.0, -1.0)))
    return curves[:-1] - curves[-1]


def upper_face_coefficients(curves: Tensor) -> Tensor:
    """Coefficients [T, 52] 0..1 that move a head by the curves [T, 3] in IOD.

    Brows below rest become browDown, brows above it browInnerUp and browOuterUp, each end by its own height; raised
    lower lids become eyeSquint and cheekSquint. Lowered lids have no coefficient of their own.
    """
    height, inner, lids = curves.unbind(-1)
    raised = height.clamp(min=0)
    outer_up = (raised - inner / 2).clamp(min=0) / OUTER_UP
    inner_up = (raised + inner / 2 - OUTER_AT_INNER * outer_up).clamp(min=0) / INNER_UP
    squint = lids.clamp(min=0) / SQUINT
    named = {
        "browDownLeft": -height / BROW_DOWN,
        "browDownRight": -height / BROW_DOWN,
        "browInnerUp": inner_up,
        "browOuterUpLeft": outer_up,
        "browOuterUpRight": outer_up,
        "eyeSquintLeft": squint,
        "eyeSquintRight": squint,
        "cheekSquintLeft": CHEEK_SHARE * squint,
        "cheekSquintRight": CHEEK_SHARE * squint,
    }
    coefficients = curves.new_zeros(len(curves), len(ARKIT_NAMES))
    for name, values in named.items():
        coefficients[:, ARKIT_NAMES.index(name)] = values
    return coefficients.clamp(0, 1)
