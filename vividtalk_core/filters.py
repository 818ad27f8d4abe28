"""Gaussians, steps and blurs of images, curves and masks, for the whole package."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import SettingsError

REACH = 3.0  # standard deviations; 99.7 % of a Gaussian lie within them
WIDEST_BLUR = 10_000  # rows: minutes of video; the memory of a blur grows with its width


def ramp(value: Tensor, low: float, high: float) -> Tensor:
    """Linear from 0 at `low` to 1 at `high`, constant outside; any shape [...]. `high` may lie below `low`."""
    return ((value - low) / (high - low)).clamp(0, 1)


def smoothstep(value: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """3x² − 2x³ of the `ramp` x of a value of any shape [...]: from 0 to 1 with no slope at either end (as in GLSL)."""
    x = ramp(value, low, high)
    return x * x * (3 - 2 * x)


def gaussian(distance: Tensor, sigma: float | Tensor) -> Tensor:
    """exp(−d² / 2σ²) of distances of any shape [...], 1 at distance 0; σ in the same unit, a number or [...]."""
    return torch.exp(-((distance / sigma) ** 2) / 2)


def gaussian_kernel(
    reach: int,
    sigma: float,
    sigma_past: float | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Weights of a Gaussian blur.

    Args:
        reach: samples on either side.
        sigma: standard deviation in samples, above 0.
        sigma_past: that of the samples before the centre, if it is another one.
        dtype: of the result.
        device: of the result.

    Returns:
        [2·reach + 1], with the sum 1; the last `reach` weights belong to the samples after the centre.
    """
    lag = torch.arange(-reach, reach + 1, dtype=dtype, device=device)
    weights = gaussian(lag, sigma)
    if sigma_past is not None:
        weights = torch.where(lag > 0, weights, gaussian(lag, sigma_past))
    return weights / weights.sum()


def blur(image: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of images, separable, the border repeated.

    Shifted copies are added up: a convolution chooses its order of summation by the batch, so that a frame's last bit
    would depend on how many others are made with it, and on single planes it is slower.

    Args:
        image: [..., H, W].
        sigma_px: standard deviation in px, above 0; the kernel ends after 2.5 of them.

    Returns:
        [..., H, W].
    """
    reach = max(1, round(2.5 * sigma_px))
    taps: list[float] = gaussian_kernel(reach, sigma_px).tolist()
    height, width = image.shape[-2:]
    # the border is repeated, because zeros would darken it
    padded = F.pad(image.reshape(-1, 1, height, width), (reach,) * 4, mode="replicate")
    rows = _weighted_sum([padded[..., shift : shift + width] for shift in range(len(taps))], taps)
    blurred = _weighted_sum([rows[..., shift : shift + height, :] for shift in range(len(taps))], taps)
    return blurred.reshape(image.shape)


def _weighted_sum(values: list[Tensor], weights: list[float]) -> Tensor:
    """The sum [B, C, H, W] of images [B, C, H, W], each times its weight, added in their order."""
    total = weights[0] * values[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total = total + weight * value
    return total


def blur_rows(rows: Tensor, sigma: float, sigma_past: float | None = None) -> Tensor:
    """Gaussian blur of curves along time, the ends repeated.

    Args:
        rows: [T, D].
        sigma: standard deviation in rows; 0 changes nothing.
        sigma_past: that of the rows before, if it is another one: with a larger `sigma` a curve begins to rise early,
            with a larger `sigma_past` it falls slowly.

    Returns:
        [T, D].

    Raises:
        SettingsError: a standard deviation is negative, not a number, or above `WIDEST_BLUR`.
    """
    widest = max(sigma, sigma if sigma_past is None else sigma_past)
    if not 0 <= min(sigma, widest) <= widest <= WIDEST_BLUR:
        wrong = widest if min(sigma, widest) >= 0 else min(sigma, widest)
        raise SettingsError(f"the time of smoothing must be 0 to {WIDEST_BLUR:,} frames; got {wrong:g} frames.")
    reach = math.ceil(REACH * widest)
    if reach == 0 or rows.shape[1] == 0:
        return rows
    kernel = gaussian_kernel(reach, sigma, sigma_past, rows.dtype, rows.device)
    # each curve is a signal of one channel in a batch: one kernel serves all
    padded = F.pad(rows.T[:, None], (reach, reach), mode="replicate")  # [D, 1, T + 2·reach]
    return F.conv1d(padded, kernel[None, None])[:, 0].T


def upsample(maps: Tensor, side: int) -> Tensor:
    """Smooth maps [B, C, h, w] enlarged to [B, C, side, side], bilinear, pixel centres at .5."""
    return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
