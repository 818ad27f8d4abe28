"""The loss terms of stage 1; each is a mean over the frames of a mask.

L_bsvo = ‖β − β̂‖ + ‖M − M̂_nr‖ (paper, §3.2) is `coefficient_loss` + `mesh_loss`; the other terms are not in the paper.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SMALL = 1e-4  # keeps the correlation of a curve that does not move finite


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values [B, T, ...] over the frames of a mask [B, T]; 0 if there are none."""
    weight = mask.to(values.dtype)
    per_frame = values.flatten(2).mean(-1) if values.ndim > 2 else values
    return (per_frame * weight).sum() / weight.sum().clamp(min=1)


def coefficient_loss(predicted: Tensor, target: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """‖β − β̂‖ in standard deviations: motion [B, T, M], weight [M], mask [B, T]."""
    return masked_mean((predicted - target).square() * weight, mask)


def mesh_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """‖M − M̂_nr‖ over the lip vertices [B, T, K], in units of their own standard deviation."""
    return masked_mean((predicted - target).square(), mask)


def velocity_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the change from frame to frame of curves [B, T, K]."""
    # A change is known only where both of its frames are.
    both = mask[:, 1:] & mask[:, :-1]
    return masked_mean((predicted.diff(dim=1) - target.diff(dim=1)).square(), both)


def shape_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """1 − Pearson's r of curves [B, T, K] over time, mean over windows and curves; amplitude has no effect."""
    weight = mask[..., None].to(predicted.dtype)  # [B, T, 1]
    count = weight.sum(1, keepdim=True).clamp(min=1)
    a, b = (weight * (c - (weight * c).sum(1, keepdim=True) / count) for c in (predicted, target))
    # The constant is added under the root, where it also keeps the gradient of a still curve finite.
    r = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1) + SMALL).sqrt()
    return masked_mean(1 - r[:, None], mask.any(1, keepdim=True))


def closure_loss(predicted: Tensor, target: Tensor, closed: float | Tensor, mask: Tensor) -> Tensor:
    """Mean excess of apertures [B, T] in the frames where the target is closed (below `closed`)."""
    return masked_mean(F.relu(predicted - target.clamp(max=closed)), mask & (target < closed))


def phone_loss(logits: Tensor, phones: Tensor) -> Tensor:
    """Cross-entropy of phones [B, T] int64, −1 = unknown, given logits [B, T, P]."""
    if bool((phones < 0).all()):
        # The cross-entropy of no label is NaN. A zero that depends on the logits gives the classifier a gradient of 0
        # instead of none.
        return logits.sum() * 0
    return F.cross_entropy(logits.flatten(0, 1), phones.flatten(), ignore_index=-1)
