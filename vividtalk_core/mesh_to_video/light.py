"""The light of the portrait, from the brightness of its own skin: spherical harmonics of order 2.

Nine numbers describe how bright a matte surface is by the direction of its normal (Ramamoorthi and Hanrahan 2001, An
Efficient Representation for Irradiance Environment Maps). They are fitted to the portrait's encoded luminance, not to
light in physical units: what is painted with them is encoded in the same way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import vertex_normals
from ..pixels import luma
from ..structures import FaceFit, Fragments, MeshSequence, Regions
from .rasterizer import interpolate

# Weight that holds each number but the first near zero, per pixel: a face shows few directions, and flat drawings none.
RIDGE = 0.02
OUTLIER = 0.15  # of the mean skin: brows, beards and spots that differ by more have little weight
ROUNDS = 4  # of reweighting
FEW = 200  # px of the crop; with fewer of skin the light is taken to be even
RANGE = (0.5, 1.35)  # of the brightness beside the mean skin's: extrapolated directions are not trusted further


def portrait_light(face: FaceFit, mesh: MeshSequence, fragments: Fragments, regions: Regions) -> Tensor:
    """The light [9] for `brightness`: 1 is that of the portrait's mean skin.

    Pixels of the inner face count, without eyes, lips and the inside of the mouth; with few of them the light is even.

    Args:
        face: the portrait.
        mesh: its own mesh, T = 1.
        fragments: of that mesh, T = 1, at 256.
        regions: of its head model.
    """
    index = fragments.triangle_index[0]
    light = face.image.new_zeros(9)
    light[0] = 1
    normals = vertex_normals(mesh.vertices[0], mesh.triangles)
    facing = interpolate(normals, mesh.triangles, fragments)[0]  # [256, 256, 3]
    lips = torch.zeros(len(normals), dtype=torch.bool, device=index.device)
    lips[face.model.lip_vertices] = True
    hidden = regions.eyes | regions.interior | lips[mesh.triangles].any(1)  # [F]
    skin = (index >= 0) & ~hidden[index.clamp(min=0)] & (face.face_mask[0, 0] > 0.5)
    if skin.sum() < FEW:
        return light
    luminance = luma(face.image[0])[skin]
    relative = luminance / luminance.mean().clamp(min=1e-3)
    basis = harmonics(facing[skin])  # [N, 9]
    ridge = torch.full((9,), RIDGE, device=basis.device)
    ridge[0] = 0
    weight = torch.ones_like(relative)
    for _ in range(ROUNDS):
        weighted = basis * weight[:, None]
        light = torch.linalg.solve(weighted.T @ basis + torch.diag(ridge * len(basis)), weighted.T @ relative)
        weight = 1 / (1 + ((relative - basis @ light) / OUTLIER) ** 2)
    return light


def brightness(light: Tensor, normals: Tensor) -> Tensor:
    """Brightness [...] beside the mean skin's, of unit normals [..., 3] in camera space, in a light [9]."""
    value: Tensor = harmonics(normals) @ light
    return value.clamp(*RANGE)


def light_direction(light: Tensor) -> Tensor:
    """Unit vector [3] towards the brightest side, in camera space; in an even light from above and in front."""
    towards = light[[3, 1, 2]] + light.new_tensor((0.0, 0.05, 0.1))
    return F.normalize(towards, dim=0)


def harmonics(normals: Tensor) -> Tensor:
    """The nine functions [..., 9] of unit normals [..., 3], without their constant factors."""
    x, y, z = normals.unbind(-1)
    return torch.stack((torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y), -1)
