"""Laying a painted layer over frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import pixel_centres
from ..structures import Paint
from .source_view import blur

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
    height, width = image.shape[2:]
    grid = pixel_centres(height, width, image.device) / detail  # px of the crop
    size = paint.box[:, 2:] - paint.box[:, :2]
    place = (grid[None] - paint.box[:, None, None, :2]) / size[:, None, None] * 2 - 1  # [T, H, W, 2]
    # colours are weighted by alpha before they are resampled: no dark fringe comes in from the unpainted side
    layer = torch.cat((paint.color * paint.alpha, paint.alpha), 1)
    layer = F.grid_sample(blur(layer, SOFTNESS_PX), place, align_corners=False, padding_mode="zeros")
    return image * (1 - layer[:, 3:]) + layer[:, :3]
