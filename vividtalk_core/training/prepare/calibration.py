"""The zero of a tracker differs between speakers: curves are counted from the speaker's own resting mouth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import SettingsError
from ...face.offsets import lip_taper
from ...structures import MorphableModel, check_shapes


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """Which frames show the lips at rest; lengths are in inter-ocular distances."""

    rest_share: float = 0.05  # quantile of the aperture that counts as the speaker's closed lips
    widest_rest: float = 0.02  # where that quantile is above it, in shouting: lips that touch are near 0
    tolerance: float = 0.01  # above it: the landmarks' own noise is a few thousandths
    least_frames: int = 5  # with closed lips, for a median that one bad frame does not move

    def __post_init__(self) -> None:
        if not 0 <= self.rest_share < 1:
            raise SettingsError(f"rest_share must be 0 or more and below 1; got {self.rest_share}.")
        if self.least_frames < 1:
            raise SettingsError(f"least_frames must be at least 1; got {self.least_frames}.")


@dataclass(frozen=True, eq=False, slots=True)
class Neutral:
    """The tracked curves of a speaker's relaxed, closed mouth."""

    coefficients: Tensor  # [E]
    lip_offsets: Tensor  # [L, 3] model units

    def __post_init__(self) -> None:
        check_shapes(coefficients=(self.coefficients, "E"), lip_offsets=(self.lip_offsets, "L 3"))


def closed_frames(
    aperture: Tensor, valid: Tensor, settings: CalibrationSettings = CalibrationSettings()
) -> Tensor | None:
    """Frames with closed lips.

    Args:
        aperture: [T] in inter-ocular distances.
        valid: [T] bool, frames that count.
        settings: what counts as closed.

    Returns:
        bool of shape [T], or None where the lips close in too few frames.
    """
    if not valid.any():
        return None
    # A quantile and not the minimum, which a single bad frame would set.
    rest = torch.quantile(aperture[valid], settings.rest_share).clamp(max=settings.widest_rest)
    closed = valid & (aperture <= rest + settings.tolerance)
    return closed if int(closed.sum()) >= settings.least_frames else None


def neutral_face(coefficients: Tensor, lip_offsets: Tensor) -> Neutral:
    """Median over frames with closed lips, coefficients [T, E] and lip offsets [T, L, 3]; blinks do not change it."""
    # A blink lasts a few frames, too few to change a median.
    return Neutral(coefficients.median(0).values, lip_offsets.float().median(0).values)


def typical_face(neutrals: Sequence[Neutral]) -> Neutral:
    """Median of a speaker's neutral faces in several clips."""
    coefficients = torch.stack([neutral.coefficients for neutral in neutrals])
    return neutral_face(coefficients, torch.stack([neutral.lip_offsets for neutral in neutrals]))


def lip_basis(model: MorphableModel) -> Tensor:
    """U_exp at the lip vertices [E, L, 3], fading to zero at the region's rim as lip offsets do."""
    return model.exp_basis[:, model.lip_vertices] * lip_taper(model)[:, None]


def calibrate(coefficients: Tensor, lip_offsets: Tensor, neutral: Neutral, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Curves counted from the speaker's rest.

    Coefficients cannot be negative: where speech relaxes a coefficient that is active at rest, the difference goes to
    the lip offsets, so that the lips of β and O_lip together move as tracked.

    Args:
        coefficients: [T, E] β as tracked.
        lip_offsets: [T, L, 3] model units, as tracked.
        neutral: the speaker's rest.
        basis: [E, L, 3] of `lip_basis`.

    Returns:
        coefficients [T, E] in 0..1 and lip offsets [T, L, 3].
    """
    check_shapes(
        coefficients=(coefficients, "T E"),
        lip_offsets=(lip_offsets, "T L 3"),
        neutral=(neutral.coefficients, "E"),
        neutral_lips=(neutral.lip_offsets, "L 3"),
        basis=(basis, "E L 3"),
    )
    moved = coefficients - neutral.coefficients
    kept = moved.clamp(0, 1)
    # The clamp changes β, so the lips would no longer move as tracked: the offsets make up for it.
    negative = torch.tensordot(moved - kept, basis, 1)
    return kept, negative + lip_offsets.float() - neutral.lip_offsets
