"""Residuals of the landmarks that the 3DMM does not explain, spread smoothly over the head's vertices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..filters import gaussian, smoothstep
from ..geometry import FOCAL_LENGTH, project, rotation_matrix
from ..head.morphable import landmark_positions
from ..head.topology import INNER_LIPS, OUTER_LIPS
from ..structures import HeadPose, MorphableModel
from .landmark_model import facing_weight, landmark_normals

REACH = 0.4  # width of a landmark's influence over the distance to its 5th neighbour
FADE = 0.15  # model units beyond the outermost landmarks over which the offsets fade to zero
# Landmarks are spread with lips and lids apart: closed ones touch, and upper and lower would be mixed.
PARTED = {"jawOpen": 0.4, "eyeBlinkLeft": -0.5, "eyeBlinkRight": -0.5}
NEIGHBOUR = 5
# Keeps the interpolation from oscillating where landmarks crowd.
RIDGE = 0.005


@dataclass(frozen=True, eq=False, slots=True)
class OffsetSpread:
    """How displacements of the landmarks move the vertices."""

    matrix: Tensor  # [V, 468], linear; at the landmarks almost exact
    normals: Tensor  # [468, 3] of the mean: landmarks on the far cheek only follow the outline, and are left out


def offset_spread(model: MorphableModel) -> OffsetSpread:
    """The map from landmarks to vertices.

    Normalised Gaussians around the landmarks, corrected so that they interpolate, fading out beyond the face.
    """
    parted = model.mean_shape.clone()
    for name, amount in PARTED.items():
        parted += amount * model.exp_basis[model.exp_names.index(name)]
    points = landmark_positions(model, parted)
    # narrow where landmarks are dense, at lips and lids, and wide on the cheeks
    width = REACH * torch.cdist(points, points).sort(1).values[:, NEIGHBOUR]  # [468]
    distance = torch.cdist(parted, points)  # [V, 468]
    kernel = gaussian(distance, width)
    beyond = (distance.amin(1, keepdim=True) - width.median()).clamp(min=0)
    weight = kernel / kernel.sum(1, keepdim=True).clamp(min=1e-12) * gaussian(beyond, FADE)
    at_landmarks = (weight[model.landmark_vertices] * model.landmark_weights[..., None]).sum(1)  # [468, 468]
    # least squares with a ridge: several landmarks may share a triangle, which cannot follow all of them
    gram = at_landmarks.T @ at_landmarks + RIDGE * torch.eye(len(at_landmarks), device=weight.device)
    return OffsetSpread(weight @ torch.linalg.solve(gram, at_landmarks.T), landmark_normals(model)[:468])


def vertex_offsets(
    model: MorphableModel, vertices: Tensor, pose: HeadPose, observed: Tensor, spread: OffsetSpread
) -> Tensor:
    """Displacements [T, V, 3] in the head frame that bring the projected landmarks onto the observed ones.

    Args:
        model: the 3DMM.
        vertices: [T, V, 3] the fitted head, head frame.
        pose: T frames, absolute.
        observed: [T, 468, 2] px of the 256 crop.
        spread: from `offset_spread`.
    """
    rotation = rotation_matrix(pose.rotation)
    pixels = project(vertices @ rotation.mT + pose.translation[:, None])
    visible = facing_weight(rotation, spread.normals)[..., None]
    residual = (observed - landmark_positions(model, pixels)[..., :2]) * visible
    frames = len(residual)
    # one tall product: a batched one would read the large matrix again for each frame
    product = spread.matrix @ residual.movedim(0, 1).flatten(1)  # [V, T · 2]
    moved_px = torch.unflatten(product, 1, (frames, 2)).movedim(1, 0)
    moved = moved_px * (pixels[..., 2:] / FOCAL_LENGTH)  # [T, V, 2] model units, y down
    # none in depth, which landmarks in the image plane do not determine
    return torch.stack((moved[..., 0], -moved[..., 1], torch.zeros_like(moved[..., 0])), -1) @ rotation


def lip_taper(model: MorphableModel) -> Tensor:
    """Weights [L] of the lip vertices, 1 at the lips, 0 at the region's border, so that no step appears in the skin."""
    lips = landmark_positions(model, model.mean_shape)[list(INNER_LIPS + OUTER_LIPS)]  # [N, 3]
    distance = torch.cdist(model.mean_shape[model.lip_vertices], lips).amin(1)
    return smoothstep((1 - distance / distance.amax()).mul(2))
