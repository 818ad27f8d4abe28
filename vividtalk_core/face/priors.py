"""The prior over expressions: which coefficients are rare, and which exclude each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Cost of a coefficient; 1 unless named. Coefficients whose effect on the landmarks is similar to that of head pose,
# identity or a more frequent expression cost more.
COST = {
    "browDown": 1.5, "browInnerUp": 3.0, "browOuterUp": 1.5, "cheekPuff": 8.0, "cheekSquint": 4.0, "eyeBlink": 0.1,
    "eyeLook": 0.1, "eyeSquint": 3.0, "eyeWide": 1.0, "jawForward": 6.0, "jawLeft": 4.0, "jawRight": 4.0,
    "jawOpen": 0.2, "mouthClose": 10.0, "mouthDimple": 3.0, "mouthFrown": 1.5, "mouthFunnel": 2.0, "mouthLeft": 4.0,
    "mouthRight": 4.0, "mouthLowerDown": 2.0, "mouthPress": 4.0, "mouthPucker": 0.5, "mouthRollLower": 3.0,
    "mouthRollUpper": 3.0, "mouthShrugLower": 4.0, "mouthShrugUpper": 4.0, "mouthSmile": 0.2, "mouthStretch": 1.5,
    "mouthUpperUp": 2.0, "noseSneer": 4.0,
}  # fmt: skip
# Opposite movements: together they cancel, so only one of them may be in use.
OPPOSITES = (
    ("mouthLeft", "mouthRight"), ("jawLeft", "jawRight"), ("mouthSmileLeft", "mouthFrownLeft"),
    ("mouthSmileRight", "mouthFrownRight"), ("mouthPucker", "mouthSmileLeft"), ("mouthPucker", "mouthSmileRight"),
    ("mouthPucker", "mouthStretchLeft"), ("mouthPucker", "mouthStretchRight"), ("mouthRollLower", "mouthLowerDownLeft"),
    ("mouthRollLower", "mouthLowerDownRight"), ("mouthRollUpper", "mouthUpperUpLeft"),
    ("mouthRollUpper", "mouthUpperUpRight"), ("mouthRollLower", "mouthFunnel"), ("mouthRollUpper", "mouthFunnel"),
    ("eyeBlinkLeft", "eyeWideLeft"), ("eyeBlinkRight", "eyeWideRight"), ("browInnerUp", "browDownLeft"),
    ("browInnerUp", "browDownRight"), ("browOuterUpLeft", "browDownLeft"), ("browOuterUpRight", "browDownRight"),
    ("eyeLookUpLeft", "eyeLookDownLeft"), ("eyeLookUpRight", "eyeLookDownRight"),
    ("eyeLookInLeft", "eyeLookOutLeft"), ("eyeLookInRight", "eyeLookOutRight"),
)  # fmt: skip
# Movements that go together: the eyes look the same way, the lids close and squint alike.
COUPLED = (
    ("eyeLookInLeft", "eyeLookOutRight", 3.0), ("eyeLookOutLeft", "eyeLookInRight", 3.0),
    ("eyeLookUpLeft", "eyeLookUpRight", 3.0), ("eyeLookDownLeft", "eyeLookDownRight", 3.0),
    ("eyeBlinkLeft", "eyeBlinkRight", 0.3), ("eyeSquintLeft", "eyeSquintRight", 2.0),
    ("eyeWideLeft", "eyeWideRight", 2.0), ("browDownLeft", "browDownRight", 1.0),
    ("browOuterUpLeft", "browOuterUpRight", 0.5), ("cheekSquintLeft", "cheekSquintRight", 1.0),
    ("noseSneerLeft", "noseSneerRight", 2.0), ("mouthUpperUpLeft", "mouthUpperUpRight", 1.0),
    ("mouthLowerDownLeft", "mouthLowerDownRight", 1.0), ("mouthSmileLeft", "mouthSmileRight", 0.5),
    ("mouthFrownLeft", "mouthFrownRight", 0.5), ("mouthStretchLeft", "mouthStretchRight", 0.5),
    ("mouthDimpleLeft", "mouthDimpleRight", 1.0), ("mouthPressLeft", "mouthPressRight", 1.0),
)  # fmt: skip
UNSEEN = ("tongueOut",)  # no landmark lies on the tongue


@dataclass(frozen=True, eq=False, slots=True)
class ExpressionPrior:
    """−log p(β) = ½·βᵀ·matrix·β + linear·β on 0 ≤ β ≤ limit, in units of one squared px of one landmark."""

    matrix: Tensor  # [E, E]
    linear: Tensor  # [E]
    limit: Tensor  # [E] 1, or 0 for coefficients that move no landmark


def expression_prior(names: tuple[str, ...], strength: float, sparsity: float, exclusion: float) -> ExpressionPrior:
    """The prior over named coefficients.

    Args:
        names: [E] ARKit names.
        strength: of the quadratic cost at cost 1.
        sparsity: of the linear cost at cost 1.
        exclusion: of the product of two opposite movements.
    """
    cost = torch.tensor([_cost(name) for name in names])
    matrix = torch.diag(cost * strength)
    for first, second in OPPOSITES:
        i, j = names.index(first), names.index(second)
        matrix[[i, j], [j, i]] += exclusion
        matrix[[i, j], [i, j]] += exclusion / 2  # keeps the form near convex
    for first, second, tie in COUPLED:
        i, j = names.index(first), names.index(second)
        # ½ · tie · strength · (β_i − β_j)², multiplied out
        matrix[[i, j], [i, j]] += tie * strength
        matrix[[i, j], [j, i]] -= tie * strength
    limit = torch.tensor([0.0 if name in UNSEEN else 1.0 for name in names])
    return ExpressionPrior(matrix, cost * sparsity, limit)


def _cost(name: str) -> float:
    """The cost of a coefficient by its name, by its name without the side, or by the beginning of its name."""
    stem = name.removesuffix("Left").removesuffix("Right")
    return COST.get(name, COST.get(stem, next((c for key, c in COST.items() if name.startswith(key)), 1.0)))
