"""Changes of appearance: colours, drawing styles, and the losses of a camera or a file.

All changes are made per pixel or in small neighbourhoods, so that the frames of one clip stay consistent. Pictures are
[N, 3, H, W] in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...filters import smoothstep
from ...pixels import LUMA, luma, to_float

Plane = npt.NDArray[np.float32]  # [H, W]
Filtered = npt.NDArray[np.integer[Any] | np.floating[Any]]  # [H, W], as the stubs of OpenCV call what it returns

# Added to both brightnesses of a quotient: near black the quotient alone would multiply grain by large factors.
DARK = 0.02
# px of Gaussian smoothing before edges are looked for, because grain would be drawn as lines.
LINE_PX = 0.7


@dataclass(frozen=True, eq=False, slots=True)
class ColorChange:
    """One change of colours for all pictures of a sample: an affine map, then a curve for each channel."""

    matrix: Tensor  # [3, 3]
    offset: Tensor  # [3]
    gamma: Tensor  # [3] exponents
    bend: Tensor  # [3] −1..1, S-curves; the curves rise everywhere

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] in other colours."""
        changed = torch.einsum("ij,njhw->nihw", self.matrix, pictures) + self.offset.view(3, 1, 1)
        # a little above black: the slope of a power below 1 is infinite at 0
        changed = changed.clamp(1e-4, 1) ** self.gamma.view(3, 1, 1)
        # An S-curve that keeps black, white and the middle. Its slope at black and white is 1 − bend: up to 1 it
        # never falls.
        return changed + self.bend.view(3, 1, 1) * changed * (1 - changed) * (2 * changed - 1)

    def on_paint(self, paint: Tensor) -> Tensor:
        """Paint [N, 4, H, W], premultiplied RGB and alpha, in other colours."""
        color, alpha = paint[:, :3], paint[:, 3:]
        return torch.cat((self((color / alpha.clamp(min=1e-4)).clamp(0, 1)) * alpha, alpha), 1)


def tone_matrix(gains: Tensor, saturation: float, hue: float) -> Tensor:
    """[3, 3] on RGB columns: white balance by gains [3], then saturation, then the hue turned by an angle in rad.

    Greys stay grey where the gains are alike; saturation 0 is greyscale.
    """
    # A hue is turned in YIQ, whose first axis is the brightness: turning the other two leaves it as it is.
    to_yiq = torch.tensor((LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)))
    turn = torch.tensor(((1, 0, 0), (0, math.cos(hue), -math.sin(hue)), (0, math.sin(hue), math.cos(hue))))
    mix = saturation * torch.eye(3) + (1 - saturation) * torch.tensor(LUMA).expand(3, 3)
    matrix: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq @ mix @ torch.diag(gains)
    return matrix


def smooth(pictures: Tensor, radius: int, edge: float) -> Tensor:
    """Flatten what is fainter than an edge and keep edges (the guided filter, the picture being its own guide).

    Args:
        pictures: [N, 3, H, W].
        radius: px of the box in which means are taken.
        edge: standard deviation of brightness in the box, 0..1, at which half of the detail is kept.

    Returns:
        [N, 3, H, W].
    """
    # He, Sun and Tang 2013, with the picture as its own guide: of detail that is faint beside the edge little is
    # kept. A Gaussian of that width would blur the edges too.
    mean, square = _box(pictures, radius), _box(pictures * pictures, radius)
    # One variance for all channels, because edges that are kept in one channel alone get coloured rims. Rounding can
    # make the difference of two means negative.
    variance = (square - mean * mean).clamp(min=0).mean(1, keepdim=True)
    keep = variance / (variance + edge**2)
    return _box(keep, radius) * pictures + _box((1 - keep) * mean, radius)


def posterise(pictures: Tensor, levels: int, softness: float) -> Tensor:
    """Reduce brightness to few levels and keep the colours: reducing each channel would turn skin green and pink.

    Args:
        pictures: [N, 3, H, W].
        levels: how many, from black to white.
        softness: 0..1, share of a level over which one becomes the next: a hard step makes grain flicker.

    Returns:
        [N, 3, H, W].
    """
    luma = _luma(pictures)
    place = luma * (levels - 1)
    low = place.floor()
    level = (low + smoothstep((place - low - 0.5) / max(softness, 1e-3) + 0.5)) / (levels - 1)
    return (pictures * (level + DARK) / (luma + DARK)).clamp(0, 1)


def ink(pictures: Tensor, strength: float, threshold: float) -> Tensor:
    """Darken edges, like drawn lines.

    Args:
        pictures: [N, 3, H, W].
        strength: 0..1, 1 = black.
        threshold: change of brightness over two px at which a line begins; at twice that it is full.

    Returns:
        [N, 3, H, W].
    """
    # The border is repeated, because zeros outside would draw a line around the whole picture.
    luma = F.pad(soften(_luma(pictures), LINE_PX), (1, 1, 1, 1), mode="replicate")
    x, y = luma[..., 1:-1, 2:] - luma[..., 1:-1, :-2], luma[..., 2:, 1:-1] - luma[..., :-2, 1:-1]
    line = smoothstep(torch.hypot(x, y) / threshold - 1)
    return pictures * (1 - strength * line)


def soften(pictures: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of [N, C, H, W], border repeated."""
    return _by_plane(pictures, lambda plane: cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE))


def shrink(pictures: Tensor, share: float) -> Tensor:
    """Reduce pictures [N, C, H, W] to a share 0..1 of their size and enlarge them again."""
    size = pictures.shape[-2:]
    small = [max(8, round(side * share)) for side in size]
    # With antialiasing, as cameras and image programs reduce: dropped rows would turn hair into moiré.
    reduced = F.interpolate(pictures, size=small, mode="bilinear", antialias=True)
    return F.interpolate(reduced, size=size, mode="bicubic", align_corners=False).clamp(0, 1)


def compress(pictures: Tensor, quality: int) -> Tensor:
    """Pictures [N, 3, H, W] after JPEG compression of a quality 1..100."""
    # OpenCV keeps the channels in the order blue, green, red: hence the flip, here and behind the decoder.
    rows = (pictures * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).flip(-1).contiguous().numpy()
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    files = [cv2.imencode(".jpg", row, flags)[1] for row in rows]
    decoded = np.stack([image for file in files if (image := cv2.imdecode(file, cv2.IMREAD_COLOR)) is not None])
    return to_float(torch.from_numpy(decoded).flip(-1).permute(0, 3, 1, 2))


def _luma(pictures: Tensor) -> Tensor:
    """Brightness [N, 1, H, W] of pictures [N, 3, H, W]."""
    return luma(pictures)[:, None]


def _box(pictures: Tensor, radius: int) -> Tensor:
    """Means over (2·radius + 1)² px of [N, C, H, W], border repeated."""
    side = (2 * radius + 1, 2 * radius + 1)
    return _by_plane(pictures, lambda plane: cv2.blur(plane, side, borderType=cv2.BORDER_REPLICATE))


def _by_plane(pictures: Tensor, change: Callable[[Plane], Filtered]) -> Tensor:
    """A filter of OpenCV over each plane of [N, C, H, W]; torch takes ten times as long for the same on a CPU."""
    planes = pictures.flatten(0, 1).numpy()
    return torch.from_numpy(np.stack([change(plane) for plane in planes])).view(pictures.shape)
