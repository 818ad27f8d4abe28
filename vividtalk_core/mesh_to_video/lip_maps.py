"""Gaussian maps of lip landmarks, driven minus reference: what the motion-VAE's lip branch sees (paper, §3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..face.morphable import landmark_positions
from ..face.topology import INNER_LIPS, OUTER_LIPS
from ..geometry import pixel_centres, project
from ..structures import CROP, FaceFit, MeshSequence

SIZE = 64  # px; lips move by tenths of it, finer maps only cost memory
SIGMA_PX = 1.5  # px of the 64-px map, six px of the crop: about the thickness of a lip
LANDMARKS = OUTER_LIPS[::2] + INNER_LIPS[::2]


def lip_maps(face: FaceFit, reference: MeshSequence, driven: MeshSequence) -> Tensor:
    """[T, 20, 64, 64] Gaussian maps of the driven lips minus those of the reference (T = 1)."""
    return _maps(face, driven.vertices) - _maps(face, reference.vertices)


def _maps(face: FaceFit, vertices: Tensor) -> Tensor:
    """Camera-space vertices [T, V, 3] to Gaussian maps [T, K, 64, 64]."""
    points = project(landmark_positions(face.model, vertices)[:, list(LANDMARKS)])[..., :2] * (SIZE / CROP)
    offsets = points[:, :, None, None] - pixel_centres(SIZE, SIZE, vertices.device)  # [T, K, 64, 64, 2]
    return torch.exp(-(offsets**2).sum(-1) / (2 * SIGMA_PX**2))
