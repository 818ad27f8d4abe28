"""Landmarks to α, β and pose: a Gauss–Newton solver with analytic Jacobians, batched over frames.

All frames share one identity. Expression coefficients stay in 0..1: each step solves a box-constrained quadratic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry import CAMERA_DISTANCE, FOCAL_LENGTH, fit_similarity, project
from ..structures import CROP
from .landmark_model import LandmarkModel, SolveSettings, point_weights

POSE = 6  # ω_x, ω_y, ω_z rad, then t_x, t_y, t_z model units
CHUNK = 64  # frames whose Jacobians are held at a time


@dataclass(frozen=True, eq=False, slots=True)
class Solution:
    """The fitted parameters of T frames of one person."""

    id_coefficients: Tensor  # [I]
    exp_coefficients: Tensor  # [T, E]
    rotation: Tensor  # [T, 3, 3]
    translation: Tensor  # [T, 3]


@dataclass(frozen=True, eq=False, slots=True)
class _Normal:
    """Normal equations of a step: H·δ = g for the frames' own unknowns (pose, β) and for the shared α."""

    own: Tensor  # [T, N, N], N = 6 + E
    shared: Tensor  # [I, I]
    cross: Tensor  # [T, N, I]
    own_gradient: Tensor  # [T, N]
    shared_gradient: Tensor  # [I]


def solve(
    model: LandmarkModel,
    observed: Tensor,
    settings: SolveSettings,
    id_coefficients: Tensor | None = None,
) -> Solution:
    """Fit T frames of one person.

    Args:
        model: the 3DMM at the points.
        observed: [T, 470, 3] px of the 256 crop, pixel centres at .5; z in px, smaller is nearer.
        settings: weights.
        id_coefficients: [I] α if it is known; else it is fitted to all frames together.

    Returns:
        The solution; expression coefficients in 0..1.
    """
    if id_coefficients is None:
        mean = model.mean.new_zeros(len(model.identity))
        return _refine(model, observed, settings, initial_solution(model, observed, mean), True)
    parts = []
    # once the identity is known, frames do not depend on each other
    for chunk in torch.split(observed, CHUNK):
        parts.append(_refine(model, chunk, settings, initial_solution(model, chunk, id_coefficients), False))
    return Solution(
        id_coefficients,
        torch.cat([p.exp_coefficients for p in parts]),
        torch.cat([p.rotation for p in parts]),
        torch.cat([p.translation for p in parts]),
    )


def initial_solution(model: LandmarkModel, observed: Tensor, identity: Tensor) -> Solution:
    """The start of the solver: β = 0 [T, E], and the pose of the similarity that maps the mean onto the landmarks.

    The similarity includes depth and is found in closed form (Umeyama 1991): a singular value decomposition of the
    covariance, with a sign that excludes reflections.
    """
    frames = len(observed)
    shape = model.shape(identity, model.mean.new_zeros(1, len(model.expression)))[0]
    # in the image y points down and z away from the viewer, in the model up and towards the viewer
    target = observed * observed.new_tensor((1, -1, -1))
    # weights above 1 are those of lips and eyes, which move with the expression and must not decide the pose
    fit = fit_similarity(shape, target, model.weight.clamp(max=1))  # its scale is px per model unit
    depth = FOCAL_LENGTH / fit.scale
    x = (fit.target_centre[:, 0] - CROP / 2) / fit.scale
    y = (fit.target_centre[:, 1] + CROP / 2) / fit.scale
    translation = torch.stack((x, y, CAMERA_DISTANCE - depth), 1) - fit.rotation @ fit.source_centre
    return Solution(identity, model.mean.new_zeros(frames, len(model.expression)), fit.rotation, translation)


def _refine(
    model: LandmarkModel, observed: Tensor, settings: SolveSettings, start: Solution, with_identity: bool
) -> Solution:
    """Gauss–Newton steps from `start` towards the observed points [T, P, 3]."""
    solution = start
    for _ in range(settings.iterations if with_identity else settings.frame_iterations):
        normal = _normal_equations(model, observed, settings, solution, with_identity)
        solution = _step(model, settings, solution, normal, with_identity)
    return solution


