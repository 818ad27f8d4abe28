"""CPBD: perceived sharpness of an image, without a reference (Narvekar and Karam 2011)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# px; this and the numbers below are those of the paper.
BLOCK = 64
EDGE_SHARE = 0.002  # of a block's pixels, from which it counts as one with edges
CONTRAST = 50  # of 255, up to which a block is of low contrast
JUST_NOTICEABLE = (5.0, 3.0)  # px of blur at an edge of low and of high contrast
BETA = 3.6  # exponent of the probability that an edge is seen as blurred
JUST_BLURRED = 0.63  # probability at the just noticeable blur


def cpbd(image: Tensor) -> float:
    """Cumulative probability of blur detection of an image: the share of edges too sharp to be seen as blurred.

    Edges are Canny's, their width is measured along the row between the nearest extrema (Marziliano et al. 2002).
    Published values depend on the edge detector and on the size of the image: compare at one size.

    Args:
        image: [3, H, W] RGB, uint8 or 0..1.

    Returns:
        0 (all blurred) … 1 (all sharp); NaN where no block has edges.
    """
    # Without rounding, faint slopes at the foot of an edge would make it wider.
    grey = to_grey(image).round()
    edges = _vertical_edges(grey)
    width = _edge_widths(grey)
    probabilities = []
    for top in range(0, grey.shape[0] - BLOCK + 1, BLOCK):
        for left in range(0, grey.shape[1] - BLOCK + 1, BLOCK):
            part = (slice(top, top + BLOCK), slice(left, left + BLOCK))
            found = width[part][edges[part]]
            if len(found) > EDGE_SHARE * BLOCK**2:
                noticeable = JUST_NOTICEABLE[int(np.ptp(grey[part]) > CONTRAST)]
                # Ferzli and Karam 2009: an edge as wide as the just noticeable blur is seen as blurred with 63 %.
                probabilities.append(1 - np.exp(-((found / noticeable) ** BETA)))
    if not probabilities:
        return float("nan")
    return float((np.concatenate(probabilities) <= JUST_BLURRED).mean())


def to_grey(image: Tensor) -> Floats:
    """Luminance [H, W] float32 0..255 of [3, H, W], uint8 or 0..1."""
    pixels = image.permute(1, 2, 0).float().cpu().numpy() * (1 if not image.is_floating_point() else 255)
    grey: Floats = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY).astype(np.float32, copy=False)
    return grey


def _vertical_edges(grey: Floats) -> Bools:
    """[H, W] bool Canny edges that are nearer to vertical than to horizontal."""
    # Vertical edges alone, because widths are measured along rows; blur of a lens or a resize is the same both ways.
    edges = cv2.Canny(grey.astype(np.uint8), 50, 150) > 0
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    vertical: Bools = edges & (np.abs(across) >= np.abs(down))
    return vertical


def _edge_widths(grey: Floats) -> Floats:
    """[H, W] px between the extrema of the row to the left and the right of each pixel, as if it were an edge."""
    steps = np.diff(grey, axis=1)  # step x leads from pixel x to x + 1
    rising = np.zeros(grey.shape, bool)
    # Whether an edge goes up or down decides between which extrema its width lies.
    rising[:, 1:-1] = grey[:, 2:] > grey[:, :-2]
    up, down = _run_lengths(steps > 0), _run_lengths(steps < 0)
    return np.where(rising, up, down).astype(np.float32)


def _run_lengths(step: Bools) -> npt.NDArray[np.int64]:
    """For each pixel [H, W] the number of unbroken True steps [H, W − 1] to its left and right together."""
    height, count = step.shape
    column = np.arange(count)
    # the last break before each step, and the first one at or after it
    broken = np.maximum.accumulate(np.where(step, -1, column), axis=1)
    ahead = np.minimum.accumulate(np.where(step, count, column)[:, ::-1], axis=1)[:, ::-1]
    left, right = np.zeros((height, count + 1), np.int64), np.zeros((height, count + 1), np.int64)
    left[:, 1:] = column - broken
    right[:, :-1] = ahead - column
    return left + right
