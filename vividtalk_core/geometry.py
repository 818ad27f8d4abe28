"""Rotations, the camera, pixel grids, the warp, polygons and fits: every convention of the pack is stated here, once.

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

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
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
    return rearrange(torch.stack(rows, -1), "... (i j) -> ... i j", i=3)


def rotation_angles(matrix: Tensor) -> Tensor:
    """(pitch, yaw, roll) [..., 3] in radians of rotation matrices [..., 3, 3]; inverse of `rotation_matrix`."""
    # rounding may leave a sine a little outside of −1..1, where the arcsine is NaN
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
    # through pixel centres: FOMM's grid, from corner to corner, moves pixels by up to 1.9 px at 256 when nothing moves
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
    warped: Tensor = remap(
        image.expand(frames, -1, -1, -1), x, y, mode, "border", align_corners=False, normalized_coordinates=True
    )
    return warped


@dataclass(frozen=True, eq=False, slots=True)
class Similarity:
    """The map x ↦ scale · rotation · (x − source_centre) + target_centre in D dimensions."""

    rotation: Tensor  # [..., D, D]
    scale: Tensor  # [...]
    source_centre: Tensor  # [..., D]
    target_centre: Tensor  # [..., D]

    @property
    def translation(self) -> Tensor:
        """[..., D] where the origin goes."""
        turned = (self.rotation @ self.source_centre[..., None])[..., 0]
        return self.target_centre - self.scale[..., None] * turned

    def apply(self, points: Tensor) -> Tensor:
        """Points [..., N, D] mapped, [..., N, D]."""
        turned = (points - self.source_centre[..., None, :]) @ self.rotation.mT
        return self.scale[..., None, None] * turned + self.target_centre[..., None, :]


def fit_similarity(source: Tensor, target: Tensor, weight: Tensor | None = None, scaled: bool = True) -> Similarity:
    """The similarity that brings points nearest to others, by weighted least squares (Kabsch 1976, Umeyama 1991).

    Args:
        source: [..., N, D] points.
        target: [..., N, D] where they should go; either may lack the leading dimensions of the other.
        weight: [N] of the points, 0 or more; None counts all alike.
        scaled: False keeps the scale at 1, a rigid motion.

    Returns:
        A rotation (never a mirror image), a scale and the two centres.
    """
    if weight is None:
        source_centre, target_centre = source.mean(-2), target.mean(-2)
        from_centre, to_centre = source - source_centre[..., None, :], target - target_centre[..., None, :]
        weighted, spread = to_centre, (from_centre**2).sum((-2, -1))
    else:
        share = (weight / weight.sum())[:, None]  # [N, 1]
        source_centre, target_centre = (share * source).sum(-2), (share * target).sum(-2)
        from_centre, to_centre = source - source_centre[..., None, :], target - target_centre[..., None, :]
        weighted, spread = to_centre * share, (share * from_centre**2).sum((-2, -1))
    u, s, vt = torch.linalg.svd(torch.einsum("...pi,...pj->...ij", weighted, from_centre))
    # the best orthogonal matrix may be a mirror image: then the least singular direction is turned round
    sign = torch.ones_like(s)
    sign[..., -1] = torch.linalg.det(u @ vt).sign()
    scale = (s * sign).sum(-1) / spread if scaled else torch.ones_like(s[..., 0])
    return Similarity((u * sign[..., None, :]) @ vt, scale, source_centre, target_centre)


def inside_polygon(points: Tensor, polygon: Tensor) -> Tensor:
    """[...] bool, whether points [..., 2] lie inside a closed polygon [N, 2] of any shape (even–odd rule)."""
    (x, y), (start_x, start_y) = points[..., None, :].unbind(-1), polygon.unbind(-1)  # [..., 1] and [N] each
    edge_x, edge_y = (polygon.roll(-1, 0) - polygon).unbind(-1)
    below = y - start_y  # [..., N]
    # half-open at the ends: a ray to the right through a corner crosses exactly one of its two edges
    spans = (below < 0) != (y < polygon.roll(-1, 0)[:, 1])
    left_of = (x - start_x) * edge_y < below * edge_x
    return (spans & (left_of == (edge_y > 0))).sum(-1) % 2 == 1


def segment_distance(points: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each point to each of N line segments, and where on it the nearest place is.

    Args:
        points: [..., D].
        start: [N, D].
        end: [N, D].

    Returns:
        Distance [..., N] and share [..., N]: 0 at the start of a segment, 1 at its end.
    """
    edge, offset = end - start, points[..., None, :] - start  # [N, D], [..., N, D]
    # an edge without length counts as its point
    share = ((offset * edge).sum(-1) / (edge**2).sum(-1).clamp(min=1e-12)).clamp(0, 1)
    return (offset - share[..., None] * edge).norm(dim=-1), share


def polygon_distance(points: Tensor, polygon: Tensor) -> Tensor:
    """Signed distance [...] of points [..., 2] to a closed polygon [N, 2], positive inside."""
    distance = segment_distance(points, polygon, polygon.roll(-1, 0))[0].amin(-1)
    return torch.where(inside_polygon(points, polygon), distance, -distance)


def polygon_mask(polygon: Tensor, height: int, width: int) -> Tensor:
    """[H, W] bool, the pixels that a closed polygon [N, 2] px touches, its border included (cv2.fillPoly).

    For regions in which whole pixels are counted; `inside_polygon` is exact to the pixel's centre.
    """
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [polygon.cpu().numpy().round().astype(np.int32)], 1)
    return torch.from_numpy(mask).to(polygon.device) > 0


def area_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Sums [..., V, 3] of the normals, twice an area long, of the triangles [F, 3] around vertices [..., V, 3]."""
    a, b, c = vertices[..., triangles, :].unbind(-2)
    faces = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for corner in range(3):
        normals.index_add_(-2, triangles[:, corner], faces)
    return normals


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals [..., V, 3] of vertices [..., V, 3], area-weighted over the triangles [F, 3] around each."""
    return F.normalize(area_normals(vertices, triangles), dim=-1)