def _normal_equations(
    model: LandmarkModel, observed: Tensor, settings: SolveSettings, solution: Solution, with_identity: bool
) -> _Normal:
    """H = JᵀJ and g = −Jᵀr of residuals [T, R], with the priors of β and α added."""
    residual, jacobian = _linearize(model, observed, settings, solution, with_identity)
    own, identity = jacobian[..., : POSE + len(model.expression)], jacobian[..., POSE + len(model.expression) :]
    curvature = own.mT @ own
    gradient = -(own.mT @ residual[..., None])[..., 0]
    beta, prior = solution.exp_coefficients, model.prior
    curvature[:, POSE:, POSE:] += prior.matrix
    gradient[:, POSE:] -= beta @ prior.matrix + prior.linear
    # errors of the model are alike in all frames: the prior grows with their number, or many frames would overrule it
    identity_weight = settings.identity * len(observed)
    ridge = identity_weight * torch.eye(identity.shape[-1], device=residual.device)
    return _Normal(
        own=curvature,
        shared=(identity.mT @ identity).sum(0) + ridge,
        cross=own.mT @ identity,
        own_gradient=gradient,
        shared_gradient=-(identity.mT @ residual[..., None]).sum(0)[:, 0]
        - identity_weight * solution.id_coefficients[: identity.shape[-1]],
    )


def _linearize(
    model: LandmarkModel, observed: Tensor, settings: SolveSettings, solution: Solution, with_identity: bool
) -> tuple[Tensor, Tensor]:
    """Weighted residuals [T, R] and their derivative [T, R, 6 + E (+ I)] by pose, β and α."""
    turned = model.shape(solution.id_coefficients, solution.exp_coefficients) @ solution.rotation.mT
    camera = turned + solution.translation[:, None]
    pixels = project(camera)
    by_camera = _projection_derivative(camera, pixels)  # [T, P, 3, 3]
    bases = torch.cat((model.expression, model.identity)) if with_identity else model.expression
    by_shape = torch.einsum("tpij,tjk,bpk->tpib", by_camera, solution.rotation, bases)
    # a small turn ω moves a point p by ω × p = −p × ω
    by_turn = torch.einsum("tpij,tpjk->tpik", by_camera, -_cross_matrix(turned))
    jacobian = torch.cat((by_turn, by_camera, by_shape), -1)
    # px per model unit at the mean depth, because MediaPipe gives z in px
    scale = FOCAL_LENGTH / pixels[..., 2].mean(1)[:, None]
    depth = -camera[..., 2] * scale
    residual = torch.cat((pixels[..., :2], depth[..., None]), -1) - observed
    # MediaPipe's depth has no origin: only differences within a frame are compared
    residual[..., 2] -= residual[..., 2].mean(1, keepdim=True)
    jacobian[..., 2, :] -= jacobian[..., 2, :].mean(1, keepdim=True)
    weight = point_weights(model, settings, solution.rotation, observed)  # [T, P, 3]
    upper, lower = model.pairs.T
    # gaps count by themselves: lips that are displaced together have small residuals, but must still be closed
    pair_weight = model.pair_weight.sqrt()[:, None]
    gap = (residual[:, upper, :2] - residual[:, lower, :2]) * pair_weight
    gap_jacobian = (jacobian[:, upper, :2] - jacobian[:, lower, :2]) * pair_weight[..., None]
    residual = torch.cat(((residual * weight).flatten(1), gap.flatten(1)), 1)
    return residual, torch.cat(((jacobian * weight[..., None]).flatten(1, 2), gap_jacobian.flatten(1, 2)), 1)


def _projection_derivative(camera: Tensor, pixels: Tensor) -> Tensor:
    """Derivative [T, P, 3, 3] of x px, y px and depth in px by the camera-space point."""
    depth = pixels[..., 2]
    near, zero = FOCAL_LENGTH / depth, torch.zeros_like(depth)
    rows = (
        near, zero, near * camera[..., 0] / depth,
        zero, -near, -near * camera[..., 1] / depth,
        zero, zero, -(FOCAL_LENGTH / depth.mean(1, keepdim=True)).expand_as(depth),
    )  # fmt: skip
    return torch.unflatten(torch.stack(rows, -1), -1, (3, 3))


