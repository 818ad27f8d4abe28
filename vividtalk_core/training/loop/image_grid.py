"""Sheets of pictures, for looking at how a training goes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from ...files import whole_file

GAP_PX = 2  # px of white between pictures


def picture_grid(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Pictures side by side and row under row.

    Args:
        rows: pictures [3, h, w] or maps [1, h, w] in 0..1, of any sizes; what lies outside 0..1 is cut off.

    Returns:
        [3, H, W] float32 on the CPU, white between the pictures and where a row is shorter.

    Raises:
        ValueError: there is no picture, or one of another shape.
    """
    bands = [_join([_to_rgb(picture) for picture in row], -1) for row in rows if len(row)]
    if not bands:
        raise ValueError("a grid needs at least one picture; got none")
    return _join(bands, -2)


def write_grid(path: str | os.PathLike[str], pictures: Tensor) -> None:
    """Write pictures [3, H, W] in 0..1 to a PNG file, whole or not at all."""
    # OpenCV wants blue, green, red.
    rows = (_to_rgb(pictures) * 255).round().byte().permute(1, 2, 0).flip(-1).contiguous().numpy()
    data = cv2.imencode(".png", rows)[1]
    with whole_file(path) as part:
        part.write_bytes(data.tobytes())


def _to_rgb(picture: Tensor) -> Tensor:
    """[1 or 3, h, w] to [3, h, w] float32 in 0..1 on the CPU; NaN is black."""
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or not picture.numel():
        raise ValueError(f"a picture must be [3, H, W] or [1, H, W] with pixels; got {list(picture.shape)}")
    return picture.detach().float().cpu().nan_to_num(0).clamp(0, 1).expand(3, -1, -1)


def _join(pictures: list[Tensor], dim: int) -> Tensor:
    """Pictures [3, h, w] along a dimension, −1 or −2, with a gap between them and white where one is smaller."""
    other = -3 - dim
    size = max(picture.shape[other] for picture in pictures)
    filled = []
    for picture in pictures:
        missing = size - picture.shape[other]
        right, below = (GAP_PX, missing) if dim == -1 else (missing, GAP_PX)
        filled.append(F.pad(picture, (0, right, 0, below), value=1.0))
    joined = torch.cat(filled, dim)
    return joined.narrow(dim, 0, joined.shape[dim] - GAP_PX)
