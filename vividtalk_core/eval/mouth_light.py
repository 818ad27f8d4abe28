"""The inside of an open mouth: how bright it is beside the cheeks, and how much detail it has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import polygon_mask
from ..head.mouth_shape import aperture_of_landmarks, inter_ocular
from ..head.topology import INNER_LIPS
from ..pixels import luma

CHEEKS = (205, 425)  # landmarks in the middle of the cheeks
CHEEK_IOD = 0.08  # half of the side of the square around one, in IOD
OPEN = 0.085  # IOD between the inner lips, from which on the inside can be measured
LEAST_PX = 30  # of the inside
BRIGHT = 0.95  # quantile of the luminance that counts as its bright end: where teeth are seen, they are brighter


def open_mouth(points: Tensor, height: int, width: int) -> Tensor | None:
    """[H, W] bool inside the inner lips of landmarks [478, 2] px, a pixel from their edge; None if they are not open.

    Open are lips that are at least `OPEN` apart and show at least `LEAST_PX` px.
    """
    if aperture_of_landmarks(points[None]) < OPEN:
        return None
    inside = polygon_mask(points[list(INNER_LIPS)], height, width)
    inside = -F.max_pool2d(-inside[None, None].float(), 3, 1, 1)[0, 0] > 0
    return inside if inside.sum() >= LEAST_PX else None


def mouth_brightness(image: Tensor, points: Tensor, inside: Tensor) -> float:
    """Luminance of the bright end of the mouth's inside, [H, W] bool, divided by that of the cheeks.

    Args:
        image: [3, H, W] in 0..1.
        points: [478, 2] px, landmarks of its face.
        inside: of `open_mouth`.
    """
    luminance = luma(image)
    return float(luminance[inside].quantile(BRIGHT) / _cheeks(luminance, points))


def mouth_detail(image: Tensor, points: Tensor, inside: Tensor) -> float:
    """Mean slope of the luminance in the mouth's inside, [H, W] bool, per px, divided by the cheeks' luminance.

    Args:
        image: [3, H, W] in 0..1.
        points: [478, 2] px, landmarks of its face.
        inside: of `open_mouth`.
    """
    luminance = luma(image)
    vertical, horizontal = torch.gradient(luminance)
    return float(torch.hypot(vertical, horizontal)[inside].mean() / _cheeks(luminance, points))


def _cheeks(luminance: Tensor, points: Tensor) -> Tensor:
    """[] median luminance around the middle of both cheeks, of [H, W] and landmarks [478, 2] px."""
    reach = max(2, round(float(inter_ocular(points[None])) * CHEEK_IOD))
    height, width = luminance.shape
    medians = []
    for number in CHEEKS:
        x, y = (int(value) for value in points[number])
        part = luminance[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        # a cheek that is turned out of the picture does not count
        if part.numel() and 0 <= x < width and 0 <= y < height:
            medians.append(part.median())
    return torch.stack(medians).mean().clamp(min=0.02) if medians else luminance.mean().clamp(min=0.02)
