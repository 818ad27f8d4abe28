"""Change of style from the portrait to a generated image: of its colours, its lines and its flat areas.

Distributions are compared, not pixels: a face that only turns keeps its style, a drawing that becomes a photograph
does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import MismatchError, NoFaceError
from ..pixels import luma

LEVELS = 256  # quantiles by which two distributions are compared
# Of 255 per px: a steeper slope of the brightness counts as a line.
EDGE = 24.0
# Quantile of the slope that measures the sharpness of lines; the maximum would be noise.
SHARPEST = 0.98
SOBEL = torch.tensor(((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))) / 8  # a slope of 1 per px gives 1


@dataclass(frozen=True, slots=True)
class StyleChange:
    """A generated image beside the portrait; distances of 0 and ratios of 1 mean no change."""

    color_distance: float  # ΔE of Lab: how far colours move to turn one histogram into the other; 2 is just visible
    saturation_ratio: float  # mean chroma, generated ÷ portrait
    edge_ratio: float  # share of pixels that lie on a line, generated ÷ portrait
    sharpness_ratio: float  # slope of the steepest lines, generated ÷ portrait
    gradient_distance: float  # octaves: how far slopes move to turn one histogram into the other


def style_change(
    portrait: Tensor, generated: Tensor, where: Tensor, generated_where: Tensor | None = None
) -> StyleChange:
    """Compare the style of a generated image with the portrait's, at one size.

    Args:
        portrait: [1, 3, H, W] RGB in 0..1.
        generated: [1, 3, H, W] RGB in 0..1.
        where: [H, W] bool, the part of the portrait that is compared, e.g. `face_oval`.
        generated_where: [H, W] bool, the same part of the generated image; None takes the same place.

    Raises:
        MismatchError: images of two sizes.
        NoFaceError: a part has no pixels.
    """
    parts = (where, where if generated_where is None else generated_where)
    if portrait.shape != generated.shape:
        raise MismatchError(
            f"style is compared at one size; got {list(portrait.shape)} and {list(generated.shape)}: resize one image"
        )
    if not all(part.any() for part in parts):
        raise NoFaceError("style is compared inside the face; the face lies outside of the image: it has no pixels")
    colors = [_lab(image)[:, part] for image, part in zip((portrait, generated), parts, strict=True)]  # [3, N]
    # Slopes are taken of whole images and cut afterwards, because the border of a cut part would be a line.
    slopes = [_slope(image)[part] for image, part in zip((portrait, generated), parts, strict=True)]  # [N]
    # In octaves, because a slope that doubles looks equally different whether it was faint or steep; 1 is added for
    # flat areas.
    octaves = [torch.log2(1 + slope)[None] for slope in slopes]
    return StyleChange(
        color_distance=float(_distances(colors[0], colors[1]).norm()),
        saturation_ratio=_ratio([color[1:].norm(dim=0).mean() for color in colors]),
        edge_ratio=_ratio([(slope > EDGE).float().mean() for slope in slopes]),
        sharpness_ratio=_ratio([slope.quantile(SHARPEST) for slope in slopes]),
        gradient_distance=float(_distances(octaves[0], octaves[1])),
    )


def _lab(image: Tensor) -> Tensor:
    """[3, H, W] CIE Lab of an RGB image [1, 3, H, W]."""
    from kornia.color import rgb_to_lab

    return rgb_to_lab(image)[0]


def _slope(image: Tensor) -> Tensor:
    """[H, W] slope of the brightness, 0..255 per px, of an image [1, 3, H, W]."""
    # 0..255, the scale on which `EDGE` is given.
    grey = 255 * luma(image)[:, None]
    kernels = torch.stack((SOBEL, SOBEL.T))[:, None]
    slope: Tensor = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)[0].norm(dim=0)
    return slope


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Wasserstein-1 distances, shape [K], of K pairs of distributions, from samples [K, N] and [K, M]."""
    # In one dimension the optimal transport pairs equal quantiles.
    levels = (torch.arange(LEVELS) + 0.5) / LEVELS
    # equally many levels of both, because the two parts of the images have different numbers of pixels
    return (a.quantile(levels, dim=1) - b.quantile(levels, dim=1)).abs().mean(0)


def _ratio(values: Sequence[Tensor]) -> float:
    """Generated over portrait, given as (portrait, generated), each a tensor of shape []; 1 where both are 0."""
    portrait, generated = values
    if not portrait > 0:
        return float("inf") if generated > 0 else 1.0
    return float(generated / portrait)
