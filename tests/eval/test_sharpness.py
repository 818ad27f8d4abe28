"""CPBD against a plain reference, and what blur does to it."""

import math

import cv2
import numpy as np
import pytest
import torch

from vividtalk_core.eval.sharpness import _edge_widths, _vertical_edges, cpbd, to_grey


def plain_width(row, x):
    """Width of the edge at pixel x of a row: steps of the same direction to both sides, one after another."""
    sign = 1 if row[x + 1] > row[x - 1] else -1
    left = right = x
    while left > 0 and sign * (row[left] - row[left - 1]) > 0:
        left -= 1
    while right < len(row) - 1 and sign * (row[right + 1] - row[right]) > 0:
        right += 1
    return right - left


def checks(size=128, cell=16):
    """A picture of squares."""
    y, x = np.mgrid[:size, :size] // cell
    return torch.from_numpy(((x + y) % 2 * 0.7 + 0.1).astype(np.float32)).expand(3, -1, -1).contiguous()


def blurred(image, sigma):
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(cv2.GaussianBlur(pixels, (0, 0), sigma)).permute(2, 0, 1)


def test_edge_widths_are_those_of_the_plain_walk():
    grey = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (40, 50)).astype(np.float32), (0, 0), 1.5)
    widths = _edge_widths(grey)
    for y in range(0, 40, 3):
        for x in range(1, 49):
            assert widths[y, x] == plain_width(grey[y], x), (y, x)


def test_edges_are_those_that_a_row_crosses():
    image = np.zeros((64, 64), np.float32)
    image[:, 32:] = 200
    assert _vertical_edges(image)[5:-5].any(1).all()
    assert not _vertical_edges(image.T).any()


def test_blur_lowers_it():
    coarse = (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5) * 1.5 + 0.5
    picture = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="nearest")[0].clamp(0, 1)
    values = [cpbd(blurred(picture, sigma)) for sigma in (0.3, 0.5, 1.0, 2.0)]
    assert cpbd(checks()) == 1 and values[0] > 0.8 and values[-1] < 0.1
    assert values == sorted(values, reverse=True)


def test_the_number_of_a_width_is_the_papers():
    # a ramp over 3 px at high contrast is just noticeable: 1 − exp(−1) = 0.632 > 0.63
    def ramp(pixels):
        row = np.clip((np.arange(64) - 30) / pixels, 0, 1) * 0.8
        return torch.from_numpy(np.broadcast_to(row.astype(np.float32), (3, 64, 64)).copy())

    assert cpbd(ramp(2)) == 1
    assert cpbd(ramp(3)) == 0


def test_a_picture_without_edges_has_no_sharpness():
    assert math.isnan(cpbd(torch.full((3, 128, 128), 0.5)))
    assert math.isnan(cpbd(torch.rand(3, 40, 40)))  # smaller than a block


def test_bytes_and_floats_are_one_picture():
    image = (checks() * 255).round().byte()
    assert cpbd(image) == cpbd(image.float() / 255)
    assert to_grey(image)[0, 0] == pytest.approx(float(image[0, 0, 0]), abs=0.01)
