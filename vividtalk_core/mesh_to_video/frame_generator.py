"""The generator: the warped portrait is corrected and completed where the warp cannot be right (paper, §3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import warp
from ..nn import Conv, Residual, Up, zero_conv
from .motion_vae import FLOW_SCALE

SHY = -1.5  # logit of alpha before training: it lets through a fifth


@dataclass(frozen=True, slots=True)
class FrameGeneratorConfig:
    """Sizes; about 0.7 GMAC per frame."""

    source_widths: tuple[int, int] = (16, 32)  # channels of the portrait's own features, at 128 and 64 px
    widths: tuple[int, ...] = (24, 44, 72, 112)  # channels at 128, 64, 32 and 16 px
    largest_change: float = 1.0  # of colour, 0..1


class FrameGenerator(nn.Module):
    """A U-Net over the warped portrait; features of the portrait come in at 64 px, warped by the dense motion."""

    def __init__(self, config: FrameGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        near, far = config.source_widths
        a, b, c, d = config.widths
        self.source = nn.Sequential(Conv(3, near, stride=2), Conv(near, far, stride=2), Residual(far))
        self.first = Conv(11, a, stride=2)
        self.second = Conv(a, b, stride=2)
        self.join = nn.Conv2d(b + far + 1, b, 1)
        self.residual = Residual(b)
        self.third = nn.Sequential(Conv(b, c, stride=2), Residual(c))
        self.waist = nn.Sequential(Conv(c, d, stride=2), Residual(d))
        self.up = nn.ModuleList((Up(d, c), Up(c, b), Up(b, a)))
        self.head = zero_conv(a, 16)  # colour and alpha for each of 2 × 2 px

    def encode_source(self, source: Tensor) -> Tensor:
        """Features [B, C, 64, 64] of portraits [B, 3, 256, 256]: once for a whole clip."""
        return self.source(source - 0.5)

    def forward(
        self,
        features: Tensor,
        base: Tensor,
        painted: Tensor,
        ncc: Tensor,
        mask: Tensor,
        flow: Tensor,
        occlusion: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Correct frames.

        Args:
            features: [B, C, 64, 64] of `encode_source`.
            base: [B, 3, 256, 256] the warped portrait with what is painted in closed form.
            painted: [B, 1, 256, 256] alpha of that painting.
            ncc: [B, 3, 256, 256] of the driven mesh.
            mask: [B, 1, 256, 256] its inner face.
            flow: [B, 256, 256, 2] dense motion, grid units.
            occlusion: [B, 1, 256, 256] 1 = the portrait shows it.

        Returns:
            Colour [B, 3, 256, 256] and alpha [B, 1, 256, 256], both in 0..1.
        """
        motion = flow.movedim(-1, 1) * FLOW_SCALE
        seen = torch.cat((base - 0.5, painted, (ncc - 0.5) * mask, mask, 1 - occlusion, motion), 1)  # [B, 11, H, W]
        fine = self.first(seen)  # [B, a, 128, 128]
        small = F.interpolate(motion, scale_factor=0.25, mode="area") / FLOW_SCALE
        shown = F.interpolate(occlusion, scale_factor=0.25, mode="area")
        moved = warp(features, small.movedim(1, -1)) * shown
        middle = self.residual(self.join(torch.cat((self.second(fine), moved, shown), 1)))  # [B, b, 64, 64]
        coarse = self.third(middle)  # [B, c, 32, 32]
        x = self.up[0](self.waist(coarse), coarse)
        x = self.up[2](self.up[1](x, middle), fine)  # [B, a, 128, 128]
        x = F.pixel_shuffle(self.head(x), 2)  # [B, 4, 256, 256]
        change = self.config.largest_change * torch.tanh(x[:, :3])
        return (base + change).clamp(0, 1), (x[:, 3:] + SHY).sigmoid()
