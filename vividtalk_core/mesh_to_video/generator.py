"""Frames from dense motion: the portrait is warped, and what it never showed is painted."""

from __future__ import annotations

from torch import Tensor

from ..geometry import warp
from ..structures import CROP, DenseMotion, FaceFit, GeneratedFrames, NccRender
from .mouth import paint_over, render_mouth
from .source_view import SourceView, view_source

MAX_DETAIL = 4  # px of painting per px of the crop; beyond it teeth get no sharper, only slower


def generate_frames(
    face: FaceFit, render: NccRender, motion: DenseMotion, view: SourceView | None = None
) -> GeneratedFrames:
    """Everything that has to be done to the portrait, at its own resolution.

    Args:
        face: the fitted portrait.
        render: T frames of `render_ncc`.
        motion: T frames of `estimate_motion`.
        view: `view_source(face)` when it is already there.

    Returns:
        The motion with the painted mouth interior, ready for `paste_back` or `compose`.
    """
    detail = min(MAX_DETAIL, max(2, round(face.crop.size / CROP)))
    paint = render_mouth(face, render.mesh, view or view_source(face), detail)
    return GeneratedFrames(motion, paint, render.mesh.fps)


def compose(face: FaceFit, frames: GeneratedFrames) -> Tensor:
    """The frames as the 256 crop, [T, 3, 256, 256] in 0..1."""
    return paint_over(warp(face.image, frames.motion.flow), frames.paint, 1.0).clamp(0, 1)
