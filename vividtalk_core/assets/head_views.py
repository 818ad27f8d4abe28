"""Draws the head for the build: the rasterizer of stage 2 with plain colours and shading.

Double precision throughout: the landmark network then gives the same points on any machine.
"""

from __future__ import annotations

import numpy as np
import torch

from ..geometry import CAMERA_DISTANCE, rotation_matrix
from ..mesh_to_video.rasterizer import rasterize as rasterize_frames
from .arrays import Floats, Ints

FILL = 3.2  # model units that span the image: the whole head with a margin
LIGHT = (0.25, 0.45, 0.85)  # direction to the light: above, to the side and in front, as in a portrait
# Length of a normal below which a vertex has no triangles with an area.
SHORT = 1e-12
# No part is black, and none of the front is much above 1.
AMBIENT, DIFFUSE = 0.3, 0.75  # of the colour
# Grey behind the head, near the brightness of skin, so that the outline is no strong edge.
GROUND = 0.72


def rotation(yaw: float, pitch: float) -> Floats:
    """[3, 3] for angles in degrees; conventions of `geometry`."""
    matrix: Floats = rotation_matrix(torch.tensor(np.radians((pitch, yaw, 0.0)))).numpy()
    return matrix


def project(points: Floats, yaw: float, pitch: float, size: int) -> Floats:
    """Points [V, 3] of the head turned by degrees, to [V, 3]: x, y in px of a size² image, depth in model units.

    Unlike `geometry.project` it shows the whole head, not the face alone.
    """
    camera = points @ rotation(yaw, pitch).T
    depth = CAMERA_DISTANCE - camera[:, 2]
    focal = size / FILL * CAMERA_DISTANCE
    return np.stack((size / 2 + focal * camera[:, 0] / depth, size / 2 - focal * camera[:, 1] / depth, depth), 1)


def rasterize(pixels: Floats, triangles: Ints, size: int) -> tuple[Ints, Floats]:
    """Nearest triangle at each pixel centre; back faces are not drawn.

    Args:
        pixels: [V, 3] x, y in px and depth.
        triangles: [F, 3].
        size: side of the image in px.

    Returns:
        index [size, size] of the triangle, −1 where none, and its barycentric weights [size, size, 3].
    """
    vertices, faces = torch.from_numpy(pixels)[None], torch.from_numpy(np.ascontiguousarray(triangles))
    fragments = rasterize_frames(vertices, faces, size, size)
    return fragments.triangle_index[0].numpy(), fragments.barycentric[0].numpy()


def vertex_normals(points: Floats, triangles: Ints) -> Floats:
    """Unit normals [V, 3] of points [V, 3], weighted by the area of the triangles [F, 3].

    In NumPy, because the landmarks of the recorded head depend on its last bits: those of `geometry.vertex_normals`
    differ.
    """
    a, b, c = points[triangles].transpose(1, 0, 2)
    faces = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    unit: Floats = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), SHORT)
    return unit


def shade(points: Floats, triangles: Ints, colors: Floats, yaw: float, pitch: float, size: int) -> Floats:
    """An image of the head under a soft light from above.

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
    visible = np.maximum(index, 0)  # any triangle where there is none; the ground replaces it below
    normal = (normals[triangles[visible]] * weights[..., None]).sum(2)
    color = (colors[visible] * weights[..., None]).sum(2)
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    image = color * (np.maximum(normal @ light, 0) * DIFFUSE + AMBIENT)[..., None]
    return np.where(index[..., None] >= 0, image, GROUND).clip(0, 1)
