"""The loss terms of stage 2, by their usual names; each is a mean, so that the image size does not change its weight.

Where pixels have weights, a term is Σ weight · error / Σ weight: a mask over the mouth gives the error in the mouth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...critics.discriminator import Judgement
from ...critics.perceptual import Backbone, perceptual_distance
from ...filters import smoothstep
from ...geometry import warp
from ...head.topology import (
    LEFT_BROW_LOWER,
    LEFT_EYE_CORNERS,
    LEFT_LID_PAIRS,
    OUTER_LIPS,
    RIGHT_BROW_LOWER,
    RIGHT_EYE_CORNERS,
    RIGHT_LID_PAIRS,
)

SMALL = 1e-6  # keeps the mean over no pixel finite

LEFT_EYE = (*LEFT_EYE_CORNERS, *(i for pair in LEFT_LID_PAIRS for i in pair), *LEFT_BROW_LOWER)
RIGHT_EYE = (*RIGHT_EYE_CORNERS, *(i for pair in RIGHT_LID_PAIRS for i in pair), *RIGHT_BROW_LOWER)
# Of a region's longer side, added on each side: as far as lips and lids move between two pictures.
MARGIN = 0.15
FADE = 0.3  # of the region's half size, over which its weight falls from 1 to 0


def l1(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference of pictures [..., 3, H, W], weighted by [..., 1, H, W] if given."""
    return _weighted_mean((predicted - target).abs(), weight)


def perceptual(
    network: Backbone,
    predicted: Tensor,
    target: Tensor,
    scales: tuple[float, ...] = (1.0, 0.5),
    where: Tensor | None = None,
) -> Tensor:
    """Perceptual distance at several scales, as in FOMM: their mean.

    Args:
        network: from `critics.perceptual.load_perceptual`.
        predicted: [B, 3, H, W] in 0..1.
        target: [B, 3, H, W] in 0..1.
        scales: sizes at which the pictures are compared, 1 = as they are.
        where: [B, 1, H, W] weights of the pixels, or None.
    """
    terms = []
    for scale in scales:
        pair = (_resized(predicted, scale), _resized(target, scale))
        # At half the size the same layers see twice as much of the face (Siarohin et al. 2019).
        terms.append(perceptual_distance(network, *pair, None if where is None else _resized(where, scale)).mean())
    return torch.stack(terms).mean()


def feature_matching(real: Judgement, fake: Judgement, where: Tensor | None = None) -> Tensor:
    """Mean absolute difference of a discriminator's features of real and generated pictures.

    Args:
        real: output of the discriminator for the real pictures; it gets no gradient.
        fake: output of `frozen` for the generated ones.
        where: [B, 1, H, W] weights of the pixels, or None.
    """
    pairs = [
        (a.detach(), b)
        for (ours, _), (theirs, _) in zip(real, fake, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    ]
    # The mean over layers and scales, so that a layer with many channels does not count more (pix2pixHD, Wang et al.
    # 2018).
    return torch.stack([_weighted_mean((a - b).abs(), _at(where, b)) for a, b in pairs]).mean()


def hinge_discriminator(real: Judgement, fake: Judgement, where: Tensor | None = None) -> Tensor:
    """Hinge loss of the discriminator: logits [B, 1, h, w] of real images below 1, of generated ones above −1."""
    terms = [
        _weighted_mean(F.relu(1 - a), _at(where, a)) + _weighted_mean(F.relu(1 + b), _at(where, b))
        for (_, a), (_, b) in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def hinge_generator(fake: Judgement, where: Tensor | None = None) -> Tensor:
    """Hinge loss of the generator: minus the logits [B, 1, h, w] of its frames, mean over the scales."""
    return torch.stack([-_weighted_mean(logits, _at(where, logits)) for _, logits in fake]).mean()


def temporal_warping(predicted: Tensor, target: Tensor, step: Tensor, step_mask: Tensor) -> Tensor:
    """Difference between the temporal change of a generated pair of frames and of the real pair, on visible skin.

    The change is frame 1 minus frame 0 warped to it. Warping is linear: the difference of both changes is the change
    of the difference, which takes one warp.

    Args:
        predicted: [B, 2, 3, H, W] two consecutive frames.
        target: [B, 2, 3, H, W] the real ones.
        step: [B, H, W, 2] grid units, where each pixel of frame 1 was in frame 0.
        step_mask: [B, 1, H, W] 1 where `step` is known.
    """
    before, after = (predicted - target).unbind(1)  # [B, 3, H, W] each
    return _weighted_mean((after - warp(before, step)).abs(), step_mask)


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a diagonal Gaussian [B, ...] from the standard one, in nats per latent number."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def region_weights(points: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Soft masks of the mouth and of the eyes with their brows, turned with the head.

    Args:
        points: [N, 478, 2] landmarks in px of the picture.
        size: H = W of the picture, px.

    Returns:
        mouth [N, 1, H, W] and eyes [N, 1, H, W] in 0..1: 1 inside, falling smoothly to 0 outside.
    """
    # The line between the eyes gives the roll of the head: boxes along the image axes would grow when it tilts.
    across = F.normalize(points[:, LEFT_EYE_CORNERS[0]] - points[:, RIGHT_EYE_CORNERS[0]], dim=-1)  # [N, 2]
    mouth, left, right = (_around(points[:, list(part)], across, size) for part in (OUTER_LIPS, LEFT_EYE, RIGHT_EYE))
    return mouth, torch.maximum(left, right)


def _around(points: Tensor, across: Tensor, size: int) -> Tensor:
    """[N, 1, size, size] 0..1: a soft superellipse around points [N, K, 2], its long axis along directions [N, 2]."""
    x, y = across.unbind(-1)
    axes = torch.stack((torch.stack((x, y), -1), torch.stack((-y, x), -1)), -1)  # [N, 2, 2], columns
    low, high = (points @ axes).aminmax(dim=1)  # [N, 2] along both axes
    half = (high - low) / 2
    half = half + 2 * MARGIN * half.amax(-1, keepdim=True)
    centres = torch.arange(size, device=points.device) + 0.5
    # of each pixel from the middle, along both axes, in half sizes: the sum of what its column and its row give
    columns, rows = (axes[:, i, :, None] / half[..., None] * centres for i in (0, 1))  # [N, 2, size] each
    offset = columns[:, :, None] + rows[..., None] - ((low + high) / 2 / half)[..., None, None]  # [N, 2, H, W]
    # Fuller than an ellipse, because lips and lids fill most of their box; smoother than the box itself.
    radius = offset.square().square().sum(1).sqrt().sqrt()  # [N, H, W] of a superellipse of the 4th power
    return smoothstep((1 - radius) / FADE + 1)[:, None]


def _weighted_mean(error: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of errors [..., C, H, W], by weights [..., 1, H, W] if given; 0 where no pixel counts."""
    # A sum of half-precision values, as autocast gives them, loses digits.
    error = error.float()
    if weight is None:
        return error.mean()
    return (error * weight).sum() / weight.expand_as(error).sum().clamp(min=SMALL)


def _at(weight: Tensor | None, like: Tensor) -> Tensor | None:
    """Weights [B, 1, H, W] at the size of a map [B, C, h, w]."""
    return None if weight is None else F.adaptive_avg_pool2d(weight, (like.shape[-2], like.shape[-1]))


def _resized(image: Tensor, scale: float) -> Tensor:
    """[B, C, H, W] to [B, C, scale·H, scale·W]; each pixel is the mean of those that it covers."""
    if scale == 1:
        return image
    height, width = (max(round(side * scale), 1) for side in image.shape[-2:])
    return F.adaptive_avg_pool2d(image, (height, width))
