"""Gaussian maps of lip landmarks, driven minus reference: input of the lip branch of the motion-VAE (paper, §3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import pixel_centres, project
from ..head.morphable import landmark_positions
from ..head.topology import INNER_LIPS, OUTER_LIPS
from ..structures import CROP, FaceFit, MeshSequence, MorphableModel

# A Gaussian holds a fraction of a pixel, so that finer maps would only need more memory.
SIZE = 64  # px
# Six px of the crop: about the thickness of a lip.
SIGMA_PX = 1.5  # px of the 64-px map
# Every second landmark: neighbours are nearer to each other than a Gaussian is wide.
LANDMARKS = OUTER_LIPS[::2] + INNER_LIPS[::2]


def lip_maps(face: FaceFit, reference: MeshSequence, driven: MeshSequence) -> Tensor:
    """[T, 20, 64, 64] Gaussian maps of the driven lips minus those of the reference (T = 1)."""
    own, points = (lip_points(face.model, mesh.vertices) for mesh in (reference, driven))
    return gaussian_maps(points) - gaussian_maps(own)


def lip_points(model: MorphableModel, vertices: Tensor) -> Tensor:
    """Lip landmarks [T, K, 2] px of the crop of camera-space vertices [T, V, 3]."""
    return project(landmark_positions(model, vertices)[:, list(LANDMARKS)])[..., :2]


def gaussian_maps(points: Tensor) -> Tensor:
    """Points [T, K, 2] px of the crop to maps [T, K, 64, 64] that are 1 at the point."""
    offsets = (points * (SIZE / CROP))[:, :, None, None] - pixel_centres(SIZE, SIZE, points.device)  # [T, K, h, w, 2]
    return torch.exp(-(offsets**2).sum(-1) / (2 * SIGMA_PX**2))
