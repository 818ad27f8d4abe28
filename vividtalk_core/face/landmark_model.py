"""The 3DMM at the landmarks: the points that the solver compares with the detected ones, and their weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import ramp
from ..geometry import area_normals
from ..head.morphable import iris_vertices, landmark_positions
from ..head.topology import (
    FACE_OVAL,
    INNER_LIP_PAIRS,
    INNER_LIPS,
    LEFT_EYE_CORNERS,
    LEFT_IRIS,
    LEFT_LID_PAIRS,
    OUTER_LIPS,
    RIGHT_EYE_CORNERS,
    RIGHT_IRIS,
    RIGHT_LID_PAIRS,
)
from ..structures import MorphableModel
from .priors import ExpressionPrior, expression_prior

# Of the largest displacement by jawOpen, above which a point belongs to the chin.
CARRIED = 0.3
EYES = ((LEFT_LID_PAIRS, LEFT_EYE_CORNERS), (RIGHT_LID_PAIRS, RIGHT_EYE_CORNERS))
# Weight of points that face away: small, but not 0, or nothing would hold that side in place.
LEAST_FACING = 0.05
# Openings of the eye between which the weight of its iris grows from 0 to 1: behind closed lids it is guessed.
HIDDEN_IRIS, SHOWN_IRIS = 0.08, 0.18


@dataclass(frozen=True, slots=True)
class SolveSettings:
    """Weights of the fit: squared px of the 256 crop, per landmark, against the priors."""

    lips: float = 3.0
    eyes: float = 2.0
    oval: float = 0.3  # it slides along the cheek as the head turns
    irises: float = 2.0
    chin: float = 0.3  # and cheeks, all that the jaw moves except the lips: the network finds them less exactly
    lip_gap: float = 3.0  # of each upper–lower pair: a closed mouth must be closed
    lid_gap: float = 3.0
    depth: float = 0.03  # MediaPipe's z, in px
    identity: float = 6.0  # of α², per frame
    expression: float = 120.0  # of β², times its cost
    sparsity: float = 30.0  # of β, times its cost: few coefficients at a time, the jaw before the lips' finer ones
    exclusion: float = 120.0  # of the product of opposite movements
    iterations: int = 5  # with the identity
    frame_iterations: int = 4  # with a known identity
    sweeps: int = 12  # of the box-constrained quadratic, per iteration


@dataclass(frozen=True, eq=False, slots=True)
class LandmarkModel:
    """The 3DMM at the P = 470 points that are compared: 468 landmarks, then the left and the right iris."""

    mean: Tensor  # [P, 3]
    identity: Tensor  # [I, P, 3]
    expression: Tensor  # [E, P, 3]
    normals: Tensor  # [P, 3] of the mean
    weight: Tensor  # [P]
    pairs: Tensor  # [K, 2] upper and lower points whose gap counts by itself
    pair_weight: Tensor  # [K]
    prior: ExpressionPrior

    def shape(self, id_coefficients: Tensor, exp_coefficients: Tensor) -> Tensor:
        """Points [T, P, 3] for α [I] and β [T, E]."""
        identity: Tensor = torch.tensordot(id_coefficients, self.identity, 1)  # [P, 3]
        expression: Tensor = torch.tensordot(exp_coefficients, self.expression, 1)  # [T, P, 3]
        return self.mean + identity + expression


def landmark_model(model: MorphableModel, settings: SolveSettings) -> LandmarkModel:
    """Restrict the 3DMM to the points of the landmarks, with the weights of the settings."""

    def points(vertices: Tensor) -> Tensor:
        """[..., P, 3] of vertices [..., V, 3]."""
        irises = vertices[..., iris_vertices(model), :]
        return torch.cat((landmark_positions(model, vertices), irises), -2)

    # on the CPU, because the weights are set point by point
    jaw = points(model.exp_basis[model.exp_names.index("jawOpen")]).norm(dim=-1).cpu()
    weight = torch.where(jaw > CARRIED * jaw.max(), settings.chin, 1.0)
    # multiplied, because the lower half of the oval is chin as well; lips and eyes then replace what the jaw gave them
    weight[list(FACE_OVAL)] *= settings.oval
    weight[list(INNER_LIPS + OUTER_LIPS)] = settings.lips
    lids = [k for pair in LEFT_LID_PAIRS + RIGHT_LID_PAIRS for k in pair]
    weight[[*lids, *LEFT_EYE_CORNERS, *RIGHT_EYE_CORNERS]] = settings.eyes
    weight[468:] = settings.irises
    gaps = [settings.lip_gap] * len(INNER_LIP_PAIRS) + [settings.lid_gap] * len(LEFT_LID_PAIRS + RIGHT_LID_PAIRS)
    device = model.mean_shape.device
    prior = expression_prior(model.exp_names, settings.expression, settings.sparsity, settings.exclusion)
    return LandmarkModel(
        mean=points(model.mean_shape),
        identity=points(model.id_basis),
        expression=points(model.exp_basis),
        normals=landmark_normals(model),
        weight=weight.to(device),
        pairs=torch.tensor(INNER_LIP_PAIRS + LEFT_LID_PAIRS + RIGHT_LID_PAIRS, device=device),
        pair_weight=torch.tensor(gaps, device=device),
        prior=ExpressionPrior(prior.matrix.to(device), prior.linear.to(device), prior.limit.to(device)),
    )


def landmark_normals(model: MorphableModel) -> Tensor:
    """Directions [P, 3] in which the points face, unit vectors on the mean shape; the irises face forwards.

    The mean of the skin's normal and the direction away from the neck's axis: at the folds of lips and lids the normals
    alone change too quickly.
    """
    normals = area_normals(model.mean_shape, model.triangles)
    # without y, because the axis of the neck is vertical
    outward = landmark_positions(model, model.mean_shape) * model.mean_shape.new_tensor((1, 0, 1))
    normals = F.normalize(landmark_positions(model, normals), dim=-1) + F.normalize(outward, dim=-1)
    ahead = normals.new_tensor([[0.0, 0.0, 1.0]]).expand(2, 3)
    return F.normalize(torch.cat((normals, ahead)), dim=-1)


def observed_points(landmarks: Tensor) -> Tensor:
    """MediaPipe's landmarks [T, 478, 3] to the P = 470 points of a `LandmarkModel`, same units."""
    return torch.cat((landmarks[:, :468], landmarks[:, [LEFT_IRIS[0], RIGHT_IRIS[0]]]), 1)


