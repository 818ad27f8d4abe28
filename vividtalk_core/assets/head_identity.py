"""Identity components: people sampled with MakeHuman's sliders, aligned, and reduced by PCA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from zipfile import ZipFile

import numpy as np

from . import makehuman
from .arrays import Floats, Ints
from .head_topology import Topology
from .makehuman import BaseMesh, Slider

FOLDERS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
RACES = ("african", "asian", "caucasian")
AGES = ("child", "young", "old")
SEXES = ("female", "male")
WEIGHTS = ("minweight", "averageweight", "maxweight")
# Sliders whose full range gives skulls, ears and necks that people do not have.
SUBDUED = ("head-", "forehead-", "neck-", "measure-neck", "l-ear-", "r-ear-")


@dataclass(frozen=True, slots=True)
class PeopleConfig:
    """How people are sampled; a slider's range is −1..1."""

    count: int = 700  # each is used with its mirror image
    spread: float = 0.3  # standard deviation of a slider
    exaggerated: float = 0.2  # share of people sampled with twice the spread: art and caricature
    children: float = 0.15  # share of people towards a child's proportions
    asymmetry: float = 0.1  # between a left and a right slider, of the spread
    subdued: float = 0.5  # of the spread, for SUBDUED sliders
    seed: int = 0


def average_person(macro: Mapping[str, Floats]) -> Floats:
    """Displacement [N, 3] of the person between the sexes and races, a young adult."""
    age = np.array((0.0, 0.85, 0.15))
    return macro_displacement(macro, np.full(3, 1 / 3), np.array((0.5, 0.5)), age, np.array((0.0, 1.0, 0.0)))


def macro_displacement(macro: Mapping[str, Floats], race: Floats, sex: Floats, age: Floats, weight: Floats) -> Floats:
    """Displacement [V, 3] of a mixture: shares over RACES, SEXES, AGES and WEIGHTS, each summing to 1."""
    total = np.zeros_like(next(iter(macro.values())))
    for s, sex_name in enumerate(SEXES):
        for a, age_name in enumerate(AGES):
            share = sex[s] * age[a]
            for r, name in enumerate(RACES):
                total += share * race[r] * macro[f"{name}-{sex_name}-{age_name}"]
            for w, name in enumerate(WEIGHTS):
                total += share * weight[w] * macro[f"universal-{sex_name}-{age_name}-averagemuscle-{name}"]
    return total


def sample_people(
    base: BaseMesh,
    macro: Mapping[str, Floats],
    sliders: list[Slider],
    topology: Topology,
    config: PeopleConfig,
) -> Floats:
    """People [2·count, V, 3] in decimetres: sampled ones, then their mirror images.

    Args:
        base: the body.
        macro: displacements [V, 3] for age, sex, race and weight.
        sliders: local controls over the head's vertices.
        topology: the head.
        config: how to sample.
    """
    rng = np.random.default_rng(config.seed)
    people = np.empty((2 * config.count, len(topology.vertices), 3))
    values = _slider_values(sliders, config, rng)
    up = np.stack([s.up for s in sliders]).reshape(len(sliders), -1)
    down = np.stack([np.zeros_like(s.up) if s.down is None else s.down for s in sliders]).reshape(len(sliders), -1)
    local = values.clip(min=0) @ up + (-values).clip(min=0) @ down
    for k in range(config.count):
        shape = base.vertices[topology.vertices] + _draw_macro(macro, config, rng)
        people[k] = shape + local[k].reshape(-1, 3)
    # a mirrored person is as likely, and with them the mean is symmetric
    people[config.count :] = people[: config.count, topology.mirror] * (-1, 1, 1)
    return people


