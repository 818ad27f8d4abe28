"""Draws the head for the build: a small z-buffer and a plain shading that the landmark network can read."""

from __future__ import annotations

import numpy as np

DISTANCE = 10.0  # model units from the camera to the origin
FILL = 3.2  # model units that span the picture


def rotation(yaw: float, pitch: float) -> np.ndarray:
    """[3, 3] for angles in degrees; conventions of `geometry`."""
    (sy, sx), (cy, cx) = np.sin(np.radians((yaw, pitch))), np.cos(np.radians((yaw, pitch)))
    return np.array(((cy, sy * sx, sy * cx), (0, cx, -sx), (-sy, cy * sx, cy * cx)))


def project(points: np.ndarray, yaw: float, pitch: float, size: int) -> np.ndarray:
    """Points [V, 3] of the head turned by degrees, to [V, 3]: x, y in px of a size² picture, depth in model units."""
    camera = points @ rotation(yaw, pitch).T
    depth = DISTANCE - camera[:, 2]
    focal = size / FILL * DISTANCE
    return np.stack((size / 2 + focal * camera[:, 0] / depth, size / 2 - focal * camera[:, 1] / depth, depth), 1)


def rasterize(pixels: np.ndarray, triangles: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest triangle at each pixel centre.

    Args:
        pixels: [V, 3] x, y in px and depth.
        triangles: [F, 3].
        size: side of the picture in px.

    Returns:
        index [size, size] of the triangle, −1 where none, and its barycentric weights [size, size, 3].
    """
    corners = pixels[triangles]
    low = np.clip(np.floor(corners[..., :2].min(1) - 0.5), 0, size - 1).astype(np.int64)
    high = np.clip(np.ceil(corners[..., :2].max(1) - 0.5), -1, size - 1).astype(np.int64)
    span = np.maximum(high - low + 1, 0)
    count = span.prod(1)
    owner = np.repeat(np.arange(len(triangles)), count)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    x = low[owner, 0] + step % span[owner, 0]
    y = low[owner, 1] + step // span[owner, 0]
    weights = _barycentric(np.stack((x, y), 1) + 0.5, corners[owner, :, :2])
    inside = (weights >= -1e-9).all(1)
    owner, cell, weights = owner[inside], (y * size + x)[inside], weights[inside]
    depth = (weights * corners[owner, :, 2]).sum(1)
    order = np.lexsort((-depth, cell))  # the last one written to a cell is the nearest
    index = np.full(size * size, -1)
    index[cell[order]] = owner[order]
    barycentric = np.zeros((size * size, 3))
    barycentric[cell[order]] = weights[order]
    return index.reshape(size, size), barycentric.reshape(size, size, 3)


def _barycentric(point: np.ndarray, corners: np.ndarray) -> np.ndarray:
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac, ap = b - a, c - a, point - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    area = np.where(np.abs(area) < 1e-12, np.inf, area)
    v = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / area
    w = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / area
    return np.where(np.isinf(area)[:, None], -1.0, np.stack((1 - v - w, v, w), 1))


def vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3] of points [V, 3], weighted by area."""
    a, b, c = points[triangles].transpose(1, 0, 2)
    face = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def shade(
    points: np.ndarray, triangles: np.ndarray, colors: np.ndarray, yaw: float, pitch: float, size: int
) -> np.ndarray:
    """A picture of the head under a soft light from above.

    Args:
        points: [V, 3] model units.
        triangles: [F, 3].
        colors: [F, 3, 3] RGB in 0..1 at each corner of each triangle.
        yaw: degrees.
        pitch: degrees.
        size: side in px.

    Returns:
        [size, size, 3] in 0..1.
    """
    index, weights = rasterize(project(points, yaw, pitch, size), triangles, size)
    normals = vertex_normals(points, triangles) @ rotation(yaw, pitch).T
    seen = np.maximum(index, 0)
    normal = (normals[triangles[seen]] * weights[..., None]).sum(2)
    color = (colors[seen] * weights[..., None]).sum(2)
    light = np.array((0.25, 0.45, 0.85)) / np.linalg.norm((0.25, 0.45, 0.85))
    picture = color * (np.maximum(normal @ light, 0) * 0.75 + 0.3)[..., None]
    return np.where(index[..., None] >= 0, picture, 0.72).clip(0, 1)
