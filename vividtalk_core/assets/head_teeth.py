"""Two dental arches: rounded crowns of standard anatomy and the gums around them, in place of MakeHuman's two bands.

Only the places of the bands are kept, and how each expression and identity moves them.

Sizes are those of textbooks (Nelson and Ash, Wheeler's Dental Anatomy, Physiology and Occlusion: tables of crown
measurements); the surfaces between them are our own formulas. All numbers are millimetres until the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Floats, Ints

MM = 0.01  # model units, which are decimetres


@dataclass(frozen=True, slots=True)
class Crown:
    """One tooth, mm."""

    width: float  # mesiodistal
    height: float  # from the gum to the biting edge
    bulge: float  # by which the middle of the front lies before its sides
    cusp: float = 0.0  # by which the middle of the edge is longer than its ends
    corner: float = 0.8  # by which the corners of the edge are rounded off
    edge: float = 1.6  # thickness of the edge, or depth of the surface that bites


@dataclass(frozen=True, slots=True)
class Arch:
    """One row of teeth: half of an ellipse seen from above, along whose outside the crowns stand."""

    crowns: tuple[Crown, ...]  # of one side, from the middle to the back
    half_width: float  # mm, of the ellipse
    depth: float  # mm, from the ellipse's centre to the front
    side: float  # in which direction the biting edges point: −1 down, 1 up
    lean: float  # mm by which the biting edge lies before the gum


UPPER = Arch(
    (
        Crown(8.5, 10.5, 1.1),
        Crown(6.5, 9.2, 1.1, corner=1.2),
        Crown(7.5, 10.2, 2.0, cusp=1.2, edge=2.2),
        Crown(7.0, 8.6, 2.2, cusp=1.2, edge=6.0),
        Crown(6.8, 8.0, 2.2, cusp=0.9, edge=6.5),
        Crown(10.0, 7.2, 2.2, cusp=0.4, edge=8.0),
    ),
    half_width=29.0,
    depth=41.0,
    side=-1.0,
    lean=1.2,
)
LOWER = Arch(
    (
        Crown(5.3, 8.8, 0.7, corner=0.5),
        Crown(5.8, 9.2, 0.8, corner=0.6),
        Crown(6.8, 9.8, 1.6, cusp=1.0, edge=2.2),
        Crown(7.0, 8.6, 2.0, cusp=1.1, edge=5.0),
        Crown(7.1, 8.0, 2.0, cusp=0.7, edge=6.0),
        Crown(10.8, 7.4, 2.2, cusp=0.4, edge=8.0),
    ),
    half_width=26.5,
    depth=38.0,
    side=1.0,
    lean=0.8,
)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a crown gets vertices: one for each pair of the two."""

    # across, from its one side (−1) to the other (1); the sides again for the wall between it and its neighbour
    across: tuple[float, ...]
    # from the gum (0) over the front to the edge (1) and up the back to the gum again (2)
    along: tuple[float, ...]


# Beyond the canines less is seen, and from further away.
FRONT = Grid((-1.0, -1.0, -0.75, -0.35, 0.0, 0.35, 0.75, 1.0, 1.0), (-0.1, 0.15, 0.45, 0.8, 1.0, 1.05, 2.0))
BACK = Grid((-1.0, -1.0, -0.6, 0.0, 0.6, 1.0, 1.0), (-0.1, 0.3, 0.75, 1.0, 1.05, 2.0))
FRONT_TEETH = 3  # of one side

WALL = 3.0  # mm, depth of the wall between two crowns
BEHIND = 3.2  # mm by which the back of a crown lies behind its edge, at the gum

GUM_ACROSS = (-1.0, -0.6, 0.0, 0.6)  # of each crown; the next one begins where it ends
GUM_ALONG = (1.0, 0.35, 0.06, 0.0)  # from the root to the margin
ROOT = 18.0  # mm, from the biting edges to where the gum ends
PAPILLA = 0.36  # of the crown's height, by which the gum reaches down between two crowns
GUM_FRONT = 0.35  # mm by which the gum stands before the sides of the crowns


@dataclass(frozen=True, eq=False, slots=True)
class Surface:
    """A triangle mesh with a part for each triangle."""

    points: Floats  # [N, 3] model units; the biting edge of the first crown at y = 0, the front at z = 0
    triangles: Ints  # [M, 3] counter-clockwise seen from outside
    parts: Ints  # [M] index into `SURFACE_PARTS`


SURFACE_PARTS = ("teeth", "gums")


def make_arch(arch: Arch) -> Surface:
    """The crowns and the gum of one row; the gum's triangles come last."""
    grids = [(_crown(arch, place), 0) for place in _places(arch)] + [(_gum(arch), 1)]
    points, triangles, parts, count = [], [], [], 0
    for grid, part in grids:
        points.append(grid.reshape(-1, 3))
        faces = _grid_triangles(grid.shape[0], grid.shape[1], arch.side) + count
        triangles.append(faces)
        parts.append(np.full(len(faces), part))
        count += len(points[-1])
    row = np.concatenate(points)
    front = row[:, 2].max()
    return Surface((row - (0.0, 0.0, front)) * MM, np.concatenate(triangles), np.concatenate(parts))


@dataclass(frozen=True, slots=True)
class _Place:
    """A crown in its row."""

    crown: Crown
    middle: float  # mm along the arch from the mid-line, + is the body's left
    sign: float  # of the middle
    grid: Grid


