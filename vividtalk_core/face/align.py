"""The square crop in which a face is fitted, and landmarks in its pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures import CROP, Crop
from .landmarks import INPUT, region_of_landmarks

CROP_SIZE = 2.1  # side of the crop over the longer side of the landmarks' box
# The crop's middle lies above that of the box by this much: hair takes more room than the neck.
CROP_RISE = 0.06  # of the side


def to_pixel_centres(landmarks: Tensor) -> Tensor:
    """MediaPipe's landmarks [N, 478, 3] in px by index to px whose centres lie at .5.

    The network's own square follows the .5 rule but is cut by index: what it calls .5 is index 0 of the square and so
    index 0 of the image, whose centre is at .5. Flipping 28 pictures confirms it: the shift found is 0.39 − 0.39·scale.
    """
    half_pixel = region_of_landmarks(landmarks).matrix(INPUT)[:, :, :2].sum(-1) / 2
    shift = F.pad(0.5 - half_pixel, (0, 1))  # x, y, and none for z
    return landmarks + shift[:, None]


def face_crop(landmarks: Tensor, height: int, width: int) -> Crop:
    """The crop around a face, in whole pixels; it may overhang.

    Args:
        landmarks: [478, 3] px of the portrait.
        height: px of the portrait.
        width: px of the portrait.
    """
    # without the irises, which lie inside the face
    return box_crop(landmarks[:468, :2].amin(0), landmarks[:468, :2].amax(0), height, width)


def box_crop(low: Tensor, high: Tensor, height: int, width: int) -> Crop:
    """The crop around the box of landmarks [N, 2], given by its corners [2] in px of the portrait."""
    side = float((high - low).amax()) * CROP_SIZE
    x, y = ((low + high) / 2).tolist()
    y -= CROP_RISE * side
    # whole pixels: then the crop can be pasted back without resampling the portrait
    return Crop(round(x - side / 2), round(y - side / 2), round(side), height, width)


def cut_crop(image: Tensor, crop: Crop) -> Tensor:
    """The crop [B, C, 256, 256] of images [B, C, H, W]: borders repeated, averaged over area when it shrinks."""
    # clamped indices repeat the border where the crop overhangs; padding would copy the whole portrait
    rows = torch.arange(crop.top, crop.top + crop.size, device=image.device).clamp(0, image.shape[2] - 1)
    columns = torch.arange(crop.left, crop.left + crop.size, device=image.device).clamp(0, image.shape[3] - 1)
    square = image[:, :, rows][..., columns]
    # with antialiasing: a face of 2000 px shrinks eight times, and single samples would alias
    return F.interpolate(square, (CROP, CROP), mode="bilinear", antialias=True).clamp(0, 1)


def to_crop(landmarks: Tensor, crop: Crop) -> Tensor:
    """Landmarks [..., 3] px of the portrait, pixel centres, to px of the 256 crop; z is scaled alike."""
    origin = landmarks.new_tensor((crop.left, crop.top, 0))
    return (landmarks - origin) * (CROP / crop.size)


def from_crop(points: Tensor, crop: Crop) -> Tensor:
    """Points [..., 2] px of the 256 crop to px of the portrait."""
    return points * (crop.size / CROP) + points.new_tensor((crop.left, crop.top))