def point_weights(model: LandmarkModel, settings: SolveSettings, rotation: Tensor, observed: Tensor) -> Tensor:
    """Square roots [T, P, 3] of the weights of x, y and z.

    Points that face away from the viewer count less, and so does an iris behind its lids: the network cannot see them.
    """
    # square roots at the end, because the solver squares weighted residuals
    weight = model.weight * facing_weight(rotation, model.normals).clamp(min=LEAST_FACING)
    opened = torch.stack([eye_opening(observed, *eye) for eye in EYES], 1)  # [T, 2]
    shown = ramp(opened, HIDDEN_IRIS, SHOWN_IRIS)
    weight = torch.cat((weight[:, :468], weight[:, 468:] * shown), 1)
    return torch.stack((weight, weight, weight * settings.depth), -1).sqrt()


def facing_weight(rotation: Tensor, normals: Tensor) -> Tensor:
    """How far points with normals [P, 3] face the viewer after rotations [T, 3, 3]: [T, P], 0 just behind the edge.

    The third row of a rotation is the line of sight in the head frame.
    """
    # the weight is 0 at 6° behind the edge, because normals on the outline are inexact, and 1 at 17° before it
    return ramp(rotation[:, 2] @ normals.T, -0.1, 0.3)


def eye_opening(points: Tensor, lids: tuple[tuple[int, int], ...], corners: tuple[int, int]) -> Tensor:
    """Mean gap [T] between the lids of landmarks [T, N, D], N ≥ 468, divided by the width of the eye."""
    upper, lower = (points[:, list(side), :2] for side in zip(*lids, strict=True))
    width: Tensor = (points[:, corners[0], :2] - points[:, corners[1], :2]).norm(dim=-1)
    gap: Tensor = (upper - lower).norm(dim=-1).mean(1)
    return gap / width
