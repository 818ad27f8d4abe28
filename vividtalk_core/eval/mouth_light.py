"""The inside of an open mouth: how bright it is beside the cheeks, and how much detail it has."""

from __future__ import annotations

from typing import NamedTuple

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


class MouthLight(NamedTuple):
    """The inside of an open mouth, beside the luminance of the cheeks."""

    brightness: float  # luminance of its bright end, where teeth are seen
    detail: float  # mean slope of its luminance, per px


def mouth_light(image: Tensor, points: Tensor, inside: Tensor) -> MouthLight:
    """Measure the inside of a mouth.

    Args:
        image: [3, H, W] in 0..1.
        points: [478, 2] px, landmarks of its face.
        inside: [H, W] bool, of `open_mouth`.
    """
    luminance = luma(image)
    cheeks = _cheeks(luminance, points)
    vertical, horizontal = torch.gradient(luminance)
    slope = torch.hypot(vertical, horizontal)[inside].mean()
    return MouthLight(float(luminance[inside].quantile(BRIGHT) / cheeks), float(slope / cheeks))


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
