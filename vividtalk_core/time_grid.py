"""Seconds and frames: the one rule of frame rates, and sampling between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import SettingsError
from .settings import FPS


def check_fps(fps: float) -> float:
    """`fps` as a float.

    Raises:
        SettingsError: it is not within 1..120 frames per second.
    """
    if not FPS[0] <= fps <= FPS[1]:
        raise SettingsError(f"fps must be between {FPS[0]:g} and {FPS[1]:g}; got {fps}. 25 is the usual choice.")
    return float(fps)


def frame_count(duration_s: float, fps: float) -> int:
    """Number of video frames of a clip: round(duration · fps), at least 1; frame t covers t/fps to (t + 1)/fps.

    Raises:
        SettingsError: the duration is negative or not finite, or the frame rate is out of range.
    """
    if not (math.isfinite(duration_s) and duration_s >= 0):
        raise SettingsError(f"a duration must be a number of seconds, 0 or more; got {duration_s}.")
    return max(1, round(duration_s * check_fps(fps)))


def sample_rows(rows: Tensor, position: Tensor) -> Tensor:
    """Rows [M, D] linearly interpolated at fractional row numbers [...], the ends held: [..., D]."""
    position = position.clamp(0, rows.shape[0] - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=rows.shape[0] - 1)
    return torch.lerp(rows[low], rows[high], (position - low).to(rows.dtype)[..., None])


def resampled_positions(frames: int, fps_in: float, fps_out: float) -> Tensor:
    """[T] float64, where `frames` frames at `fps_out` fall among rows [M, D] at `fps_in`, for `sample_rows`.

    Frame t is centred at (t + 0.5) / fps at either rate; with equal rates the positions are whole.
    """
    # in double precision: in a long clip float32 has too few digits for the place between two rows
    return (torch.arange(frames, dtype=torch.float64) + 0.5) * (fps_in / fps_out) - 0.5
