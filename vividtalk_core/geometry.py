"""Rotations, the camera, pixel grids and the warp: every convention of the pack is stated here, once.

Convention:
    Space: right-handed; +x the viewer's right, +y up, +z towards the viewer; angles in radians.
    Rotation: columns are vectors, x' = R·x with R = Ry(yaw)·Rx(pitch)·Rz(roll). Positive pitch nods down, positive yaw
    turns the nose to the viewer's right, positive roll tilts the head counter-clockwise as the viewer sees it.
    Camera: pinhole at z = +CAMERA_DISTANCE on the axis, looking along −z, principal point in the middle of the crop.
    Pixels: +x right, +y down; the centre of the first pixel is at .5, so that an image of width W spans 0..W.
    Grids: −1..1 spans the image from edge to edge, the centre of pixel i is (2i + 1)/W − 1, `align_corners=False`.
    With these the identity warp returns the image exactly.
"""

from __future__ import annotations

import torch
from kornia.geometry.transform import remap
from torch import Tensor

from .structures import CROP

# A portrait is assumed to be taken from a metre away: model units are decimetres. The focal length then makes a face
# fill about half of the crop, which is what `face.fit` crops to.
CAMERA_DISTANCE = 10.0  # model units
FOCAL_LENGTH = 2.6 * CROP  # px of the crop


def rotation_matrix(angles: Tensor) -> Tensor:
    """Rotation matrices of (pitch, yaw, roll) [..., 3] in radians: Ry(yaw)·Rx(pitch)·Rz(roll), [..., 3, 3]."""
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = (
        cy * cz + sy * sx * sz, -cy * sz + sy * sx * cz, sy * cx,
        cx * sz, cx * cz, -sx,
        -sy * cz + cy * sx * sz, sy * sz + cy * sx * cz, cy * cx,
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def rotation_angles(matrix: Tensor) -> Tensor:
    """(pitch, yaw, roll) [..., 3] in radians of rotation matrices [..., 3, 3]; inverse of `rotation_matrix`."""
    pitch = torch.asin(-matrix[..., 1, 2].clamp(-1, 1))
    yaw = torch.atan2(matrix[..., 0, 2], matrix[..., 2, 2])
    roll = torch.atan2(matrix[..., 1, 0], matrix[..., 1, 1])
    return torch.stack((pitch, yaw, roll), -1)


def project(points: Tensor) -> Tensor:
    """Camera-space points [..., 3] in model units to [..., 3]: x, y in px of the 256 crop, depth in model units."""
    depth = CAMERA_DISTANCE - points[..., 2]
    x = CROP / 2 + FOCAL_LENGTH * points[..., 0] / depth
    y = CROP / 2 - FOCAL_LENGTH * points[..., 1] / depth
    return torch.stack((x, y, depth), -1)


def unproject(pixels: Tensor) -> Tensor:
    """Inverse of `project`: [..., 3] of x, y in px of the 256 crop and depth, to camera space [..., 3]."""
    depth = pixels[..., 2]
    x = (pixels[..., 0] - CROP / 2) * depth / FOCAL_LENGTH
    y = (CROP / 2 - pixels[..., 1]) * depth / FOCAL_LENGTH
    return torch.stack((x, y, CAMERA_DISTANCE - depth), -1)


def pixel_centres(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """[H, W, 2] x, y of each pixel centre in px."""
    y = torch.arange(height, device=device) + 0.5
    x = torch.arange(width, device=device) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def identity_grid(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """[H, W, 2] the sampling grid, −1..1, that returns an image unchanged."""
    return pixel_centres(height, width, device) * 2 / torch.tensor((width, height), device=device) - 1


def warp(image: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample an image backwards: out[p] = image[p + flow[p]].

    Args:
        image: [B, C, H, W]; one image serves all frames.
        flow: [T, H', W', 2] in grid units (half an image), added to the identity grid of H' × W'.
        mode: the interpolation, "bilinear" or "bicubic".

    Returns:
        [T, C, H', W'], borders repeated. Zero flow at the image's own size returns it to float precision.
    """
    frames, height, width, _ = flow.shape
    x, y = (identity_grid(height, width, flow.device) + flow).unbind(-1)
    return remap(
        image.expand(frames, -1, -1, -1), x, y, mode, "border", align_corners=False, normalized_coordinates=True
    )
