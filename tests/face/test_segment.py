"""The person matte: parity with MediaPipe and its size."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from vividtalk_core.face import segment as module
from vividtalk_core.face.segment import PersonSegmenter

DATA = Path(__file__).parents[1] / "data"
ASSETS = Path(module.__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def segmenter():
    return PersonSegmenter(ASSETS / "segmentation.safetensors")


@pytest.fixture(scope="module")
def portrait():
    image = runpy.run_path(str(DATA / "make_reference.py"))["views"]()["as it is"]
    return torch.tensor(image).permute(2, 0, 1)[None] / 255


def test_parity_with_mediapipe(segmenter, portrait):
    expected = torch.from_numpy(np.load(DATA / "mediapipe_reference.npz")["mask"]) / 255
    difference = (segmenter.segment(portrait)[0, 0] - expected).abs()
    assert difference.mean() < 0.002
    assert difference.max() < 0.05


@pytest.mark.parametrize("size", [(512, 512), (300, 420), (1025, 700)])
def test_matte_has_the_size_of_the_image(segmenter, portrait, size):
    image = torch.nn.functional.interpolate(portrait, size, mode="bilinear")
    matte = segmenter.segment(image)
    assert matte.shape == (1, 1, *size)
    assert 0 <= matte.min() < 0.05
    assert 0.95 < matte.max() <= 1
    assert matte[0, 0, size[0] // 2, size[1] // 2] > 0.9  # the face
    assert matte[0, 0, 5, 5] < 0.1  # the wall


def test_shape_is_checked(segmenter):
    with pytest.raises(ValueError, match=r"image must be \[1, 3, H, W\]; got \[3, 8, 8\]"):
        segmenter.segment(torch.zeros(3, 8, 8))
