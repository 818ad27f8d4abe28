"""Fréchet distance of two sets of pictures in the features of a network."""

from __future__ import annotations

import torch
from torch import Tensor

from ..critics.perceptual import Backbone
from ..errors import MismatchError

# Instead of 0, where a feature is the same in all real pictures.
LEAST_SPREAD = 1e-6


def mean_features(network: Backbone, images: Tensor) -> Tensor:
    """[N, D] the mean over the places of every channel of all stages of a network, for images [N, 3, H, W] in 0..1."""
    with torch.no_grad():
        return torch.cat([stage.float().mean((2, 3)) for stage in network.features(images)], 1)


def frechet_distance(generated: Tensor, real: Tensor) -> float:
    """Fréchet distance of two normal distributions (Dowson and Landau 1982), as FID has it (Heusel et al. 2017).

    Each feature is measured in standard deviations of the real ones, because channels of different stages have
    different scales. Values of two backbones, or of another number of pictures, are not comparable.

    Args:
        generated: [N, D] features.
        real: [M, D] features. N and M should be more than D: with fewer the covariance is a guess, and the distance is
            too large.

    Returns:
        0 for equal distributions.

    Raises:
        MismatchError: fewer than two pictures, or another number of features.
    """
    if min(len(generated), len(real)) < 2 or generated.shape[1] != real.shape[1]:
        found = f"{list(generated.shape)} and {list(real.shape)}"
        raise MismatchError(f"Two sets of at least two pictures with equally many features are needed; got {found}.")
    # in double precision: the covariance of D features has nearly dependent rows
    spread = real.double().std(0).clamp(min=LEAST_SPREAD)
    ours, theirs = generated.double() / spread, real.double() / spread
    covariances = torch.cov(ours.T), torch.cov(theirs.T)
    # the trace of the root of a product of covariances is the sum of the roots of its eigenvalues, which are not
    # negative; symmetric, so that they are real
    root = _root(covariances[0])
    eigenvalues = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0)
    traces = covariances[0].trace() + covariances[1].trace() - 2 * eigenvalues.sqrt().sum()
    return max(0.0, float((ours.mean(0) - theirs.mean(0)).square().sum() + traces))


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root [D, D] of a covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
