"""Smoothing of pictures, curves and masks: each kind once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def smoothstep(value: Tensor) -> Tensor:
    """3x² − 2x³ of the value clamped to 0..1, any shape [...]."""
    value = value.clamp(0, 1)
    return value * value * (3 - 2 * value)


def blur(image: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of [..., H, W], separable, border repeated.

    Shifted copies are added up: a convolution chooses its order of summation by the batch, so that a frame's last bit
    would depend on how many others are made with it, and on planes it is slower.
    """
    radius = max(1, round(2.5 * sigma_px))
    weights = torch.exp(-((torch.arange(-radius, radius + 1) / sigma_px) ** 2) / 2)
    taps = (weights / weights.sum()).tolist()
    height, width = image.shape[-2:]
    padded = F.pad(image.reshape(-1, 1, height, width), (radius,) * 4, mode="replicate")
    rows = sum(tap * padded[..., shift : shift + width] for shift, tap in enumerate(taps))
    blurred = sum(tap * rows[..., shift : shift + height, :] for shift, tap in enumerate(taps))
    return blurred.reshape(image.shape)
