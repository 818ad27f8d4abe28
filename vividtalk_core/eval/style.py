"""How far a made picture strays from the portrait's style: its colours, its lines and its flat areas.

Distributions are compared, not pixels: a face that only turns keeps its style, one that is painted anew as a photograph
does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .motion import LUMINANCE

LEVELS = 256  # quantiles by which two distributions are compared
EDGE = 24.0  # of 255 per px, from which the slope of the brightness is a line
SHARPEST = 0.98  # quantile of the slope that stands for the sharpness of lines
SOBEL = torch.tensor(((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))) / 8  # a slope of 1 per px gives 1


@dataclass(frozen=True, slots=True)
class StyleChange:
    """A made picture beside the portrait; distances of 0 and ratios of 1 are no change."""

    color_distance: float  # ΔE of Lab: how far colours move to turn one histogram into the other; 2 is just visible
    saturation_ratio: float  # mean chroma, made ÷ portrait
    edge_ratio: float  # share of pixels that lie on a line, made ÷ portrait
    sharpness_ratio: float  # slope of the steepest lines, made ÷ portrait
    gradient_distance: float  # octaves: how far slopes move to turn one histogram into the other


def style_change(portrait: Tensor, made: Tensor, where: Tensor, made_where: Tensor | None = None) -> StyleChange:
    """Compare the style of a made picture with the portrait's, at one size.

    Args:
        portrait: [1, 3, H, W] RGB in 0..1.
        made: [1, 3, H, W] RGB in 0..1.
        where: [H, W] bool, the part of the portrait that is looked at, e.g. `face_oval`.
        made_where: [H, W] bool, the same part of the made picture; None looks at the same place.

    Raises:
        ValueError: pictures of two sizes, or a part without pixels.
    """
    parts = (where, where if made_where is None else made_where)
    if portrait.shape != made.shape:
        raise ValueError(f"style is compared at one size; got {list(portrait.shape)} and {list(made.shape)}")
    if not all(part.any() for part in parts):
        raise ValueError("style is compared inside a part of the picture; it has no pixels")
    colors = [_lab(picture)[:, part] for picture, part in zip((portrait, made), parts, strict=True)]  # [3, N]
    slopes = [_slope(picture)[part] for picture, part in zip((portrait, made), parts, strict=True)]  # [N]
    octaves = [torch.log2(1 + slope)[None] for slope in slopes]
    return StyleChange(
        color_distance=float(_distances(*colors).norm()),
        saturation_ratio=_ratio(*(color[1:].norm(dim=0).mean() for color in colors)),
        edge_ratio=_ratio(*((slope > EDGE).float().mean() for slope in slopes)),
        sharpness_ratio=_ratio(*(slope.quantile(SHARPEST) for slope in slopes)),
        gradient_distance=float(_distances(*octaves)),
    )


def _lab(picture: Tensor) -> Tensor:
    """[3, H, W] CIE Lab of [1, 3, H, W]."""
    from kornia.color import rgb_to_lab

    return rgb_to_lab(picture)[0]


def _slope(picture: Tensor) -> Tensor:
    """[H, W] slope of the brightness, 0..255 per px, of [1, 3, H, W]."""
    grey = 255 * (picture * LUMINANCE).sum(1, keepdim=True)
    kernels = torch.stack((SOBEL, SOBEL.T))[:, None]
    return F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)[0].norm(dim=0)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """[K] Wasserstein-1 distances of K distributions, of which there are samples [K, N] and [K, M]."""
    levels = (torch.arange(LEVELS) + 0.5) / LEVELS
    return (a.quantile(levels, dim=1) - b.quantile(levels, dim=1)).abs().mean(0)


def _ratio(portrait: Tensor, made: Tensor) -> float:
    """Made over portrait; 1 where both are nothing."""
    if not portrait > 0:
        return float("inf") if made > 0 else 1.0
    return float(made / portrait)