def _places(arch: Arch) -> list[_Place]:
    """The crowns of both sides."""
    places: list[_Place] = []
    for sign in (-1.0, 1.0):
        end = 0.0
        for number, crown in enumerate(arch.crowns):
            grid = FRONT if number < FRONT_TEETH else BACK
            places.append(_Place(crown, sign * (end + crown.width / 2), sign, grid))
            end += crown.width
    return places


def _along_ellipse(arch: Arch, lengths: Floats) -> tuple[Floats, Floats]:
    """Points [..., 2] (x, z) at signed lengths [...] from the front along the ellipse, and unit normals outwards."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 4001)
    curve = np.stack((arch.half_width * np.sin(angle), arch.depth * (np.cos(angle) - 1)), -1)
    step = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    length = np.concatenate(([0.0], np.cumsum(step)))
    length -= length[len(length) // 2]
    at = np.interp(lengths, length, angle)
    points = np.stack((arch.half_width * np.sin(at), arch.depth * (np.cos(at) - 1)), -1)
    # perpendicular to the tangent (a cos, −b sin)
    normals = np.stack((arch.depth * np.sin(at), arch.half_width * np.cos(at)), -1)
    return points, normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def _crown(arch: Arch, place: _Place) -> Floats:
    """Vertices [A, B, 3] mm of a crown: from its right side to its left one, from the gum over the edge to the back."""
    crown = place.crown
    u = np.array(place.grid.across)[:, None]  # [A, 1]
    v = np.array(place.grid.along)[None]  # [1, B]
    share = np.minimum(v, 2 - v)  # 0 at the gum, 1 at the edge, on either side
    # narrower at the gum; the sides meet their neighbours at two thirds of the height
    width = crown.width / 2 * (0.80 + 0.20 * np.sin(np.clip(share / 0.7, 0, 1) * np.pi / 2))
    width = width - crown.width * 0.02 * np.clip((share - 0.7) / 0.3, 0, 1)
    # the distal corner of an edge, which lies away from the middle, is rounder than the mesial one
    corner = crown.corner * np.abs(u) ** 4 * np.where(u * place.sign > 0, 1.5, 0.8)
    cusp = crown.cusp * np.abs(u) ** 1.4
    rise = crown.height * (1 - share) + (corner + cusp) * np.clip(share, 0, 1) ** 3
    # most prominent in the third at the gum, then nearly straight to the edge
    front = 0.9 * (1 - ((np.clip(v, 0, 0.35) - 0.35) / 0.35) ** 2) - 0.5 * np.clip((v - 0.35) / 0.65, 0, 1) ** 2
    front = front - 0.35 * np.clip((v - 0.9) / 0.1, 0, 1) ** 2
    # at the edge the surface turns round
    over = np.clip((v - 1) / 0.05, 0, 1)
    behind = crown.edge * over + BEHIND * np.sqrt(np.clip(v - 1.05, 0, None) / 0.95)
    wall = np.zeros_like(u)
    wall[[0, -1]] = WALL
    bulge = crown.bulge * np.abs(u) ** 2.4
    out = front - bulge * (1 - over) - wall - behind + arch.lean * (share - 1)
    points, normals = _along_ellipse(arch, np.full(out.shape, place.middle))
    tangent = np.stack((normals[..., 1], -normals[..., 0]), -1)
    flat = points + tangent * (u * width)[..., None] + normals * out[..., None]
    return np.stack((flat[..., 0], -arch.side * rise, flat[..., 1]), -1)


def _gum(arch: Arch) -> Floats:
    """Vertices [A, B, 3] mm of the gum of all crowns, from right to left, from the root to its margin."""
    lengths, margins, bulges = [], [], []
    places = sorted(_places(arch), key=lambda place: place.middle)
    for place in places:
        crown = place.crown
        for u in GUM_ACROSS:
            lengths.append(place.middle + u * crown.width / 2)
            # the margin is an arch over each crown, and a papilla between two
            margins.append(crown.height * (1 - PAPILLA * abs(u) ** 2.2))
            bulges.append(crown.bulge * abs(u) ** 2.4 * 0.8)
    # the row is symmetric: it ends as it begins
    lengths, margins, bulges = [*lengths, -lengths[0]], [*margins, margins[0]], [*bulges, bulges[0]]
    margin, bulge = np.array(margins)[:, None], np.array(bulges)[:, None]
    v = np.array(GUM_ALONG)[None]
    rise = margin + (ROOT - margin) * v
    # a rounded edge that lies on the crowns, then back with the bone
    out = GUM_FRONT - bulge + 0.55 * np.minimum(v / 0.06, 1) ** 0.5 - 0.8 * v - arch.lean
    points, normals = _along_ellipse(arch, np.broadcast_to(np.array(lengths)[:, None], out.shape))
    flat = points + normals * out[..., None]
    return np.stack((flat[..., 0], -arch.side * rise, flat[..., 1]), -1)


def _grid_triangles(rows: int, columns: int, side: float) -> Ints:
    """[M, 3] triangles of a grid whose rows run from the body's right to its left, its columns from root to edge."""
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    quads = np.stack((a, b, c, d), -1).reshape(-1, 4)
    triangles = np.concatenate((quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]))
    return triangles[:, ::-1] if side < 0 else triangles


def arch_motion(band: Floats, displacements: Floats, points: Floats) -> Floats:
    """How points [N, 3] move with a band [B, 3] whose displacements [K, B, 3] are given: [K, N, 3].

    The motion of a band is that of one affine map, so that crowns keep their shape: rigid bodies move so.
    """
    known, wanted = (np.concatenate((p, np.ones((len(p), 1))), 1) for p in (band, points))
    maps = np.linalg.pinv(known) @ displacements  # [K, 4, 3]
    moved: Floats = wanted @ maps
    return moved