def _cross_matrix(points: Tensor) -> Tensor:
    """[..., 3, 3] with matrix·v = point × v."""
    x, y, z = points.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.unflatten(torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1), -1, (3, 3))


def _step(
    model: LandmarkModel, settings: SolveSettings, solution: Solution, normal: _Normal, with_identity: bool
) -> Solution:
    """One Gauss–Newton step: α with the frames' unknowns eliminated, then each frame's β in its box, then its pose."""
    beta, limit = solution.exp_coefficients, model.prior.limit
    identity, gradient = solution.id_coefficients, normal.own_gradient
    if with_identity:
        change = _identity_step(normal, beta, limit)
        identity = identity + change
        gradient = gradient - normal.cross @ change
    # the pose has no bounds: it is eliminated (Schur complement), and the box is solved for β alone
    pose, mixed, own = normal.own[:, :POSE, :POSE], normal.own[:, POSE:, :POSE], normal.own[:, POSE:, POSE:]
    reduction = torch.linalg.solve(pose, torch.cat((mixed.mT, gradient[:, :POSE, None]), -1))  # [T, 6, E + 1]
    curvature = own - mixed @ reduction[..., :-1]
    reduced = gradient[:, POSE:] - (mixed @ reduction[..., -1:])[..., 0]
    moved = box_quadratic(curvature, reduced, beta, limit, settings.sweeps)
    turn = reduction[..., -1] - (reduction[..., :-1] @ (moved - beta)[..., None])[..., 0]
    angle = turn[:, :3]
    # the exponential of a turn is a rotation, whereas 1 + ω× would also scale
    rotation = torch.linalg.matrix_exp(_cross_matrix(angle)) @ solution.rotation
    return Solution(identity, moved, rotation, solution.translation + turn[:, 3:])


def _identity_step(normal: _Normal, beta: Tensor, limit: Tensor) -> Tensor:
    """The change [I] of α; coefficients β [T, E] at a bound, with a gradient that points outside, count as fixed."""
    pull = normal.own_gradient[:, POSE:]
    held = ((beta <= 0) & (pull < 0)) | ((beta >= limit) & (pull > 0))
    free = torch.cat((torch.ones_like(normal.own_gradient[:, :POSE]), (~held).to(beta.dtype)), 1)
    # rows and columns of fixed coefficients become those of the unit matrix: their step is 0
    own = normal.own * free[:, :, None] * free[:, None] + torch.diag_embed(1 - free)
    cross = normal.cross * free[..., None]
    solved = torch.linalg.solve(own, torch.cat((cross, (normal.own_gradient * free)[..., None]), -1))
    curvature = normal.shared - (cross.mT @ solved[..., :-1]).sum(0)
    gradient = normal.shared_gradient - (cross.mT @ solved[..., -1:]).sum(0)[:, 0]
    change: Tensor = torch.linalg.solve(curvature, gradient)
    return change


def box_quadratic(curvature: Tensor, gradient: Tensor, start: Tensor, limit: Tensor, sweeps: int) -> Tensor:
    """Minimise ½·δᵀ·H·δ − g·δ for x = start + δ in the box 0 ≤ x ≤ limit, by coordinate descent.

    Args:
        curvature: [T, E, E] H.
        gradient: [T, E] g.
        start: [T, E] inside the box.
        limit: [E].
        sweeps: over all coordinates.

    Returns:
        [T, E] x.
    """
    # the gradient is updated after each coordinate (Gauss–Seidel): a sweep over E coordinates costs one product with H
    x, pull = start.clone(), gradient.clone()
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    for _ in range(sweeps):
        for k in range(x.shape[1]):
            moved = torch.minimum((x[:, k] + pull[:, k] / diagonal[:, k]).clamp(min=0), limit[k])
            pull -= curvature[:, :, k] * (moved - x[:, k])[:, None]
            x[:, k] = moved
    return x
