"""Frames from dense motion: the portrait is warped, and what it never showed is painted."""

from __future__ import annotations

from torch import Tensor

from ..geometry import warp
from ..structures import CROP, DenseMotion, FaceFit, GeneratedFrames, NccRender
from .eyes import render_lash_lines
from .mouth import render_mouth
from .paint import paint_over
from .rasterizer import Progress
from .source_view import SourceView, view_source

MAX_DETAIL = 4  # px of painting per px of the crop; beyond it teeth get no sharper, only slower


def generate_frames(
    face: FaceFit,
    render: NccRender,
    motion: DenseMotion,
    view: SourceView | None = None,
    progress: Progress | None = None,
) -> GeneratedFrames:
    """Everything that has to be done to the portrait, at its own resolution.

    Args:
        face: the fitted portrait.
        render: T frames of `render_ncc`.
        motion: T frames of `estimate_motion`.
        view: `view_source(face)` when it is already there.
        progress: called as (done, total, None) after each frame; it may raise to cancel.

    Returns:
        The motion with the painted mouth interior and lash lines, ready for `paste_back` or `compose`.
    """
    detail = min(MAX_DETAIL, max(2, round(face.crop.size / CROP)))
    view = view or view_source(face)
    mouth = render_mouth(face, render.mesh, motion, view, detail, progress)
    lashes = render_lash_lines(face, render.mesh, view, detail)
    return GeneratedFrames(motion, (mouth, lashes), render.mesh.fps)


def compose(face: FaceFit, frames: GeneratedFrames) -> Tensor:
    """The frames as the 256 crop, [T, 3, 256, 256] in 0..1."""
    image = warp(face.image, frames.motion.flow)
    for paint in frames.paints:
        image = paint_over(image, paint, 1.0)
    return image.clamp(0, 1)
