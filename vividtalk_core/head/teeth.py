"""Teeth and tongue behind the portrait's own lips.

The identity basis is fitted to landmarks, and none lies on the teeth: a face whose lips lie higher or further out than
the model's would show its palate or no teeth at all. Teeth are rigid, and each row is moved as a whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..structures import FaceFit
from .morphable import landmark_positions, shape, vertices_of

LIP_SEAM = (13, 14)  # landmarks of the upper and lower inner lip, in the middle
FRONT_DEPTH = 0.12  # model units behind the foremost tooth that count as the front of a row
# Where the biting edge lies above the seam of the closed lips, model units: as soon as lips part, the upper incisors
# show and the lower ones hardly do.
UPPER_EDGE, LOWER_EDGE = -0.07, -0.05


def place_teeth(face: FaceFit, head: Tensor) -> Tensor:
    """The head [V, 3] (head frame) with teeth and tongue moved, as rigid parts, to the seam of the closed lips."""
    closed = shape(face.model, face.id_coefficients, torch.zeros_like(face.exp_coefficients))
    seam = landmark_positions(face.model, closed)[list(LIP_SEAM)].mean(0)
    # where the portrait's own lips are, which identity components alone do not reach
    seam = seam + face.vertex_offsets[face.model.lip_vertices].mean(0)
    own = shape(face.model, face.id_coefficients, face.exp_coefficients)
    placed = head.clone()
    for name, edge, side in (("upper", UPPER_EDGE, -1.0), ("lower", LOWER_EDGE, 1.0)):
        crowns = vertices_of(face.model, f"{name}_teeth")
        shift = seam.new_tensor((0.0, float(seam[1]) + edge - front_edge(closed[crowns], side), 0.0))
        row = vertices_of(face.model, f"{name}_teeth", f"{name}_gums")
        placed[row] = own[row] + shift
    # the tongue moves with the lower teeth, the last of the two rows
    tongue = vertices_of(face.model, "tongue")
    placed[tongue] = own[tongue] + shift
    return placed


def front_edge(row: Tensor, side: float) -> float:
    """Height of the biting edge of the front of a row of teeth [N, 3]; side −1: its lowest point, 1: its highest."""
    front = row[row[:, 2] > row[:, 2].amax() - FRONT_DEPTH]
    return float((front[:, 1] * side).amax()) * side
