"""The 3-D morphable head: S = S̄ + α·U_id + β·U_exp, its landmarks and its parts."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from ..hub import load_tensors, read_header
from ..structures import MorphableModel

INDICES = ("triangles", "triangle_parts", "landmark_vertices", "lip_vertices")
EYES = ("left_eye", "right_eye")


def load_morphable(path: Path) -> MorphableModel:
    """Read a head 3DMM: tensors named as the fields of `MorphableModel`, names of parts and expressions in the header.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is truncated, not safetensors, or holds something else.
    """
    config = json.loads(read_header(path).get("config", "{}"))
    names = {name: tuple(config.get(name, ())) for name in ("part_names", "exp_names")}
    wanted = {field.name for field in fields(MorphableModel)} - names.keys()
    tensors = load_tensors(path)
    if tensors.keys() != wanted or not all(names.values()):
        missing = sorted(wanted - tensors.keys()) + [name for name, value in names.items() if not value]
        raise ValueError(f"{path} is not a head 3DMM: missing {missing}, unexpected {sorted(tensors.keys() - wanted)}")
    values = {name: t.long() if name in INDICES else t.float() for name, t in tensors.items()}
    return MorphableModel(**values, **names)


def shape(model: MorphableModel, id_coefficients: Tensor, exp_coefficients: Tensor) -> Tensor:
    """Vertices of a face in the head frame (Eq. 1).

    Args:
        model: the 3DMM.
        id_coefficients: [..., I] α, standard deviations; one identity serves many expressions.
        exp_coefficients: [..., E] β, 0..1.

    Returns:
        [..., V, 3] model units.
    """
    identity = torch.tensordot(id_coefficients, model.id_basis, 1)
    return model.mean_shape + identity + torch.tensordot(exp_coefficients, model.exp_basis, 1)


def landmark_positions(model: MorphableModel, vertices: Tensor) -> Tensor:
    """Positions [..., 468, 3] of the landmarks on vertices [..., V, 3]."""
    return (vertices[..., model.landmark_vertices, :] * model.landmark_weights[..., None]).sum(-2)


def triangles_of(model: MorphableModel, *part_names: str) -> Tensor:
    """Triangles [N, 3] of the named parts."""
    unknown = [name for name in part_names if name not in model.part_names]
    if unknown:
        raise ValueError(f"the model has no part {unknown}; its parts are {list(model.part_names)}")
    wanted = torch.tensor([model.part_names.index(name) for name in part_names], device=model.triangle_parts.device)
    return model.triangles[torch.isin(model.triangle_parts, wanted)]


def iris_vertices(model: MorphableModel) -> Tensor:
    """The foremost of the vertices [V, 3] on the left and the right eyeball, [2]: the irises' middle, looking ahead."""
    balls = [triangles_of(model, part).unique() for part in EYES]
    return torch.stack([ball[model.mean_shape[ball, 2].argmax()] for ball in balls])


def to_device(model: MorphableModel, device: torch.device | str) -> MorphableModel:
    """The same model with its tensors on a device."""
    tensors = {f.name: getattr(model, f.name) for f in fields(model) if f.name not in ("part_names", "exp_names")}
    return replace(model, **{name: tensor.to(device) for name, tensor in tensors.items()})
