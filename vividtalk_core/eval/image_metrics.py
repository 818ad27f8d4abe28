"""Similarity of two images inside a region, and the regions of the face that are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import polygon_mask
from ..head.topology import FACE_OVAL, OUTER_LIPS

# Of the lips' longer side, added in all to width and to height: chin and cheeks move with the lips.
MOUTH_MARGIN = 0.35
SSIM_WINDOW = 11  # px, of Wang et al. 2004
# Mean square of equal images, so that their PSNR is 100 dB and not infinite.
LEAST_ERROR = 1e-10


def face_oval(points: Tensor, height: int, width: int) -> Tensor:
    """[H, W] bool inside the face oval of landmarks [468 or 478, 2] px."""
    return polygon_mask(points[list(FACE_OVAL)], height, width)


def mouth_box(points: Tensor, height: int, width: int) -> Tensor:
    """[H, W] bool inside the box of the lips of landmarks [468 or 478, 2] px, with a margin."""
    lips = points[list(OUTER_LIPS)]
    low, high = lips.amin(0), lips.amax(0)
    margin = (high - low).amax() * MOUTH_MARGIN / 2
    limits = torch.tensor((width, height, width, height))
    corners = torch.minimum(torch.cat((low - margin, high + margin)).round().long().clamp(min=0), limits)
    left, top, right, bottom = corners.tolist()
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def psnr(predicted: Tensor, target: Tensor, where: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images [1, 3, H, W] in 0..1 inside a mask [H, W] bool; at most 100."""
    error = ((predicted - target) ** 2)[:, :, where].mean().clamp(min=LEAST_ERROR)
    return float(-10 * torch.log10(error))


def ssim(predicted: Tensor, target: Tensor, where: Tensor) -> float:
    """Structural similarity (Wang et al. 2004) of images [1, 3, H, W] in 0..1, its mean inside a mask [H, W] bool."""
    from kornia.metrics import ssim as ssim_map

    return float(ssim_map(predicted, target, SSIM_WINDOW)[:, :, where].mean())
