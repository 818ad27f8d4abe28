"""Edits of motion by part of the face or angle of the head, lip offsets included: scale, smooth and mix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from ..structures import ARKIT_NAMES, Expression, HeadMotion
from .resample import gaussian

# Parts of the face that are edited together, by the beginning of their coefficients' names.
GROUPS = {
    "jaw": ("jaw",),
    "lips": ("mouth", "tongue"),
    "cheeks": ("cheek", "nose"),
    "eyelids": ("eyeBlink", "eyeSquint", "eyeWide"),
    "gaze": ("eyeLook",),
    "brows": ("brow",),
}
LIPS = "lips"  # the group that lip offsets belong to


def scale_groups(expression: Expression, gains: Mapping[str, float]) -> Expression:
    """Multiply the motion of each named group of GROUPS; groups that are not named keep theirs. Zero is no motion."""
    motion, lips = _motion(expression)
    coefficients = motion * _per_coefficient(gains, 1.0).to(motion)
    return _with_motion(expression, coefficients, lips * gains.get(LIPS, 1.0))


def mix_groups(first: Expression, second: Expression, weights: Mapping[str, float]) -> Expression:
    """Blend two motions of the same length group by group: weight 0 is the first, 1 the second; unnamed groups are 0.

    What is mixed is motion, that is the difference from each one's neutral; the result keeps the first one's neutral.
    """
    _check_match(first, second, len(first.coefficients), len(second.coefficients))
    (motion, lips), (other, other_lips) = _motion(first), _motion(second)
    if lips.shape != other_lips.shape:
        raise ValueError(f"The lip offsets are for {lips.shape[1]} and {other_lips.shape[1]} vertices: use one model.")
    mixed = torch.lerp(motion, other, _per_coefficient(weights, 0.0).to(motion).expand_as(motion))
    return _with_motion(first, mixed, torch.lerp(lips, other_lips, float(weights.get(LIPS, 0.0))))


def smooth_all(expression: Expression, sigma_s: float) -> Expression:
    """Average all curves and the lip offsets over time with a Gaussian of `sigma_s` seconds; 0 changes nothing."""
    sigma, lips = sigma_s * expression.fps, expression.lip_offsets
    return dataclasses.replace(
        expression,
        coefficients=gaussian(expression.coefficients, sigma),
        lip_offsets=gaussian(lips.flatten(1), sigma).view_as(lips),
    )


def scale_angles(pose: HeadMotion, pitch: float, yaw: float, roll: float, shift: float) -> HeadMotion:
    """Multiply each angle of a head motion, and its translation by `shift`; zero stops it, below zero mirrors it."""
    gains = pose.rotation.new_tensor((pitch, yaw, roll))
    return dataclasses.replace(pose, rotation=pose.rotation * gains, translation=pose.translation * shift)


def mix_poses(first: HeadMotion, second: HeadMotion, weight: float) -> HeadMotion:
    """Blend two head motions of the same length: weight 0 is the first, 1 the second, in between a straight line."""
    _check_match(first, second, len(first.rotation), len(second.rotation))
    return dataclasses.replace(
        first,
        rotation=torch.lerp(first.rotation, second.rotation, weight),
        translation=torch.lerp(first.translation, second.translation, weight),
    )


def _per_coefficient(values: Mapping[str, float], default: float) -> Tensor:
    """[E] the value of each coefficient's group, a factor for coefficients [T, E]."""
    unknown = sorted(values.keys() - GROUPS.keys())
    if unknown:
        raise ValueError(f"No such group of coefficients: {', '.join(unknown)}; there are {', '.join(GROUPS)}.")
    groups = {prefix: group for group, prefixes in GROUPS.items() for prefix in prefixes}
    named = (next(group for prefix, group in groups.items() if name.startswith(prefix)) for name in ARKIT_NAMES)
    return torch.tensor([values.get(group, default) for group in named])


def _motion(expression: Expression) -> tuple[Tensor, Tensor]:
    """Coefficients [T, E] and lip offsets [T, L, 3] as differences from the neutral."""
    coefficients = expression.coefficients - expression.neutral_coefficients
    return coefficients, expression.lip_offsets - expression.neutral_lip_offsets


def _with_motion(expression: Expression, coefficients: Tensor, lips: Tensor) -> Expression:
    """The expression with another motion, [T, E] and [T, L, 3], on its own neutral."""
    coefficients = (coefficients + expression.neutral_coefficients).clamp(0, 1)
    return dataclasses.replace(expression, coefficients=coefficients, lip_offsets=lips + expression.neutral_lip_offsets)


def _check_match(first: Expression | HeadMotion, second: Expression | HeadMotion, frames: int, others: int) -> None:
    if frames != others or abs(first.fps - second.fps) > 1e-3:
        raise ValueError(
            f"Only motions of one length can be mixed: these have {frames} frames at {first.fps:g} fps and "
            f"{others} at {second.fps:g}."
        )
