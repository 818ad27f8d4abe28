"""Edits of expression curves and head motion, by part of the face or angle of the head: scale, smooth and mix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import MismatchError, SettingsError
from ..filters import blur_rows
from ..structures import ARKIT_NAMES, Expression, HeadMotion

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
UPPER_FACE = ("cheeks", "eyelids", "gaze", "brows")  # the groups above the mouth


def scale_groups(expression: Expression, gains: Mapping[str, float]) -> Expression:
    """Multiply the change of each named group of GROUPS by its gain.

    Args:
        expression: coefficients [T, E] and lip offsets [T, L, 3]; their difference from the neutral is scaled.
        gains: group → factor, 0 for no change; groups that are not named keep theirs. Lip offsets go with "lips".

    Raises:
        SettingsError: there is no such group.
    """
    change, lips = _change(expression)
    coefficients = change * _per_coefficient(gains, 1.0).to(change)
    return _with_change(expression, coefficients, lips * gains.get(LIPS, 1.0))


def mix_groups(first: Expression, second: Expression, weights: Mapping[str, float]) -> Expression:
    """Blend two expressions of the same length group by group.

    Their differences from their own neutrals are mixed; the result keeps the first one's neutral.

    Args:
        first: coefficients [T, E] and lip offsets [T, L, 3].
        second: of the same shapes.
        weights: group → 0 for the first, 1 for the second, in between a straight line; groups that are not named are 0.

    Raises:
        MismatchError: they differ in length, frame rate or head model.
        SettingsError: there is no such group.
    """
    _check_match(first, second)
    (change, lips), (other, other_lips) = _change(first), _change(second)
    if lips.shape != other_lips.shape:
        raise MismatchError(
            f"the lip offsets are for {lips.shape[1]} and {other_lips.shape[1]} vertices: use one head model."
        )
    mixed = torch.lerp(change, other, _per_coefficient(weights, 0.0).to(change).expand_as(change))
    return _with_change(first, mixed, torch.lerp(lips, other_lips, float(weights.get(LIPS, 0.0))))


def with_upper_face(expression: Expression, other: Expression) -> Expression:
    """The jaw and lips of an expression [T, E] with cheeks, eyelids, gaze and brows of another, as they change there.

    Raises:
        MismatchError: they differ in length or frame rate.
    """
    _check_match(expression, other)
    change, lips = _change(expression)
    upper = _per_coefficient(dict.fromkeys(UPPER_FACE, 1.0), 0.0).bool()
    return _with_change(expression, torch.where(upper, _change(other)[0].to(change), change), lips)


def smooth_all(expression: Expression, sigma_s: float) -> Expression:
    """Smooth coefficients [T, E] and lip offsets [T, L, 3] over time with a Gaussian of `sigma_s` seconds."""
    sigma, lips = sigma_s * expression.fps, expression.lip_offsets
    return dataclasses.replace(
        expression,
        coefficients=blur_rows(expression.coefficients, sigma),
        lip_offsets=blur_rows(lips.flatten(1), sigma).view_as(lips),
    )


def scale_angles(pose: HeadMotion, pitch: float, yaw: float, roll: float, shift: float) -> HeadMotion:
    """Multiply each angle of a head motion [T, 3], and its translation by `shift`; 0 stops it, below 0 mirrors it."""
    gains = pose.rotation.new_tensor((pitch, yaw, roll))
    return dataclasses.replace(pose, rotation=pose.rotation * gains, translation=pose.translation * shift)


def mix_poses(first: HeadMotion, second: HeadMotion, weight: float) -> HeadMotion:
    """Blend two head motions [T, 3] of the same length: weight 0 is the first, 1 the second, a straight line between.

    Raises:
        MismatchError: they differ in length or frame rate.
    """
    _check_match(first, second)
    return dataclasses.replace(
        first,
        rotation=torch.lerp(first.rotation, second.rotation, weight),
        translation=torch.lerp(first.translation, second.translation, weight),
    )


def _per_coefficient(values: Mapping[str, float], default: float) -> Tensor:
    """[E] the value of each coefficient's group, a factor for coefficients [T, E]."""
    unknown = sorted(values.keys() - GROUPS.keys())
    if unknown:
        raise SettingsError(f"there is no group of coefficients {', '.join(unknown)}; there are {', '.join(GROUPS)}.")
    groups = {prefix: group for group, prefixes in GROUPS.items() for prefix in prefixes}
    named = (next(group for prefix, group in groups.items() if name.startswith(prefix)) for name in ARKIT_NAMES)
    return torch.tensor([values.get(group, default) for group in named])


def _change(expression: Expression) -> tuple[Tensor, Tensor]:
    """Coefficients [T, E] and lip offsets [T, L, 3] as differences from the neutral."""
    coefficients = expression.coefficients - expression.neutral_coefficients
    return coefficients, expression.lip_offsets - expression.neutral_lip_offsets


def _with_change(expression: Expression, coefficients: Tensor, lips: Tensor) -> Expression:
    """The expression with other differences, [T, E] and [T, L, 3], from its own neutral."""
    # a gain above 1 may leave the range for which blendshapes are made
    coefficients = (coefficients + expression.neutral_coefficients).clamp(0, 1)
    return dataclasses.replace(expression, coefficients=coefficients, lip_offsets=lips + expression.neutral_lip_offsets)


def _check_match(first: Expression | HeadMotion, second: Expression | HeadMotion) -> None:
    # a tolerance, because 29.97 and 30000/1001 are one rate
    if first.frame_count != second.frame_count or abs(first.fps - second.fps) > 1e-3:
        raise MismatchError(
            f"only curves of one length and frame rate can be mixed: these have {first.frame_count} frames at "
            f"{first.fps:g} fps and {second.frame_count} at {second.fps:g}."
        )
