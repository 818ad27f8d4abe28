"""Verbs on curves: every one takes an Expression or a HeadPose and returns a new one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures import ARKIT_NAMES, Expression, HeadPose
from ..time_grid import check_fps, frame_count, resampled_positions, sample_rows

ALL = ("*",)


def columns(names: Sequence[str]) -> Tensor:
    """Columns [K] of the named coefficients in [T, E]; a name may be a pattern such as "mouth*" or "*Left"."""
    unknown = [name for name in names if not any(fnmatchcase(known, name) for known in ARKIT_NAMES)]
    if unknown or not names:
        raise ValueError(f"no blendshape is called {', '.join(unknown) or '(nothing)'}; try jawOpen, mouth* or *Left.")
    return torch.tensor([i for i, known in enumerate(ARKIT_NAMES) if any(fnmatchcase(known, name) for name in names)])


def _replace_columns(expression: Expression, index: Tensor, values: Tensor) -> Expression:
    """The expression with the columns `index` [K] set to `values` [T, K], kept within 0..1."""
    coefficients = expression.coefficients.clone()
    coefficients[:, index] = values.clamp(0, 1).to(coefficients.dtype)
    return replace(expression, coefficients=coefficients)


def scale(expression: Expression, factor: float, names: Sequence[str] = ALL) -> Expression:
    """Multiply the motion of the named coefficients: their distance from neutral."""
    index = columns(names)
    neutral = expression.neutral_coefficients[index]
    return _replace_columns(expression, index, neutral + factor * (expression.coefficients[:, index] - neutral))


def offset(expression: Expression, amount: float, names: Sequence[str]) -> Expression:
    """Add `amount` to the named coefficients."""
    index = columns(names)
    return _replace_columns(expression, index, expression.coefficients[:, index] + amount)


def clip(expression: Expression, low: float, high: float, names: Sequence[str] = ALL) -> Expression:
    """Keep the named coefficients within low..high."""
    if not 0 <= low <= high <= 1:
        raise ValueError(f"clip needs 0 ≤ low ≤ high ≤ 1; got {low} and {high}.")
    index = columns(names)
    return _replace_columns(expression, index, expression.coefficients[:, index].clamp(low, high))


def smooth(expression: Expression, sigma_s: float, names: Sequence[str] = ALL) -> Expression:
    """Smooth the named coefficients with a Gaussian of `sigma_s` seconds; 0 changes nothing."""
    index = columns(names)
    return _replace_columns(expression, index, gaussian(expression.coefficients[:, index], sigma_s * expression.fps))


def retime(expression: Expression, fps: float, frames: int | None = None) -> Expression:
    """The same motion at another frame rate, linearly interpolated; `frames` defaults to the same duration."""
    position = frame_positions(len(expression.coefficients), expression.fps, fps, frames)
    return replace(
        expression,
        coefficients=sample_rows(expression.coefficients, position),
        lip_offsets=sample_rows(expression.lip_offsets.flatten(1), position).unflatten(
            1, expression.lip_offsets.shape[1:]
        ),
        fps=float(fps),
    )


def smooth_pose(pose: HeadPose, sigma_s: float) -> HeadPose:
    """Smooth a head pose with a Gaussian of `sigma_s` seconds."""
    sigma = sigma_s * pose.fps
    return replace(pose, rotation=gaussian(pose.rotation, sigma), translation=gaussian(pose.translation, sigma))


def retime_pose(pose: HeadPose, fps: float, frames: int | None = None) -> HeadPose:
    """The same head motion at another frame rate, linearly interpolated."""
    position = frame_positions(len(pose.rotation), pose.fps, fps, frames)
    return replace(
        pose,
        rotation=sample_rows(pose.rotation, position),
        translation=sample_rows(pose.translation, position),
        fps=float(fps),
    )


def frame_positions(frames_in: int, fps_in: float, fps_out: float, frames_out: int | None = None) -> Tensor:
    """[T'] float64, where the centres of frames at `fps_out` fall among rows [T, D] at `fps_in`: whole if equal."""
    if frames_in < 1:
        raise ValueError("a curve of 0 frames cannot be retimed.")
    frames_out = frame_count(frames_in / fps_in, fps_out) if frames_out is None else frames_out
    return resampled_positions(frames_out, fps_in, check_fps(fps_out))


def gaussian(rows: Tensor, sigma: float) -> Tensor:
    """Smooth rows [T, D] along time with a Gaussian of `sigma` rows, the ends repeated."""
    if sigma < 0 or not math.isfinite(sigma):
        raise ValueError(f"smoothing needs a time of 0 s or more; got {sigma}.")
    # 99.7 % of a Gaussian lie within three σ
    reach = math.ceil(3 * sigma)
    if reach == 0 or rows.shape[1] == 0:
        return rows
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=rows.dtype, device=rows.device) / sigma) ** 2)
    padded = F.pad(rows.T[:, None], (reach, reach), mode="replicate")
    return F.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].T
