"""The loss terms of stage 1, by their names in the paper and in DESIGN's table; every one is a mean over what counts.

L_bsvo = ‖β − β̂‖ + ‖M − M̂_nr‖ is `coefficient_loss` + `mesh_loss`; velocity, closure and phone terms are ours.
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


def coefficient_loss(made: Tensor, wanted: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """‖β − β̂‖ in standard deviations: motion [B, T, M], weight [M], mask [B, T]."""
    return masked_mean((made - wanted).square() * weight, mask)


def mesh_loss(made: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """‖M − M̂_nr‖ over the lip vertices [B, T, K], in units of their own spread."""
    return masked_mean((made - wanted).square(), mask)


def velocity_loss(made: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the change from frame to frame of curves [B, T, K]."""
    both = mask[:, 1:] & mask[:, :-1]
    return masked_mean((made.diff(dim=1) - wanted.diff(dim=1)).square(), both)


def shape_loss(made: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """1 − Pearson's r of curves [B, T, K] over time, mean over windows and curves: their size does not count."""
    weight = mask[..., None].to(made.dtype)
    count = weight.sum(1, keepdim=True).clamp(min=1)
    a, b = (weight * (c - (weight * c).sum(1, keepdim=True) / count) for c in (made, wanted))
    r = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1) + SMALL).sqrt()
    return masked_mean(1 - r[:, None], mask.any(1, keepdim=True))


def closure_loss(made: Tensor, wanted: Tensor, shut: float, mask: Tensor) -> Tensor:
    """How far the lips [B, T] stay apart where those of the speaker are shut (an aperture below `shut`)."""
    return masked_mean(F.relu(made - wanted.clamp(max=shut)), mask & (wanted < shut))


def phone_loss(logits: Tensor, phones: Tensor) -> Tensor:
    """Cross-entropy of phones [B, T] int64, −1 = unknown, given logits [B, T, P]."""
    if bool((phones < 0).all()):
        return logits.sum() * 0
    return F.cross_entropy(logits.flatten(0, 1), phones.flatten(), ignore_index=-1)
