"""Painted layers: where their boxes lie, and how they are blended over frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import blur
from ..geometry import pixel_centres
from ..structures import Paint

# Painted edges are as soft as those of a photograph.
SOFTNESS_PX = 0.6  # px of the painting, standard deviation of a blur


def boxes_around(points: Tensor, half: Tensor) -> Tensor:
    """Boxes of one size that follow landmarks: left, top, right, bottom [T, 4] px.

    Args:
        points: [T, N, 2] px; a box is centred on their extent.
        half: [2] half of the width and height, px.
    """
    middle = (points.amax(1) + points.amin(1)) / 2
    return torch.cat((middle - half, middle + half), 1)


def box_points(box: Tensor, height: int, width: int, detail: int) -> Tensor:
    """Where the pixels of a painting lie, [H, W, 2] px of the crop, for a box [4] at `detail` px per px of the crop."""
    return pixel_centres(height, width, box.device) / detail + box[:2]


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
    layer = paint_layer(paint, height, width, detail)
    if paint.beneath is not None:
        # a difference is added: detail that is finer than the painting stays in the image
        return image + layer[:, :3]
    return image * (1 - layer[:, 3:]) + layer[:, :3]


def paint_layer(paint: Paint, height: int, width: int, detail: float) -> Tensor:
    """The painting where it belongs, [T, 4, H, W]: RGB times alpha, and alpha; see `paint_over`.

    With `paint.beneath` RGB is what has to be added to it.
    """
    grid = pixel_centres(height, width, paint.color.device) / detail  # px of the crop
    size = paint.box[:, 2:] - paint.box[:, :2]
    place = (grid[None] - paint.box[:, None, None, :2]) / size[:, None, None] * 2 - 1  # [T, H, W, 2]
    color = paint.color if paint.beneath is None else paint.color - paint.beneath
    # colours are weighted by alpha before they are resampled: else unpainted pixels would leave a dark fringe
    layer = torch.cat((color * paint.alpha, paint.alpha), 1)
    if paint.beneath is None:
        layer = blur(layer, SOFTNESS_PX)
    return F.grid_sample(layer, place, align_corners=False, padding_mode="zeros")
