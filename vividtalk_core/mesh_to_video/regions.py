"""Parts of the head model that the renderer treats differently, found once from the mean shape."""

from __future__ import annotations

import torch
from torch import Tensor

from ..filters import ramp
from ..geometry import polygon_distance
from ..head.morphable import landmark_positions
from ..head.topology import FACE_OVAL
from ..structures import MorphableModel, Regions

# The region fades out where hair and ears begin: a hard border would show in the blended textures.
OVAL_SOFTNESS = 0.25  # model units outside the face oval
# Eyeballs are drawn behind the lids even where a lid passes through them.
EYE_SETBACK = 0.25  # model units
INTERIOR = ("cavity", "upper_teeth", "lower_teeth", "upper_gums", "lower_gums", "tongue")
EYES = ("left_eye", "right_eye")


def find_regions(model: MorphableModel) -> Regions:
    """Regions of a head model as masks over its V vertices or F triangles."""
    points = landmark_positions(model, model.mean_shape)
    # lashes are flat ribbons and no hairs: in the z-buffer they would cover lids and eyes
    drawn = ~_in_parts(model, ("lashes",))
    eyes = _in_parts(model, EYES)
    setback = torch.zeros(len(model.mean_shape), device=model.mean_shape.device)
    setback[model.triangles[eyes].flatten()] = EYE_SETBACK
    # vertices that no expression moves and the pose moves fully: they give the rigid motion of the head
    still = model.exp_basis.norm(dim=-1).amax(0) < 1e-3
    return Regions(
        inner_face=_inside_oval(model.mean_shape, points[list(FACE_OVAL)]),
        rigid=still & (model.pose_weight > 0.999),
        setback=setback,
        drawn=drawn,
        teeth_and_tongue=_in_parts(model, INTERIOR[1:]),
        interior=_in_parts(model, INTERIOR),
        eyes=eyes,
    )


def _in_parts(model: MorphableModel, names: tuple[str, ...]) -> Tensor:
    """[F] bool, which of the triangles [F, 3] belong to the named parts."""
    numbers = torch.tensor([model.part_names.index(name) for name in names], device=model.triangles.device)
    return torch.isin(model.triangle_parts, numbers)


def _inside_oval(vertices: Tensor, oval: Tensor) -> Tensor:
    """[V] 0..1: inside the oval [N, 3] seen from the front, softened; vertices [V, 3] at the back count as outside."""
    signed = polygon_distance(vertices[:, :2], oval[:, :2])
    # z: the oval seen from the front also covers the back of the head
    return ramp(signed, -OVAL_SOFTNESS, 0) * (vertices[:, 2] > -0.1)
