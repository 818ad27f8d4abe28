"""Head motion at another frame rate, and smoothing over time."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from ..errors import MismatchError
from ..filters import blur_rows
from ..structures import HeadTrajectory
from ..time_grid import check_fps, frame_count, resampled_positions, sample_rows

Trajectory = TypeVar("Trajectory", bound=HeadTrajectory)


def smooth_pose(pose: Trajectory, sigma_s: float) -> Trajectory:
    """Smooth a head's rotation [T, 3] and translation [T, 3] over time with a Gaussian of `sigma_s` seconds."""
    # angles can be smoothed as numbers, because heads do not come near half a turn, where they jump
    sigma = sigma_s * pose.fps
    return replace(pose, rotation=blur_rows(pose.rotation, sigma), translation=blur_rows(pose.translation, sigma))


def retime_pose(pose: Trajectory, fps: float, frames: int | None = None) -> Trajectory:
    """The same head pose or motion at another frame rate, linearly interpolated.

    Args:
        pose: T frames.
        fps: frames per second of the result.
        frames: number of frames of the result; None keeps the duration.

    Returns:
        Rotation [T', 3] and translation [T', 3] at `fps`.
    """
    position = frame_positions(pose.frame_count, pose.fps, fps, frames)
    return replace(
        pose,
        rotation=sample_rows(pose.rotation, position),
        translation=sample_rows(pose.translation, position),
        fps=float(fps),
    )


def frame_positions(frames_in: int, fps_in: float, fps_out: float, frames_out: int | None = None) -> Tensor:
    """[T'] float64, where the centres of frames at `fps_out` fall among rows [T, D] at `fps_in`: whole if equal."""
    if frames_in < 1:
        raise MismatchError("a curve of 0 frames cannot be retimed; at least 1 frame is needed.")
    frames_out = frame_count(frames_in / fps_in, fps_out) if frames_out is None else frames_out
    return resampled_positions(frames_out, fps_in, check_fps(fps_out))
