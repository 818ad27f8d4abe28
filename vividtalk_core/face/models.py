"""The weights that are needed to fit a face."""

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
    """The head 3DMM and the networks that find a face and its landmarks."""

    head: MorphableModel
    detector: FaceDetector
    landmarker: Landmarker
    segmenter: PersonSegmenter

    def to(self, device: torch.device | str) -> FaceModels:
        """The same models on another device; these stay where they are."""
        return FaceModels(
            head=to_device(self.head, device),
            detector=copy.deepcopy(self.detector).to(device),
            landmarker=copy.deepcopy(self.landmarker).to(device),
            segmenter=copy.deepcopy(self.segmenter).to(device),
        )


def load_face_models(weights: WeightSet | str = "embedded") -> FaceModels:
    """Load the head and the networks of a weight set, or of the name of one.

    Raises:
        MissingFileError: there is no such set.
        WeightsError: a file is damaged or holds something else.
    """
    found = resolve_weights(weights) if isinstance(weights, str) else weights
    return FaceModels(
        head=load_morphable(found.file("head.safetensors")),
        detector=FaceDetector(found.file("detector.safetensors")),
        landmarker=Landmarker(found.file("landmarks.safetensors")),
        segmenter=PersonSegmenter(found.file("segmentation.safetensors")),
    )
