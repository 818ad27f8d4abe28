"""Turned squares of an image, and cutting them out as MediaPipe does.

Convention:
    MediaPipe counts pixels by index: it samples the image at (0, 0) where this pack's px say (.5, .5). Networks see the
    same pixels here; what they return is in these px. The crop's index i stands at `centre + R·(i/side − ½)·size`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures import check_shapes

# A crop takes one sample per pixel, as MediaPipe's does. Above this reduction the image is first halved, so that a
# face of 2000 px does not alias.
MAX_REDUCTION = 4.0


@dataclass(frozen=True, eq=False, slots=True)
class Region:
    """N turned squares of one image."""

    centre: Tensor  # [N, 2] px
    size: Tensor  # [N] px, side of the square
    angle: Tensor  # [N] rad, clockwise as the viewer sees it

    def __post_init__(self) -> None:
        check_shapes(centre=(self.centre, "N 2"), size=(self.size, "N"), angle=(self.angle, "N"))

    def matrix(self, side: int) -> Tensor:
        """[N, 2, 3] affine maps from a crop of `side` px to the image."""
        cos, sin = self.angle.cos(), self.angle.sin()
        turn = torch.unflatten(torch.stack((cos, -sin, sin, cos), -1), -1, (2, 2))
        linear = turn * (self.size / side)[:, None, None]
        corner = self.centre - linear.sum(-1) * (side / 2)
        return torch.cat((linear, corner[..., None]), -1)

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, chosen: slice) -> Region:
        return Region(self.centre[chosen], self.size[chosen], self.angle[chosen])

    def to(self, device: torch.device) -> Region:
        """The same squares on another device."""
        return Region(self.centre.to(device), self.size.to(device), self.angle.to(device))


def whole_image(image: Tensor) -> Region:
    """The upright square that holds an image [1, 3, H, W]."""
    height, width = image.shape[-2:]
    centre = image.new_tensor([[width / 2, height / 2]])
    return Region(centre, image.new_tensor([float(max(height, width))]), image.new_zeros(1))


def crop_regions(image: Tensor, regions: Region, side: int, padding_mode: str = "border") -> Tensor:
    """Cut squares out of an image.

    Args:
        image: [1, 3, H, W], or [N, 3, H, W] for one square of each.
        regions: N squares; they may overhang.
        side: px of the result.
        padding_mode: what lies outside the image, `grid_sample`'s "border" or "zeros".

    Returns:
        [N, 3, side, side], bilinear.
    """
    check_shapes(image=(image, "B 3 H W"))
    if len(image) not in (1, len(regions)):
        raise ValueError(f"{len(regions)} regions need 1 or {len(regions)} images; got {len(image)}")
    height, width = image.shape[-2:]
    index = torch.arange(side, device=image.device, dtype=image.dtype)
    target = torch.stack(torch.meshgrid(index, index, indexing="xy"), -1)
    matrix = regions.to(image.device).matrix(side).to(image.dtype)
    source = target @ matrix[:, None, :, :2].mT + matrix[:, None, None, :, 2]  # [N, side, side, 2]
    # the grid has the centre of index i at (2i + 1)/W − 1 (`geometry`)
    grid = (2 * source + 1) / image.new_tensor((width, height)) - 1
    for _ in range(_halvings(regions, side)):
        image = F.interpolate(image, scale_factor=0.5, mode="area")
    # the squares of one image are cut by one tall grid, so that the image is not copied for each
    grid = grid.reshape(len(image), -1, side, 2)
    tall = F.grid_sample(image, grid, padding_mode=padding_mode, align_corners=False)
    return torch.unflatten(tall, 2, (-1, side)).transpose(1, 2).flatten(0, 1)


def _halvings(regions: Region, side: int) -> int:
    """How often the image is halved first, so that the smallest region shrinks by at most `MAX_REDUCTION`."""
    reduction = float(regions.size.amin()) / side if len(regions) else 1.0
    return max(0, math.ceil(math.log2(reduction / MAX_REDUCTION))) if reduction > 0 else 0
