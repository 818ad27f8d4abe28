"""Finds where MediaPipe's 468 landmarks lie on the head: the landmark network is run on images of it."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import MediaError
from ..face.align import to_pixel_centres
from ..face.landmarks import Landmarker
from ..face.region import Region
from ..head.topology import FACE_OVAL
from ..structures import ARKIT_NAMES
from . import head_views
from .arrays import Bools, Floats, Ints
from .head_topology import PARTS, Topology

PACKED_ASSETS = "package/face_mesh_solution_packed_assets.data"
# Bytes of it that hold the canonical face of version 0.4.1657299874.
CANONICAL_MESH = slice(3737848, 3757224)
IMAGE = 512  # px of the images that the network is run on
LOOKUP = 1024  # px of the z-buffer in which the triangle under a landmark is looked up
# A landmark off the surface takes the nearest pixel up to here.
REACH = 8  # px of LOOKUP
OUTLIER = 0.12  # model units from the median of the views
# model units: the chin's edge is searched below this height, within this distance of the middle, in columns this wide
CHIN_BELOW, CHIN_WIDTH, CHIN_COLUMN = -0.4, 0.5, 0.05
TINY = 1e-15  # model units², far below any triangle's area
# Share of a column's largest displacement by the jaw, above which skin belongs to the chin.
CHIN_CARRIED = 0.85
# jawOpen at which surface points are compared: the lips must not touch.
PARTED = 0.4

TURNS = ((0, 0), (-15, 0), (15, 0), (-32, 0), (32, 0), (0, -12), (0, 12))  # yaw, pitch in degrees
FACES: tuple[dict[str, float], ...] = (
    {},
    {"jawOpen": 0.35},
    {"jawOpen": 0.15, "mouthSmileLeft": 0.4, "mouthSmileRight": 0.4},
)  # expressions that are rendered from every side
PEOPLE = 8  # identities that are rendered from near the front
SKIN, LIPS, BROWS = (0.86, 0.66, 0.55), (0.70, 0.36, 0.35), (0.25, 0.17, 0.12)
EYE, IRIS, TEETH, MOUTH = (0.93, 0.92, 0.90), (0.22, 0.14, 0.09), (0.92, 0.90, 0.84), (0.45, 0.16, 0.15)


@dataclass(frozen=True, eq=False, slots=True)
class SurfacePoints:
    """Points of a triangle mesh."""

    vertices: Ints  # [K, 3]
    weights: Floats  # [K, 3] barycentric

    def of(self, shape: Floats) -> Floats:
        """Their positions [K, 3] on a shape [V, 3]."""
        positions: Floats = (shape[self.vertices] * self.weights[..., None]).sum(1)
        return positions


@dataclass(frozen=True, eq=False, slots=True)
class PaintedHead:
    """The model with colours that a landmark network can read."""

    mean: Floats  # [V, 3]
    identity: Floats  # [I, V, 3]
    expression: Floats  # [E, V, 3]
    topology: Topology  # parts with cavity
    lips: Floats  # [V] 0..1
    brows: Floats  # [V] 0..1

    def shape(self, coefficients: Mapping[str, float], identity: Floats | None = None) -> Floats:
        """[V, 3] with some expression and, if given, identity coefficients [I]."""
        moved = sum(w * self.expression[ARKIT_NAMES.index(n)] for n, w in coefficients.items())
        shape: Floats = self.mean + moved
        return shape if identity is None else shape + np.tensordot(identity, self.identity, 1)

    def colors(self) -> Floats:
        """RGB [F, 3, 3] at each triangle's corners."""
        plain = {"tongue": MOUTH, "cavity": MOUTH, "upper_teeth": TEETH, "lower_teeth": TEETH}
        table = np.array([plain.get(part, EYE if part.endswith("eye") else SKIN) for part in PARTS])
        colors = np.repeat(table[self.topology.parts][:, None], 3, 1)
        skin = self.topology.parts == PARTS.index("skin")
        for paint, amount in ((LIPS, self.lips), (BROWS, self.brows)):
            share = amount[self.topology.triangles[skin]][..., None]
            colors[skin] = colors[skin] * (1 - share) + np.array(paint) * share
        for part in ("left_eye", "right_eye"):
            ball = self.topology.vertices_of(part)
            depth = self.mean[:, 2].max() - self.mean[:, 2]
            front = ball[np.argmin(depth[ball])]
            near = np.linalg.norm(self.mean[:, :2] - self.mean[front, :2], axis=1) < 0.062
            faces = self.topology.parts == PARTS.index(part)
            colors[faces] = np.where(near[self.topology.triangles[faces]][..., None], IRIS, colors[faces])
        return colors


