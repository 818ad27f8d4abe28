"""Motion-VAE: a learned residual on the closed form of the dense motion (paper, §3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..filters import upsample
from ..nn import Conv, Hourglass, Residual, Up, constant_bias, zero_conv
from ..structures import CROP

# Heads move by up to 16 px of the crop, 1/8 of a grid unit: scaled, the motion is about as large as the other inputs.
FLOW_SCALE = 16.0
# Log variance of the latent before training: with the prior's 0, noise would dominate the first steps.
QUIET = -6.0
RESIDUAL_PX = 8.0  # px of the crop for an output of 1


@dataclass(frozen=True, slots=True)
class MotionVaeConfig:
    """Sizes; about 0.4 GMAC per frame."""

    anchored: bool = True  # a residual on the closed form; False is the paper's own form, which starts from nothing
    lip_maps: int = 20  # K, landmarks of the lips
    face_widths: tuple[int, ...] = (16, 32, 64, 96)  # channels at 128, 64, 32 and 16 px
    lip_widths: tuple[int, ...] = (24, 48, 64)  # channels at 64, 32 and 16 px
    latent: int = 32  # channels of z, at 16 px
    decoder: int = 48  # channels where face and lips meet, at 64 px


@dataclass(frozen=True, eq=False, slots=True)
class MotionVaeOutput:
    """Dense motion and the latent that it was decoded from."""

    flow: Tensor  # [B, 256, 256, 2] grid units, to be added to the closed form if anchored
    occlusion: Tensor  # [B, 1, 256, 256] logits, to be added to those of the closed form if anchored
    mean: Tensor  # [B, Z, 16, 16]
    log_variance: Tensor  # [B, Z, 16, 16]


class MotionVae(nn.Module):
    """Two branches that are decoded together: faces as textures on the mesh, and lips as landmark maps."""

    def __init__(self, config: MotionVaeConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c, d = config.face_widths
        # two projected textures of 3 channels; the anchored form also takes the closed form: flow 2, occlusion 1
        inputs = 9 if config.anchored else 6
        self.face = nn.Sequential(
            Conv(inputs, a, stride=2), Conv(a, b, stride=2), Conv(b, c, stride=2), Conv(c, d, stride=2), Residual(d)
        )
        self.latent = nn.Conv2d(d, 2 * config.latent, 1)
        constant_bias(self.latent, QUIET, first=config.latent)
        self.lips = Hourglass(config.lip_maps, config.lip_widths)
        self.from_latent = nn.Sequential(Conv(config.latent, d), Residual(d))
        self.up = nn.Sequential(Up(d, c), Up(c, b))
        self.join = Conv(b + config.lip_widths[0], config.decoder)
        self.head = zero_conv(config.decoder, 12)  # three values for each of 2 × 2 px

    def forward(
        self, pt_ref: Tensor, pt_driven: Tensor, lip_maps: Tensor, flow: Tensor, occlusion: Tensor
    ) -> MotionVaeOutput:
        """Motion from the portrait's projected texture to the driven one.

        Args:
            pt_ref: [B, 3, 256, 256] PT of the portrait.
            pt_driven: [B, 3, 256, 256] PT of the driven mesh.
            lip_maps: [B, K, 64, 64] Gaussian maps of lip landmarks, driven − reference.
            flow: [B, 256, 256, 2] closed form, grid units; not used unless anchored.
            occlusion: [B, 1, 256, 256] closed form; not used unless anchored.
        """
        inputs = [pt_ref - 0.5, pt_driven - 0.5]
        if self.config.anchored:
            inputs += [rearrange(flow, "b h w xy -> b xy h w") * FLOW_SCALE, 1 - occlusion]
        x = self.face(torch.cat(inputs, 1))  # [B, d, 16, 16]
        mean, log_variance = self.latent(x).chunk(2, 1)  # [B, Z, 16, 16]
        # noise is for training only: in a video it would differ from frame to frame and flicker
        z = mean
        if self.training:
            # bounded, because the exponential of an unbounded value may overflow in the first steps
            log_variance = log_variance.clamp(-12, 6)
            z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        x = self.up(self.from_latent(z))  # [B, b, 64, 64]
        x = self.join(torch.cat((x, self.lips(lip_maps)), 1))
        x = F.pixel_shuffle(self.head(x), 2)  # [B, 3, 128, 128]
        x = upsample(x, CROP)
        motion = rearrange(x[:, :2], "b xy h w -> b h w xy") * (RESIDUAL_PX * 2 / CROP)
        return MotionVaeOutput(motion, x[:, 2:], mean, log_variance)


def combine(output: MotionVaeOutput, flow: Tensor, occlusion: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    """The residual added to the closed form where the gate is open.

    Args:
        output: of B frames.
        flow: [B, 256, 256, 2] closed form, or zero for the paper's own form.
        occlusion: [B, 1, 256, 256] closed form, or one.
        gate: [B, 1, 256, 256] 0..1, see `change_gate`.

    Returns:
        Flow [B, 256, 256, 2] and occlusion [B, 1, 256, 256]; where the gate is 0, the closed form bit for bit.
    """
    # 0 and 1 have no finite logit, and one near them could hardly be changed by a residual
    logits = torch.logit(occlusion, eps=0.02)
    change = (logits + output.occlusion).sigmoid() - logits.sigmoid()  # 0 for an output of 0
    moved = flow + output.flow * rearrange(gate, "b 1 h w -> b h w 1")
    return moved, (occlusion + change * gate).clamp(0, 1)
