"""CPBD: how sharp a picture looks, without a reference (Narvekar and Karam 2011)."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

BLOCK = 64  # px
EDGE_SHARE = 0.002  # of a block's pixels, from which it counts as one with edges
CONTRAST = 50  # of 255, up to which a block is of low contrast
JUST_NOTICEABLE = (5.0, 3.0)  # px of blur at an edge of low and of high contrast
BETA = 3.6
JUST_BLURRED = 0.63  # probability at the just noticeable blur


def cpbd(image: Tensor) -> float:
    """Cumulative probability of blur detection of a picture: the share of edges too sharp to be seen as blurred.

    Edges are Canny's, their width is measured along the row between the nearest extrema (Marziliano et al. 2002).
    Published figures depend on the edge detector and on the size of the picture: compare at one size.

    Args:
        image: [3, H, W] RGB, uint8 or 0..1.

    Returns:
        0 (all blurred) … 1 (all sharp); NaN where no block has edges.
    """
    grey = to_grey(image).round()  # in 256 steps the faint feet of an edge are flat
    edges = _vertical_edges(grey)
    width = _edge_widths(grey)
    probabilities = []
    for top in range(0, grey.shape[0] - BLOCK + 1, BLOCK):
        for left in range(0, grey.shape[1] - BLOCK + 1, BLOCK):
            part = (slice(top, top + BLOCK), slice(left, left + BLOCK))
            found = width[part][edges[part]]
            if len(found) > EDGE_SHARE * BLOCK**2:
                noticeable = JUST_NOTICEABLE[int(np.ptp(grey[part]) > CONTRAST)]
                probabilities.append(1 - np.exp(-((found / noticeable) ** BETA)))
    if not probabilities:
        return float("nan")
    return float((np.concatenate(probabilities) <= JUST_BLURRED).mean())


def to_grey(image: Tensor) -> np.ndarray:
    """Luminance [H, W] float32 0..255 of [3, H, W], uint8 or 0..1."""
    pixels = image.permute(1, 2, 0).float().cpu().numpy() * (1 if not image.is_floating_point() else 255)
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


def _vertical_edges(grey: np.ndarray) -> np.ndarray:
    """[H, W] bool Canny edges that are crossed rather by a row than by a column."""
    edges = cv2.Canny(grey.astype(np.uint8), 50, 150) > 0
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return edges & (np.abs(across) >= np.abs(down))


def _edge_widths(grey: np.ndarray) -> np.ndarray:
    """[H, W] px between the extrema of the row to the left and the right of each pixel, as if it were an edge."""
    steps = np.diff(grey, axis=1)  # step x leads from pixel x to x + 1
    rising = np.zeros(grey.shape, bool)
    rising[:, 1:-1] = grey[:, 2:] > grey[:, :-2]
    up, down = _run_lengths(steps > 0), _run_lengths(steps < 0)
    return np.where(rising, up, down).astype(np.float32)


def _run_lengths(step: np.ndarray) -> np.ndarray:
    """[H, W] how many steps [H, W − 1] that are True touch each pixel without a break, to both sides together."""
    height, count = step.shape
    column = np.arange(count)
    # the last break before each step, and the first one at or after it
    broken = np.maximum.accumulate(np.where(step, -1, column), axis=1)
    ahead = np.minimum.accumulate(np.where(step, count, column)[:, ::-1], axis=1)[:, ::-1]
    left, right = np.zeros((height, count + 1), int), np.zeros((height, count + 1), int)
    left[:, 1:] = column - broken
    right[:, :-1] = ahead - column
    return left + right
