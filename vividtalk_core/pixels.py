"""Pixel values: 0..1 as floating-point numbers inside the core, 0..255 as uint8 in files and training data."""

from __future__ import annotations

import torch
from torch import Tensor

# Weights of red, green and blue in the luma of Rec. 601, which JPEG uses too.
LUMA = (0.299, 0.587, 0.114)


def to_float(values: Tensor) -> Tensor:
    """Pixels [..., H, W] of any type as float32: uint8 0..255 becomes 0..1, every other type keeps its values."""
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()


def luma(image: Tensor) -> Tensor:
    """Luminance [..., H, W] of RGB [..., 3, H, W], in the encoding of the image."""
    red, green, blue = image.unbind(-3)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
