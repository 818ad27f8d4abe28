"""The generator: the warped portrait is corrected and completed where the warp cannot be right (paper, §3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..filters import smoothstep
from ..geometry import pixel_centres, warp
from ..nn import Conv, Residual, Up, zero_conv
from ..structures import CROP
from .motion_vae import FLOW_SCALE

# Lower bound of alpha: at alpha 0 the colour has no gradient, and training could not recover.
LEAST_ALPHA = 0.25
FADE_PX = 12  # px of the crop over which alpha fades out at the border of the window


@dataclass(frozen=True, slots=True)
class FrameGeneratorConfig:
    """Sizes; about 0.5 GMAC per frame."""

    window: int = 160  # px in the middle of the crop that are input and output: the head, where the crop puts it
    source_widths: tuple[int, int] = (16, 32)  # channels of the portrait's own features, at 1/2 and 1/4 of the size
    widths: tuple[int, ...] = (12, 32, 64, 96, 128)  # channels at full size, 1/2, 1/4, 1/8 and 1/16
    largest_change: float = 0.5  # of colour, 0..1


class FrameGenerator(nn.Module):
    """A U-Net over the warped portrait; features of the portrait join at 1/4, warped by the dense motion.

    Its input is the middle of the 256 crop at full resolution: lips, teeth and lids are a few pixels thick there.
    """

    def __init__(self, config: FrameGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        near, far = config.source_widths
        full, half, quarter, eighth, sixteenth = config.widths
        self.source = nn.Sequential(Conv(3, near, stride=2), Conv(near, far, stride=2), Residual(far))
        # 11 = base 3 + painted 1 + NCC 3 + mask 1 + occlusion 1 + motion 2
        self.first = Conv(11, full)
        self.second = Conv(full, half, stride=2)
        self.third = Conv(half, quarter, stride=2)
        self.join = nn.Conv2d(quarter + far + 1, quarter, 1)
        self.residual = Residual(quarter)
        self.fourth = nn.Sequential(Conv(quarter, eighth, stride=2), Residual(eighth))
        self.waist = nn.Sequential(Conv(eighth, sixteenth, stride=2), Residual(sixteenth))
        self.up = nn.ModuleList((Up(sixteenth, eighth), Up(eighth, quarter), Up(quarter, half), Up(half, full)))
        self.head = zero_conv(full, 4)  # colour and alpha

    def encode_source(self, source: Tensor) -> Tensor:
        """Features [B, C, 64, 64] of portraits [B, 3, 256, 256]: once for a whole clip."""
        features: Tensor = self.source(source - 0.5)
        return features

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
            occlusion: [B, 1, 256, 256] 1 = visible in the portrait.

        Returns:
            Colour [B, 3, 256, 256] and alpha [B, 1, 256, 256], both in 0..1; outside the window alpha is 0.
        """
        motion = rearrange(flow, "b h w xy -> b xy h w")
        maps = (base - 0.5, painted, (ncc - 0.5) * mask, mask, 1 - occlusion, motion * FLOW_SCALE)
        # the crop puts the head into its middle: 60 % of the area, around the window, are left out
        margin = (CROP - self.config.window) // 2
        inputs = F.pad(torch.cat(maps, 1), (-margin,) * 4)  # [B, 11, h, w], the window
        full = self.first(inputs)  # [B, full, h, w]
        half = self.second(full)  # [B, half, h/2, w/2]
        # the whole map is warped before the window is cut: features may come from outside it
        moved = F.pad(self._carry(features, motion, occlusion), (-margin // 4,) * 4)
        quarter = self.residual(self.join(torch.cat((self.third(half), moved), 1)))  # [B, quarter, h/4, w/4]
        eighth = self.fourth(quarter)  # [B, eighth, h/8, w/8]
        x = self.waist(eighth)  # [B, sixteenth, h/16, w/16]
        for up, skip in zip(self.up, (eighth, quarter, half, full), strict=True):
            x = up(x, skip)
        x = self.head(x)  # [B, 4, h, w]
        # the change is added to the warped portrait, so that an untrained generator changes nothing
        alpha = torch.lerp(x[:, 3:].sigmoid(), x.new_ones(()), LEAST_ALPHA) * self._fade(x.device)
        change, alpha = (F.pad(part, (margin,) * 4) for part in (torch.tanh(x[:, :3]), alpha))
        return (base + self.config.largest_change * change).clamp(0, 1), alpha

    def _carry(self, features: Tensor, motion: Tensor, occlusion: Tensor) -> Tensor:
        """Features [B, C, 64, 64] warped by motion [B, 2, 256, 256], and the occlusion: [B, C + 1, 64, 64]."""
        small, shown = (F.interpolate(values, scale_factor=0.25, mode="area") for values in (motion, occlusion))
        moved = warp(features, rearrange(small, "b xy h w -> b h w xy"))
        return torch.cat((moved * shown, shown), 1)

    def _fade(self, device: torch.device) -> Tensor:
        """[H, W] 1 inside, 0 at the border of the window; H = W = `config.window`."""
        centres = pixel_centres(self.config.window, self.config.window, device)
        edge = torch.minimum(centres, self.config.window - centres).amin(-1)
        return smoothstep(edge / FADE_PX)
