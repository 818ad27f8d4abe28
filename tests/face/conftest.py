"""What several tests of the face networks share."""

import runpy
from pathlib import Path

import pytest
import torch

from vividtalk_core.face.landmarks import Landmarker
from vividtalk_core.hub import EMBEDDED

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def landmarker():
    return Landmarker(EMBEDDED / "landmarks.safetensors")


@pytest.fixture(scope="session")
def views():
    """Name of a view → the portrait in it, [1, 3, H, W] in 0..1."""
    images = runpy.run_path(str(DATA / "make_reference.py"))["views"]()
    return {name: torch.tensor(image).permute(2, 0, 1)[None] / 255 for name, image in images.items()}
