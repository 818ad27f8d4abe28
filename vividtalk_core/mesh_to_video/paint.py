"""Laying a painted layer over frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import blur
from ..geometry import pixel_centres
from ..structures import Paint

SOFTNESS_PX = 0.6  # px of the painting: its edges are as soft as a photograph's


def paint_over(image: Tensor, paint: Paint, detail: float) -> Tensor:
    """Blend the painting over frames.

    Args:
        image: [T, 3, H, W], the crop (or a part of it from its origin) at `detail` px per px of the 256 crop.
        paint: T frames.
        detail: px of the image per px of the crop.

    Returns:
        [T, 3, H, W]; pixels under zero alpha are untouched.
    """
    layer = paint_layer(paint, *image.shape[2:], detail)
    if paint.beneath is not None:
        return image + layer[:, :3]  # a difference: what is finer than the painting stays
    return image * (1 - layer[:, 3:]) + layer[:, :3]


def paint_layer(paint: Paint, height: int, width: int, detail: float) -> Tensor:
    """The painting where it belongs, [T, 4, H, W]: RGB times alpha, and alpha; see `paint_over`.

    With `paint.beneath` RGB is what has to be added to it.
    """
    grid = pixel_centres(height, width, paint.color.device) / detail  # px of the crop
    size = paint.box[:, 2:] - paint.box[:, :2]
    place = (grid[None] - paint.box[:, None, None, :2]) / size[:, None, None] * 2 - 1  # [T, H, W, 2]
    color = paint.color if paint.beneath is None else paint.color - paint.beneath
    # colours are weighted by alpha before they are resampled: no dark fringe comes in from the unpainted side
    layer = torch.cat((color * paint.alpha, paint.alpha), 1)
    if paint.beneath is None:
        layer = blur(layer, SOFTNESS_PX)
    return F.grid_sample(layer, place, align_corners=False, padding_mode="zeros")
