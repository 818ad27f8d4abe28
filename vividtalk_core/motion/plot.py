"""Expression curves and head angles as a picture, to look at."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..pixels import to_float
from ..structures import ARKIT_NAMES, Expression, HeadTrajectory

# The coefficients that change most when people talk, one row each; the larger side of those with a left and a right.
CURVES = ("jawOpen", "mouthFunnel", "mouthPucker", "mouthSmile", "mouthPress", "browInnerUp", "eyeBlink")
ANGLES = ("pitch", "yaw", "roll")
FULL_DEG = 15.0  # degrees of head motion at the edge of a row
ROW, LABEL, MARGIN = 48, 150, 6  # px
BACKGROUND, GRID, INK = (24, 24, 28), (60, 60, 66), (220, 220, 220)  # RGB
CURVE_COLOR, ANGLE_COLOR = (120, 220, 255), (255, 190, 90)


def draw_curves(expression: Expression, pose: HeadTrajectory | None = None, width: int = 960) -> Tensor:
    """Plot the main curves over time, coefficients 0..1 and angles ±15°.

    Args:
        expression: T frames.
        pose: T frames or another number; None leaves its rows out.
        width: px of the picture.

    Returns:
        [1, 3, H, width] RGB in 0..1, a vertical line per second.
    """
    rows = [(name, _coefficient(expression, name), CURVE_COLOR) for name in CURVES]
    if pose is not None:
        degrees = pose.rotation.rad2deg() / (2 * FULL_DEG) + 0.5  # [T, 3], 0.5 is no motion
        rows += [(f"{name} (deg)", degrees[:, i], ANGLE_COLOR) for i, name in enumerate(ANGLES)]
    canvas = np.full((ROW * len(rows), width, 3), BACKGROUND, np.uint8)
    _draw_seconds(canvas, expression.frame_count, expression.fps)
    for index, (name, curve, color) in enumerate(rows):
        _draw_row(canvas[index * ROW : (index + 1) * ROW], name, curve, color)
    return to_float(torch.from_numpy(canvas).movedim(-1, 0)[None])


def _coefficient(expression: Expression, name: str) -> Tensor:
    """[T] the curve of a name in coefficients [T, E], or the larger one of its left and right side."""
    columns = [i for i, known in enumerate(ARKIT_NAMES) if known.removesuffix("Left").removesuffix("Right") == name]
    return expression.coefficients[:, columns].amax(1)


def _draw_seconds(canvas: npt.NDArray[np.uint8], frames: int, fps: float) -> None:
    """A vertical line per second on a canvas [H, W, 3]."""
    for second in range(int((frames - 1) / fps) + 1):
        x = LABEL + round(second * fps / max(frames - 1, 1) * (canvas.shape[1] - LABEL - MARGIN))
        cv2.line(canvas, (x, 0), (x, canvas.shape[0]), GRID, 1)


def _draw_row(row: npt.NDArray[np.uint8], name: str, curve: Tensor, color: tuple[int, int, int]) -> None:
    """One curve [T] in 0..1 with its name; row is a view [ROW, width, 3] of the canvas."""
    cv2.putText(row, name, (MARGIN, ROW // 2 + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
    cv2.line(row, (0, ROW - 1), (row.shape[1], ROW - 1), GRID, 1)
    values = curve.clamp(0, 1).cpu().numpy()
    x = np.linspace(LABEL, row.shape[1] - MARGIN, len(values))
    y = ROW - MARGIN - values * (ROW - 2 * MARGIN)
    cv2.polylines(row, [np.stack((x, y), -1).round().astype(np.int32)], False, color, 1, cv2.LINE_AA)
