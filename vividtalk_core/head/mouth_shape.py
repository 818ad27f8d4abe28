"""Aperture and width of a mouth, from landmarks or from the mesh, and the height of its upper lip, from the mesh.

All lengths are in units of the inter-ocular distance (IOD), the distance of the outer eye corners: its median over the
clip, so that noise of the eyes does not change the curves of the mouth. A turned head has a shorter IOD in the picture:
beyond ±25° of yaw the curves are too large by more than a tenth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..structures import Expression, MorphableModel
from .morphable import at_landmarks, landmark_positions, shape
from .topology import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

EYES = (RIGHT_EYE_CORNERS[0], LEFT_EYE_CORNERS[0])  # outer corners
GAP = ((81, 178), (13, 14), (311, 402))  # (upper, lower) of the inner lips: a third to the left, middle, to the right
# (outer, inner) of the upper lip: what is red of it. It is lifted for f and v, whose lower lip touches the upper teeth,
# and comes down for p, b and m, which have the same small aperture.
UPPER_LIP = ((37, 82), (0, 13), (267, 312))
CORNERS = (61, 291)  # outer: they have less noise than the inner ones
CHUNK = 256  # frames of a mesh that are held at a time


def inter_ocular(landmarks: Tensor) -> Tensor:
    """Median distance [], in their own unit, of the outer eye corners of landmarks [T, N, 2] or [T, N, 3], N ≥ 468."""
    points = landmarks[..., :2]
    distance: Tensor = (points[:, EYES[0]] - points[:, EYES[1]]).norm(dim=-1)  # [T]
    return distance.median()


def aperture_of_landmarks(landmarks: Tensor) -> Tensor:
    """How far the inner lips are apart: mean of three gaps, measured across the line of the eyes.

    Args:
        landmarks: [T, N, 2] or [T, N, 3] px, N ≥ 468, y down; z is not used.

    Returns:
        [T] in IOD; about 0 when closed, slightly negative where the network lets the lips overlap.
    """
    # across the line of the eyes, so that a head that tilts to its shoulder does not open or close the mouth
    down = upright(landmarks)[1]
    upper, lower = (landmarks[:, list(side), :2] for side in zip(*GAP, strict=True))
    return ((lower - upper) * down[:, None]).sum(-1).mean(-1) / inter_ocular(landmarks)


def width_of_landmarks(landmarks: Tensor) -> Tensor:
    """Distance of the mouth corners [T] in IOD, of landmarks [T, N, 2] or [T, N, 3] px, N ≥ 468."""
    points = landmarks[..., :2]
    width: Tensor = (points[:, CORNERS[0]] - points[:, CORNERS[1]]).norm(dim=-1)
    return width / inter_ocular(landmarks)


def upright(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors [T, 2] along the line of the eyes, to the viewer's right, and at right angles to it, to the chin."""
    across = landmarks[:, EYES[1], :2] - landmarks[:, EYES[0], :2]
    across = across / across.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return across, torch.stack((-across[:, 1], across[:, 0]), -1)


def lip_curves(
    expression: Expression, model: MorphableModel, id_coefficients: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Aperture and width [T] in IOD of the mouth of a head mesh that curves move: the first two of `mouth_curves`."""
    curves = mouth_curves(expression, model, id_coefficients)
    return curves[:, 0], curves[:, 1]


def mouth_curves(expression: Expression, model: MorphableModel, id_coefficients: Tensor | None = None) -> Tensor:
    """Curves of the mouth of a head mesh that an expression moves, from the front without perspective.

    The expression is applied as it is: `neutral_*` is not subtracted. The IOD is that of the face at rest. The result
    has gradients with respect to the expression.

    Args:
        expression: coefficients [T, E] and lip offsets [T, L, 3].
        model: the 3DMM whose expressions and lip vertices these are.
        id_coefficients: [I] α; None is the mean head.

    Returns:
        [T, 3] aperture, width and height of the upper lip, IOD.
    """
    small, rows = _mouth_model(model)
    identity = model.mean_shape.new_zeros(len(model.id_basis)) if id_coefficients is None else id_coefficients
    rest = landmark_positions(small, shape(small, identity, identity.new_zeros(len(model.exp_names))))
    scale = (rest[EYES[0], :2] - rest[EYES[1], :2]).norm()
    curves = []
    # one round at least, so that 0 frames give empty curves
    for start in range(0, max(1, expression.frame_count), CHUNK):
        part = expression.frames(slice(start, start + CHUNK))
        head = shape(small, identity, part.coefficients.to(scale))
        head = head.index_add(1, rows[1], part.lip_offsets[:, rows[0]].to(scale))
        points = landmark_positions(small, head)
        upper, lower = (points[:, list(side), 1] for side in zip(*GAP, strict=True))
        width = (points[:, CORNERS[0], :2] - points[:, CORNERS[1], :2]).norm(dim=-1)
        outer, inner = (points[:, list(side), :2] for side in zip(*UPPER_LIP, strict=True))
        curves.append(torch.stack(((upper - lower).mean(-1), width, (outer - inner).norm(dim=-1).mean(-1)), -1))
    result: Tensor = torch.cat(curves) / scale
    return result


def _mouth_model(model: MorphableModel) -> tuple[MorphableModel, tuple[Tensor, Tensor]]:
    """The model with only the vertices [K, 3] of these curves; and which lip offset [N] moves which of them [N]."""
    small, kept = at_landmarks(model, (*EYES, *CORNERS, *(point for pair in GAP + UPPER_LIP for point in pair)))
    moved = (model.lip_vertices[:, None] == kept).nonzero()
    return small, (moved[:, 0], moved[:, 1])