def _draw_macro(macro: Mapping[str, Floats], config: PeopleConfig, rng: np.random.Generator) -> Floats:
    """Displacement [V, 3] of one random mixture of sex, age, weight and race."""
    # mostly young adults of average weight, with a tail towards old, heavy and thin people
    sex, old, heavy = rng.random(), min(max(rng.normal(0.2, 0.3), 0.0), 1.0), min(max(rng.normal(0, 0.5), -1.0), 1.0)
    child = rng.random() * 0.7 if rng.random() < config.children else 0.0
    age = np.array((child, (1 - child) * (1 - old), (1 - child) * old))
    weight = np.array((max(-heavy, 0), 1 - abs(heavy), max(heavy, 0)))
    # below 1: most people are nearer to one of the three than to an equal mixture
    return macro_displacement(macro, rng.dirichlet((0.7, 0.7, 0.7)), np.array((1 - sex, sex)), age, weight)


def _slider_values(sliders: list[Slider], config: PeopleConfig, rng: np.random.Generator) -> Floats:
    """Values [P, S] of the S sliders for P = count people; left and right are equal but for the asymmetry."""
    spread = config.spread * np.where(rng.random(config.count) < config.exaggerated, 2.0, 1.0)[:, None]
    names = [s.name for s in sliders]
    values: Floats = rng.normal(size=(config.count, len(sliders)))
    for right in (k for k, name in enumerate(names) if name.startswith("r-")):
        left = names.index("l-" + names[right][2:])
        values[:, right] = values[:, left] + config.asymmetry * values[:, right]
    subdued = np.array([config.subdued if name.startswith(SUBDUED) else 1.0 for name in names])
    values = (values * subdued * spread).clip(-1, 1)
    one_sided = np.array([s.down is None for s in sliders])
    values[:, one_sided] = values[:, one_sided].clip(min=0) * 0.7
    return values


def head_sliders(wheel: ZipFile, topology: Topology) -> list[Slider]:
    """The local controls of the head; those that only move it as a whole are left to the pose."""
    sliders = []
    for folder in FOLDERS:
        sliders += makehuman.pair_sliders(makehuman.read_targets(wheel, makehuman.TARGETS + folder, topology.vertices))
    return [s for s in sliders if not s.name.startswith(("head-trans", "neck-trans"))]


def align(people: Floats, reference: Floats, index: Ints) -> Floats:
    """People [P, V, 3] moved, turned and scaled onto the reference [V, 3] at the vertices index [K]."""
    # not geometry.fit_similarity: its last bits differ, and the principal components, whose weakest ones have nearly
    # equal variances, would no longer be those of the recorded head
    source, target = people[:, index], reference[index]
    source_mean, target_mean = source.mean(1, keepdims=True), target.mean(0)
    source, target = source - source_mean, target - target_mean
    u, s, vt = np.linalg.svd(np.einsum("kc,pkd->pcd", target, source))
    sign = np.ones_like(s)
    # without it a person could be mirrored onto the reference (Kabsch, Umeyama)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    turn = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(1) / (source**2).sum((1, 2))
    aligned: Floats = scale[:, None, None] * np.einsum("pvc,pdc->pvd", people - source_mean, turn) + target_mean
    return aligned


def principal_components(people: Floats, weight: Floats, count: int) -> tuple[Floats, Floats]:
    """Mean [V, 3] and components [count, V, 3] per standard deviation, most important first.

    Args:
        people: [P, V, 3].
        weight: importance of each vertex, shape [V].
        count: number of components.
    """
    mean = people.mean(0)
    data = (people - mean).reshape(len(people), -1)
    weighted = data * np.repeat(np.sqrt(weight), 3)
    # P × P, not 3V × 3V: there are far fewer people than coordinates, and the scores are the same
    _, vectors = np.linalg.eigh(weighted @ weighted.T)
    # reversed, because eigh sorts by rising eigenvalues
    scores = vectors[:, ::-1][:, :count] * np.sqrt(len(people))  # unit variance
    components = scores.T @ data / len(people)
    # the sign of an eigenvector is arbitrary: its largest coordinate is made positive, so that every build agrees
    strongest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    return mean, (components * np.sign(strongest)).reshape(count, -1, 3)