def find_landmarks(head: PaintedHead, landmarker: Landmarker, face_mesh_tgz: Path, seed: int = 0) -> SurfacePoints:
    """The triangle and barycentric weights of each of the 468 landmarks, symmetric.

    Args:
        head: the painted model.
        landmarker: the landmark network; it is run in double precision so that any machine finds the same points.
        face_mesh_tgz: the npm package `@mediapipe/face_mesh`, which holds the mirror pairs.
        seed: of the identities that are rendered.
    """
    parted = head.shape({"jawOpen": PARTED})
    views = list(_views(head, seed))
    found = [_locate(head, shape, yaw, pitch, landmarker, parted) for shape, yaw, pitch in views]
    points, facing = (np.stack(part) for part in zip(*found, strict=True))  # [N, 468, 3], [N, 468]
    # the oval is the outline of the face from the front: in other views it moves over cheek and chin
    frontal = np.array([abs(yaw) <= 15 and pitch == 0 for _, yaw, pitch in views])
    oval = list(FACE_OVAL)
    facing[:, oval] = (facing[:, oval] > 0) & frontal[:, None]
    points = robust_mean(points, facing)
    skin = head.topology.triangles[head.topology.parts == PARTS.index("skin")]
    pair = mirror_pairs(face_mesh_tgz)
    # head and landmarks are symmetric: a difference between the sides is an error of the network
    points = (points + points[pair] * (-1, 1, 1)) / 2
    points = _onto_chin(points, head, parted, np.unique(skin))
    return _symmetric(closest_points(points, parted, skin), pair, head.topology.mirror)


def _onto_chin(points: Floats, head: PaintedHead, parted: Floats, skin: Ints) -> Floats:
    """Points [468, 3] with those on the throat moved to the chin's edge: the lowest skin that moves with the jaw.

    From the front the two are a pixel apart, but only one of them moves down with the jaw.
    """
    points = points.copy()
    carried = np.linalg.norm(head.expression[ARKIT_NAMES.index("jawOpen")][skin], axis=1)
    for k in np.flatnonzero((points[:, 1] < CHIN_BELOW) & (np.abs(points[:, 0]) < CHIN_WIDTH)):
        column = np.abs(parted[skin, 0] - points[k, 0]) < CHIN_COLUMN
        jaw = skin[column & (carried > CHIN_CARRIED * carried[column].max())]
        edge = parted[jaw[parted[jaw, 1].argmin()]]
        if points[k, 1] < edge[1]:
            points[k, 1:] = edge[1:]
    return points


def _views(head: PaintedHead, seed: int) -> Iterator[tuple[Floats, float, float]]:
    """Shape [V, 3], yaw and pitch in degrees of each image."""
    for face in FACES:
        for yaw, pitch in TURNS:
            yield head.shape(face), yaw, pitch
    rng = np.random.default_rng(seed)
    for k in range(PEOPLE):
        identity = rng.normal(size=len(head.identity)) * 0.8
        yield head.shape(FACES[k % len(FACES)], identity), (-10, 0, 10)[k % 3], 0


def _locate(
    head: PaintedHead,
    shape: Floats,
    yaw: float,
    pitch: float,
    landmarker: Landmarker,
    parted: Floats,
) -> tuple[Floats, Floats]:
    """Points [468, 3] of the landmarks of one view on the parted shape, and their weights, shape [468]."""
    # without lashes: the network would take strips that thick for the edges of the lids
    shown = head.topology.parts != PARTS.index("lashes")
    image = head_views.shade(shape, head.topology.triangles[shown], head.colors()[shown], yaw, pitch, IMAGE)
    centre = head_views.project(np.array([[0.0, -0.15, 0.6]]), yaw, pitch, IMAGE)[:, :2]
    # no detector is needed, because it is known where the head is drawn
    region = Region(torch.from_numpy(centre), torch.tensor([IMAGE * 0.85]).double(), torch.zeros(1).double())
    landmarks, _ = landmarker.landmarks(torch.from_numpy(image).permute(2, 0, 1)[None], region)
    pixels = to_pixel_centres(landmarks)[0, :468, :2].numpy() * (LOOKUP / IMAGE)
    triangles = head.topology.triangles[shown]
    skin = np.append(head.topology.parts[shown] == PARTS.index("skin"), False)  # the last is for index −1, no triangle
    index, weights = head_views.rasterize(head_views.project(shape, yaw, pitch, LOOKUP), triangles, LOOKUP)
    normals = head_views.vertex_normals(shape, head.topology.triangles) @ head_views.rotation(yaw, pitch).T
    facing = (normals[triangles[index], 2] * weights).sum(-1) * skin[index]
    x, y, found = _nearest(pixels, facing > 0.05)
    points = (parted[triangles[index[y, x]]] * weights[y, x, :, None]).sum(1)
    # squared: where the surface turns away, an error of one pixel is a long way on it
    return points, facing[y, x] ** 2 * found


def robust_mean(points: Floats, weight: Floats) -> Floats:
    """Weighted mean [K, 3] of points [N, K, 3] with weights [N, K], without outliers: points far from the median.

    A landmark at the jaw's edge may fall onto the neck in some views.
    """
    visible = np.where((weight > 0)[..., None], points, np.nan)
    near = np.linalg.norm(points - np.nanmedian(visible, 0), axis=-1) < OUTLIER
    share = weight * near
    mean: Floats = (share[..., None] * points).sum(0) / share.sum(0)[:, None]
    return mean


