"""Frames from dense motion: the portrait is warped, and what it does not show is painted.

In closed form that is the inside of the mouth, the lash lines and the line between closed lips. The generator network
corrects what lies around them at 256 px; its changes are one more layer of paint, smooth and added as a difference, so
that the portrait's own detail stays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..filters import blur
from ..geometry import warp
from ..nn import frame_batches, inference
from ..progress import Progress
from ..structures import CROP, DenseMotion, FaceFit, GeneratedFrames, NccRender, Paint
from .backdrop import show_backdrop
from .eyes import render_lash_lines
from .gate import change_gate
from .generator_network import FrameGenerator
from .mirror import other_half
from .mouth import render_lip_seam, render_mouth
from .paint import paint_layer, paint_over

# Standard deviation of a blur of what the generator changes. Without it mouths are further from real ones than those of
# the closed form (Fréchet distance 73 and 40, with it 46), for a pixelwise noise that is hardly seen.
CHANGE_PX = 1.6  # px of the crop
# More makes teeth no sharper and takes longer.
MAX_DETAIL = 4  # px of painting per px of the crop


def generate_frames(
    render: NccRender,
    motion: DenseMotion,
    model: FrameGenerator | None = None,
    strength: float = 1.0,
    progress: Progress | None = None,
) -> GeneratedFrames:
    """Motion and paint that turn the portrait into T frames, at its own resolution.

    Args:
        render: T frames of `render_ncc`.
        motion: T frames of `estimate_motion`.
        model: the generator that corrects the closed form; None leaves it.
        strength: factor on the model's part, 0 = the closed form, 1 = as trained.
        progress: called after each frame, and again in the model's own pass.

    Returns:
        The motion with the painted mouth interior, lash lines and the model's changes, ready for `paste_back` or
        `compose`.
    """
    frames = paint_interior(render, motion, progress)
    paints = list(frames.paints)
    if model is not None and strength > 0:
        paints.append(correct_frames(model, render, frames, strength, progress))
    # over what the model changes, which was trained without the line
    paints.append(render_lip_seam(render.view, render.mesh, paint_detail(render.view.face)))
    return GeneratedFrames(motion, tuple(paints), render.mesh.fps)


def paint_interior(render: NccRender, motion: DenseMotion, progress: Progress | None = None) -> GeneratedFrames:
    """T frames with the inside of the mouth and the lash lines: what the generator corrects; see `generate_frames`."""
    detail = paint_detail(render.view.face)
    mouth = render_mouth(render.view, render.mesh, motion, detail, progress)
    lashes = render_lash_lines(render.view, render.mesh, detail)
    return GeneratedFrames(motion, (mouth, lashes), render.mesh.fps)


def paint_detail(face: FaceFit) -> int:
    """Px of the painting per px of the crop: about as fine as the portrait."""
    return min(MAX_DETAIL, max(2, round(face.crop.size / CROP)))


def correct_frames(
    model: FrameGenerator,
    render: NccRender,
    frames: GeneratedFrames,
    strength: float = 1.0,
    progress: Progress | None = None,
) -> Paint:
    """What the generator changes in T frames made in closed form, as paint over the whole crop.

    Args:
        model: the generator.
        render: T frames of `render_ncc`.
        frames: T frames, warped and painted in closed form.
        strength: of alpha, 0 = nothing, 1 = as trained.
        progress: called after each batch of frames.

    Returns:
        Colour [T, 3, 256, 256] and alpha [T, 1, 256, 256]; 0 where nothing moves and nothing is painted.
    """
    view, face = render.view, render.view.face
    base = compose(face, frames)
    painted = painted_alpha(frames)
    gate = change_gate(frames.motion.flow, view.follow * view.border, painted) * strength
    colors, alphas = [], []
    with inference(base.device):
        # the features of the portrait do not change from frame to frame
        features = model.encode_source(face.image)
        for part in frame_batches(len(base), base.device):
            maps = (base, painted, render.ncc, render.face_mask, frames.motion.flow, frames.motion.occlusion)
            now = [values[part] for values in maps]
            color, alpha = model(features.expand(len(now[0]), -1, -1, -1), *now)
            # under autocast the network answers in bfloat16; the layers are blended in the portrait's precision
            colors.append(smooth_change(now[0], color.to(base.dtype)))
            alphas.append(alpha.to(base.dtype))
            if progress:
                progress(part.stop, len(base), None)
    box = base.new_tensor((0.0, 0.0, CROP, CROP)).expand(len(base), 4)
    # with what lies beneath it, so that only the difference is added and finer detail of the portrait stays
    return Paint(torch.cat(colors), torch.cat(alphas) * gate, box, base)


def smooth_change(base: Tensor, color: Tensor) -> Tensor:
    """The colour [T, 3, H, W] of the generator with what it changes in `base` [T, 3, H, W] blurred."""
    return (base + blur(color - base, CHANGE_PX)).clamp(0, 1)


def painted_alpha(frames: GeneratedFrames) -> Tensor:
    """[T, 1, 256, 256] how much of each pixel is painted rather than warped."""
    clear = torch.ones_like(frames.motion.occlusion)
    for paint in frames.paints:
        clear = clear * (1 - paint_layer(paint, CROP, CROP, 1.0)[:, 3:])
    return 1 - clear


def move_portrait(face: FaceFit, motion: DenseMotion) -> Tensor:
    """The crop [T, 3, 256, 256] in 0..1 as T frames of motion change it, before anything is painted."""
    image = warp(face.image, motion.flow)
    if motion.fill is not None:
        image = torch.lerp(image, other_half(face.image, motion.fill), motion.fill.alpha).clamp(0, 1)
    return image if motion.backdrop is None else show_backdrop(image, face.image, motion.backdrop)


def compose(face: FaceFit, frames: GeneratedFrames) -> Tensor:
    """The frames as the 256 crop, [T, 3, 256, 256] in 0..1."""
    image = move_portrait(face, frames.motion)
    for paint in frames.paints:
        image = paint_over(image, paint, 1.0)
    return image.clamp(0, 1)
