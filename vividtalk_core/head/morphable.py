"""The 3-D morphable head: S = S̄ + α·U_id + β·U_exp, its landmarks and its parts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import WeightsError
from ..hub import load_finite_tensors, read_header
from ..structures import MorphableModel

EYES = ("left_eye", "right_eye")


def load_morphable(path: Path) -> MorphableModel:
    """Read a head 3DMM: tensors of the shapes of `MorphableModel`, e.g. mean_shape [V, 3], and names in the header.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: the file is damaged or holds something else.
    """
    config = json.loads(read_header(path).get("config", "{}"))
    names = {name: tuple(config.get(name, ())) for name in ("part_names", "exp_names")}
    needed = {field.name for field in fields(MorphableModel)} - names.keys()
    tensors = load_finite_tensors(path)
    if tensors.keys() != needed or not all(names.values()):
        missing = sorted(needed - tensors.keys()) + [name for name, value in names.items() if not value]
        unexpected = sorted(tensors.keys() - needed)
        raise WeightsError(f"'{path}' is not a head 3DMM: missing {missing}, unexpected {unexpected}")
    # the file holds small number types; indices must be int64 and values float32 to be used
    return MorphableModel(
        mean_shape=tensors["mean_shape"].float(),
        id_basis=tensors["id_basis"].float(),
        exp_basis=tensors["exp_basis"].float(),
        triangles=tensors["triangles"].long(),
        triangle_parts=tensors["triangle_parts"].long(),
        part_names=names["part_names"],
        exp_names=names["exp_names"],
        landmark_vertices=tensors["landmark_vertices"].long(),
        landmark_weights=tensors["landmark_weights"].float(),
        lip_vertices=tensors["lip_vertices"].long(),
        pose_weight=tensors["pose_weight"].float(),
    )


def shape(model: MorphableModel, id_coefficients: Tensor, exp_coefficients: Tensor) -> Tensor:
    """Vertices of a face in the head frame (Eq. 1).

    Args:
        model: the 3DMM.
        id_coefficients: [..., I] α, standard deviations; one identity serves many expressions.
        exp_coefficients: [..., E] β, 0..1.

    Returns:
        [..., V, 3] model units.
    """
    identity: Tensor = torch.tensordot(id_coefficients, model.id_basis, 1)
    expression: Tensor = torch.tensordot(exp_coefficients, model.exp_basis, 1)
    return model.mean_shape + identity + expression


def landmark_positions(model: MorphableModel, vertices: Tensor) -> Tensor:
    """Positions [..., 468, 3] of the landmarks on vertices [..., V, 3]."""
    return (vertices[..., model.landmark_vertices, :] * model.landmark_weights[..., None]).sum(-2)


def at_landmarks(model: MorphableModel, points: Iterable[int]) -> tuple[MorphableModel, Tensor]:
    """The model with only the vertices that carry some landmarks, and which these are, ascending [K].

    The other landmarks and all triangles lose their meaning. A few of about 5000 vertices are enough for a curve of
    the face, and training computes such curves in every step.
    """
    needed = sorted(set(points))
    kept, index = torch.unique(model.landmark_vertices[needed], return_inverse=True)
    landmarks = torch.zeros_like(model.landmark_vertices)
    landmarks[needed] = index
    small = replace(
        model,
        mean_shape=model.mean_shape[kept],
        id_basis=model.id_basis[:, kept],
        exp_basis=model.exp_basis[:, kept],
        landmark_vertices=landmarks,
        pose_weight=model.pose_weight[kept],
    )
    return small, kept


def triangles_of(model: MorphableModel, *part_names: str) -> Tensor:
    """Triangles [N, 3] of the named parts."""
    unknown = [name for name in part_names if name not in model.part_names]
    if unknown:
        raise ValueError(f"the model has no part {unknown}; its parts are {list(model.part_names)}")
    parts = torch.tensor([model.part_names.index(name) for name in part_names], device=model.triangle_parts.device)
    return model.triangles[torch.isin(model.triangle_parts, parts)]


def vertices_of(model: MorphableModel, *part_names: str) -> Tensor:
    """Vertices [N] that the triangles [F, 3] of the named parts use, ascending."""
    found: Tensor = torch.unique(triangles_of(model, *part_names))
    return found


def iris_vertices(model: MorphableModel) -> Tensor:
    """Of the vertices [V, 3], the foremost on the left and on the right eyeball, [2]: the middle of the irises."""
    balls = [vertices_of(model, part) for part in EYES]
    return torch.stack([ball[model.mean_shape[ball, 2].argmax()] for ball in balls])


def to_device(model: MorphableModel, device: torch.device | str) -> MorphableModel:
    """The same model with all of its tensors, e.g. mean_shape [V, 3], on a device."""
    return replace(
        model,
        mean_shape=model.mean_shape.to(device),
        id_basis=model.id_basis.to(device),
        exp_basis=model.exp_basis.to(device),
        triangles=model.triangles.to(device),
        triangle_parts=model.triangle_parts.to(device),
        landmark_vertices=model.landmark_vertices.to(device),
        landmark_weights=model.landmark_weights.to(device),
        lip_vertices=model.lip_vertices.to(device),
        pose_weight=model.pose_weight.to(device),
    )
