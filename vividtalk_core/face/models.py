"""Everything that is loaded before a face can be fitted."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from ..head.morphable import load_morphable, to_device
from ..hub import WeightSet, resolve_weights
from ..structures import MorphableModel
from .detector import FaceDetector
from .landmarks import Landmarker
from .segment import PersonSegmenter


@dataclass(frozen=True, eq=False, slots=True)
class FaceModels:
    """The head 3DMM and the networks that look at pictures."""

    head: MorphableModel
    detector: FaceDetector
    landmarker: Landmarker
    segmenter: PersonSegmenter

    def to(self, device: torch.device | str) -> FaceModels:
        """The same models on another device; these stay where they are."""
        networks = (self.detector, self.landmarker, self.segmenter)
        return FaceModels(to_device(self.head, device), *(copy.deepcopy(network).to(device) for network in networks))


def load_face_models(weights: WeightSet | str = "embedded") -> FaceModels:
    """Load the head and the networks of a weight set, or of the name of one."""
    found = resolve_weights(weights) if isinstance(weights, str) else weights
    return FaceModels(
        head=load_morphable(found.file("head.safetensors")),
        detector=FaceDetector(found.file("detector.safetensors")),
        landmarker=Landmarker(found.file("landmarks.safetensors")),
        segmenter=PersonSegmenter(found.file("segmentation.safetensors")),
    )
