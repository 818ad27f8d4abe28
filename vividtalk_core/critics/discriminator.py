"""The discriminator that the generator is trained against: it classifies patches of an image at several scales."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

SLOPE = 0.2  # of the leaky ReLU, as in pix2pixHD

Judgement = list[tuple[list[Tensor], Tensor]]  # for each scale: features of each layer, and logits [B, 1, h, w]


@dataclass(frozen=True, slots=True)
class DiscriminatorConfig:
    """Size of the discriminator. A logit then depends on 38 px at the finer scale and on 76 px at the coarser."""

    widths: tuple[int, ...] = (16, 32, 64)  # channels of each layer, each at half the size of the one before
    scales: int = 2  # each takes the image at half the size of the one before
    condition_channels: int = 0  # of a second input, e.g. 3 of the projected texture; 0 = none


class _PatchDiscriminator(nn.Module):
    """Classifies patches at one scale."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        channels = (3 + config.condition_channels, *config.widths)
        # a kernel of 4 is a multiple of the stride: every pixel gets the gradient of equally many outputs
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, 2, padding=1) for a, b in pairwise(channels))
        # the first layer has no norm, which would remove the mean colours of the image
        self.norms = nn.ModuleList(nn.InstanceNorm2d(width, affine=True) for width in config.widths[1:])
        self.out = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """[B, 3 + condition, H, W] in −1..1 → features of each layer, and logits [B, 1, H / 2ⁿ, W / 2ⁿ]."""
        features = []
        for layer, norm in zip(self.layers, (None, *self.norms), strict=True):
            x = layer(x)  # [B, width, H/2, W/2]
            x = F.leaky_relu(x if norm is None else norm(x), SLOPE)
            features.append(x)
        return features, self.out(x)


class MultiScaleDiscriminator(nn.Module):
    """Patch discriminators of the image at full, half, … size (Wang et al. 2018), as in FOMM.

    Args:
        config: its size.
    """

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DiscriminatorConfig()
        self.scales = nn.ModuleList(_PatchDiscriminator(self.config) for _ in range(self.config.scales))

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Judgement:
        """Classify the patches of images as real or generated.

        Args:
            images: [B, 3, H, W] in 0..1.
            condition: [B, condition_channels, H, W] in 0..1, if the config has any.

        Returns:
            For each scale the features [B, width, h, w] of each layer and the logits [B, 1, h, w]; high means real.

        Raises:
            ValueError: the condition has another number of channels than the config says.
        """
        found = 0 if condition is None else condition.shape[1]
        if found != self.config.condition_channels:
            raise ValueError(f"the condition must have {self.config.condition_channels} channels, it has {found}")
        x = images if condition is None else torch.cat((images, condition), 1)
        x, outputs = x * 2 - 1, []
        for scale in self.scales:
            outputs.append(scale(x))
            x = F.avg_pool2d(x, 2)  # [B, 3 + condition, H/2, W/2]
        return outputs


def frozen(discriminator: nn.Module, images: Tensor, condition: Tensor | None = None) -> Judgement:
    """The discriminator's output for images [B, 3, H, W], with gradients to the images and none to its weights.

    The losses of the generator use it, so that their backward pass does not train the discriminator.
    """
    weights = {name: value.detach() for name, value in discriminator.named_parameters()}
    outputs: Judgement = functional_call(discriminator, weights, (images, condition))
    return outputs
