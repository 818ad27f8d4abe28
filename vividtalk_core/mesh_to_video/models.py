"""The networks of stage 2, each loaded at its first use."""

from __future__ import annotations

import copy
import logging
from functools import cached_property

import torch

from ..hub import WeightSet, load_module
from .generator_network import FrameGenerator, FrameGeneratorConfig
from .motion_vae import MotionVae, MotionVaeConfig

MOTION_FILE, GENERATOR_FILE = "motion.safetensors", "generator.safetensors"

log = logging.getLogger("vividtalk")


class MeshToVideoModels:
    """Motion-VAE and generator; None where the weight set has none: only the closed form is used then.

    Args:
        weights: where the files are.
        device: of both.
    """

    def __init__(self, weights: WeightSet, device: torch.device | str = "cpu") -> None:
        self.weights, self.device = weights, torch.device(device)

    @cached_property
    def motion(self) -> MotionVae | None:
        """The network that refines the dense motion, or None."""
        if not self._has(MOTION_FILE, "motion-VAE"):
            return None
        return load_module(MotionVae, MotionVaeConfig, self.weights.file(MOTION_FILE)).to(self.device)

    @cached_property
    def generator(self) -> FrameGenerator | None:
        """The network that corrects frames, or None."""
        if not self._has(GENERATOR_FILE, "generator"):
            return None
        return load_module(FrameGenerator, FrameGeneratorConfig, self.weights.file(GENERATOR_FILE)).to(self.device)

    def replaced(self, motion: MotionVae | None, generator: FrameGenerator | None) -> MeshToVideoModels:
        """The same source with other networks; None is the closed form."""
        models = MeshToVideoModels(self.weights, self.device)
        models.__dict__.update(motion=motion, generator=generator)  # what cached_property reads
        return models

    def to(self, device: torch.device | str) -> MeshToVideoModels:
        """The same networks on another device; these stay where they are."""
        moved = MeshToVideoModels(self.weights, device)
        for name in ("motion", "generator"):
            if name in self.__dict__:  # loaded already, and perhaps replaced
                moved.__dict__[name] = copy.deepcopy(self.__dict__[name])
                if moved.__dict__[name] is not None:
                    moved.__dict__[name].to(device)
        return moved

    def _has(self, file: str, name: str) -> bool:
        """Whether the weight set holds a file; what is missing is logged by its name."""
        if file not in self.weights:
            source = self.weights.source
            log.warning("The weights '%s' have no %s: only the closed form is used.", source, name)
            return False
        return True
