"""Coefficients, lip offsets and head motion → the driven mesh: M_d = P ⊗ (S̄ + α·U_id + β·U_exp + O_lip) (Eq. 3, 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import MismatchError
from ..filters import gaussian
from ..geometry import rotation_angles, rotation_matrix
from ..structures import ARKIT_NAMES, Expression, FaceFit, HeadMotion, HeadPose, MeshSequence
from .lids import lid_closure
from .morphable import landmark_positions, shape
from .teeth import place_teeth
from .topology import INNER_LIP_PAIRS

# Coefficients that part the lips: in a portrait that shows its teeth they are taken back before speech is added.
OPENING = ("jawOpen", "mouthFunnel", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft",
           "mouthUpperUpRight", "mouthShrugUpper")  # fmt: skip
# A little beyond its full activation; stronger ones let parts of the face intersect.
STRONGEST = 1.2  # of a blendshape
# Standard deviation, around the inner lips, of the displacement that closes them.
LIP_SEAM_REACH = 0.16  # model units
LOWER_LIP_SHARE = 0.65  # share of the gap between the lips that the lower lip closes


def face_mesh(face: FaceFit) -> MeshSequence:
    """The portrait's own mesh in camera space, T = 1."""
    vertices = _to_camera(head_shape(face)[None], face.pose)
    return MeshSequence(vertices, face.model.triangles, face.pose.fps)


def drive_mesh(face: FaceFit, expression: Expression, motion: HeadMotion) -> MeshSequence:
    """Move the portrait's mesh.

    Args:
        face: the fitted portrait.
        expression: T frames of curves. What is applied is their difference from `neutral_*`; with the baseline "rest"
            the portrait's mouth is closed first.
        motion: T frames on top of the portrait's own pose, at the same fps.

    Returns:
        T meshes in camera space. No motion gives `face_mesh` exactly.

    Raises:
        MismatchError: expression and head motion differ in length or frame rate, or are for another head model.
    """
    check_match(face, expression, motion)
    vertices = head_shape(face) + _expression_offsets(face, expression)  # [T, V, 3]
    vertices[:, face.model.lip_vertices] += expression.lip_offsets - expression.neutral_lip_offsets
    still = _to_camera(vertices, face.pose)
    moved = _to_camera(vertices, compose(motion, face.pose))
    # the neck lies between the head, which moves, and the shoulders, which stay in the portrait
    return MeshSequence(torch.lerp(still, moved, face.model.pose_weight[:, None]), face.model.triangles, motion.fps)


def compose(motion: HeadMotion, base: HeadPose) -> HeadPose:
    """Motion [T, 3] on top of a base pose [1, 3]: the rotations are multiplied, the translations added."""
    rotation = rotation_matrix(motion.rotation) @ rotation_matrix(base.rotation)
    return HeadPose(rotation_angles(rotation), motion.translation + base.translation, motion.fps)


def head_shape(face: FaceFit) -> Tensor:
    """[V, 3] the portrait's own head in the head frame: 3DMM, offsets of the landmarks, and placed teeth."""
    head = shape(face.model, face.id_coefficients, face.exp_coefficients) + face.vertex_offsets
    return place_teeth(face, head)


def check_match(face: FaceFit, expression: Expression, motion: HeadMotion) -> None:
    """MismatchError unless expression and head motion have one length and rate, and the lips are of this head model."""
    frames, others = expression.frame_count, motion.frame_count
    if frames != others:
        raise MismatchError(f"the expression has {frames} frames and the head pose {others}", advice=("length",))
    if abs(expression.fps - motion.fps) > 1e-3:
        found = f"the expression has {expression.fps:g} fps and the head pose {motion.fps:g}"
        raise MismatchError(found, advice=("rate",))
    lips, known = expression.lip_offsets.shape[1], len(face.model.lip_vertices)
    if lips != known:
        raise MismatchError(
            f"the lip offsets are for {lips} vertices, this head model has {known}: use the same weights."
        )


def _expression_offsets(face: FaceFit, expression: Expression) -> Tensor:
    """[T, V, 3] displacements of the head's vertices by the change of the coefficients."""
    neutral = expression.neutral_coefficients
    rest, offsets = face.exp_coefficients, torch.zeros_like(face.vertex_offsets)
    if expression.baseline == "rest":
        rest, offsets = _rest(face)
    change = expression.coefficients - neutral  # [T, E]
    # an expression that the portrait already shows is not added a second time: the sum stays below `STRONGEST`
    change = torch.minimum(change, (STRONGEST - rest).clamp(min=0)) + rest - face.exp_coefficients
    # a copy, because the fields that close the eyes are of this portrait and the model is shared
    basis = face.model.exp_basis.clone()
    for name, field, opened in lid_closure(face):
        index = ARKIT_NAMES.index(name)
        basis[index] = field / opened
        change[:, index] = _closing(expression.coefficients[:, index], neutral[index]) * opened
    # row by row: a matrix product rounds differently for another number of rows, and no chunk may change a frame
    moved = torch.stack([row @ basis.flatten(1) for row in change])  # [T, V · 3]
    return torch.unflatten(moved, 1, (-1, 3)) + offsets


def _closing(blink: Tensor, neutral: Tensor) -> Tensor:
    """How far an eye, a column of [T, E], goes from its neutral opening (0) to closed (1); below 0 it opens wider."""
    return torch.where(blink > neutral, (blink - neutral) / (1 - neutral).clamp(min=0.1), blink - neutral).clamp(max=1)


def _rest(face: FaceFit) -> tuple[Tensor, Tensor]:
    """The coefficients [E] of the portrait with its mouth closed, and the offsets [V, 3] that make the lips meet."""
    rest = face.exp_coefficients.clone()
    rest[[ARKIT_NAMES.index(name) for name in OPENING]] = 0
    closed = head_shape(face) + torch.einsum("e,evc->vc", rest - face.exp_coefficients, face.model.exp_basis)
    seams = landmark_positions(face.model, closed)
    upper, lower = (seams[list(side)] for side in zip(*INNER_LIP_PAIRS, strict=True))  # [7, 3]
    gap = upper - lower
    # the jaw carries the lower lip: vertices that jawOpen moves are lower lip, those that it does not move are upper
    jaw = face.model.exp_basis[ARKIT_NAMES.index("jawOpen")].norm(dim=-1)
    lower_share = (jaw / jaw[face.model.lip_vertices].amax()).clamp(0, 1)
    distance = torch.cdist(closed[:, :2], ((upper + lower) / 2)[:, :2])  # [V, 7]
    nearness = gaussian(distance, LIP_SEAM_REACH)
    pull = (nearness @ gap) / nearness.sum(1, keepdim=True).clamp(min=1)  # [V, 3]
    share = lower_share * LOWER_LIP_SHARE - (1 - lower_share) * (1 - LOWER_LIP_SHARE)
    # the seam is near in x and y for the back of the head as well
    in_front = (closed[:, 2] > lower[:, 2].amin() - 0.3)[:, None]
    return rest, pull * share[:, None] * in_front


def _to_camera(vertices: Tensor, pose: HeadPose) -> Tensor:
    """Head frame [T or 1, V, 3] to camera space [T, V, 3]."""
    rotation = rotation_matrix(pose.rotation)
    return vertices @ rotation.transpose(1, 2) + pose.translation[:, None]