def _nearest(points: Floats, usable: Bools) -> tuple[Ints, Ints, Bools]:
    """Columns and rows of the usable pixels [size, size] nearest to points [K, 2] px; False where none is near."""
    steps = np.stack(np.meshgrid(*2 * [np.arange(-REACH, REACH + 1)]), -1).reshape(-1, 2)
    # a stable sort: of equally near pixels every machine takes the same one
    order = np.argsort((steps**2).sum(1), kind="stable")
    cells = np.floor(points).astype(np.int64)[:, None] + steps[order]  # [K, steps, 2]
    x, y = cells.clip(0, len(usable) - 1).transpose(2, 0, 1)
    best = usable[y, x].argmax(1)
    rows = np.arange(len(points))
    return x[rows, best], y[rows, best], usable[y, x].any(1)


def closest_points(points: Floats, shape: Floats, triangles: Ints) -> SurfacePoints:
    """The points of a surface nearest to some points.

    Args:
        points: [K, 3].
        shape: [V, 3].
        triangles: [F, 3] of the surface.
    """
    vertices, weights = np.empty((len(points), 3), np.int64), np.empty((len(points), 3))
    centres, size = shape[triangles].mean(1), 64
    for k, point in enumerate(points):
        # the nearest triangles by their centres: a test of all of them for each point would take far longer
        near = triangles[np.argsort(((centres - point) ** 2).sum(1), kind="stable")[:size]]
        candidates = barycentric_of_closest(point, shape[near])
        distance = ((candidates[..., None] * shape[near]).sum(1) - point) ** 2
        best = distance.sum(1).argmin()
        vertices[k], weights[k] = near[best], candidates[best]
    return SurfacePoints(vertices, weights)


def barycentric_of_closest(point: Floats, corners: Floats) -> Floats:
    """Barycentric weights [F, 3] of the point of each triangle [F, 3, 3] nearest to a point [3]."""
    a, edges = corners[:, 0], corners[:, 1:] - corners[:, :1]
    # the small term keeps triangles without an area solvable
    gram = edges @ edges.transpose(0, 2, 1) + TINY * np.eye(2)
    inner = np.linalg.solve(gram, np.einsum("fkc,fc->fk", edges, point - a)[..., None])[..., 0]
    options = [np.concatenate((1 - inner.sum(1, keepdims=True), inner), 1)]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, j] - corners[:, i]
        along = ((point - corners[:, i]) * edge).sum(1) / np.maximum((edge**2).sum(1), TINY)
        option = np.zeros((len(corners), 3))
        option[:, j] = along.clip(0, 1)
        option[:, i] = 1 - option[:, j]
        options.append(option)
    weights = np.stack(options)
    distance = (((weights[..., None] * corners).sum(2) - point) ** 2).sum(-1)
    distance[0, (weights[0] < 0).any(1)] = np.inf  # the point of the plane lies outside of the triangle
    best: Floats = np.take_along_axis(weights, distance.argmin(0)[None, :, None], 0)[0]
    return best


def _symmetric(points: SurfacePoints, pair: Ints, mirror: Ints) -> SurfacePoints:
    """Landmarks of the subject's right get the mirrored triangle of their partner.

    `pair` is [468], `mirror` has the shape [V].
    """
    partner = pair < np.arange(len(pair))
    vertices = np.where(partner[:, None], mirror[points.vertices[pair]], points.vertices)
    return SurfacePoints(vertices, np.where(partner[:, None], points.weights[pair], points.weights))


def mirror_pairs(face_mesh_tgz: Path) -> Ints:
    """Number of the landmark on the other side for each of the 468, shape [468]; itself on the midline."""
    points = canonical_face(face_mesh_tgz)
    reflected = points * (-1, 1, 1)
    distance: Floats = ((reflected[:, None] - points[None]) ** 2).sum(-1)  # [468, 468]
    nearest: Ints = distance.argmin(1)
    return nearest


def canonical_face(face_mesh_tgz: Path) -> Floats:
    """MediaPipe's canonical face [468, 3] in centimetres, from the packed assets of its npm package."""
    with tarfile.open(face_mesh_tgz) as package:
        member = package.extractfile(PACKED_ASSETS)
        if member is None:
            raise MediaError(f"'{face_mesh_tgz}' has no {PACKED_ASSETS}: give @mediapipe/face_mesh 0.4.1657299874")
        message = member.read()[CANONICAL_MESH]
    mesh = next(value for number, value in _fields(message) if number == 1)
    buffer = b"".join(value for number, value in _fields(mesh) if number == 3)
    return np.frombuffer(buffer, "<f4").reshape(-1, 5)[:, :3].astype(np.float64)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the fields of a protocol-buffer message; varints are given as empty bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(message, at)
            size = 0
        elif kind == 2:
            size, at = _varint(message, at)
        else:
            size = struct.calcsize({5: "<f", 1: "<d"}[kind])
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Value of a protocol-buffer varint and the position behind it: seven bits a byte, the lowest first."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
