"""The generated crop back into the portrait, at the portrait's own resolution."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..errors import MismatchError
from ..filters import upsample
from ..geometry import warp
from ..progress import Progress
from ..structures import CROP, Backdrop, Crop, DenseMotion, FaceFit, GeneratedFrames, Paint
from .paint import paint_over


def paste_back(portrait: Tensor, face: FaceFit, frames: GeneratedFrames, progress: Progress | None = None) -> Tensor:
    """Apply motion and paint to the portrait itself.

    Args:
        portrait: [1, 3, H, W] in 0..1, the picture that was fitted.
        face: its fit.
        frames: T frames of `generate_frames`.
        progress: called after each frame, with it.

    Returns:
        [T, 3, H, W] in 0..1. Pixels that do not move are the portrait's own, bit for bit.

    Raises:
        MismatchError: the portrait has another size than the one that was fitted.
    """
    height, width = portrait.shape[-2:]
    if (height, width) != (face.crop.height, face.crop.width):
        fitted = f"{face.crop.width}×{face.crop.height}"
        raise MismatchError(f"The face was fitted to a {fitted} portrait, this one is {width}×{height}: use the same.")
    source = crop_portrait(portrait[:1], face.crop)
    total = len(frames.motion.flow)
    behind = _backdrop_image(source, frames.motion.backdrop)
    # every frame begins as the portrait: only the box that moves is written
    out = portrait[:1].repeat(total, 1, 1, 1)
    for index in range(total):
        _paste_frame(out[index], source, behind, face.crop, frames, index)
        if progress:
            progress(index + 1, total, out[index])
    return out


def crop_portrait(portrait: Tensor, crop: Crop) -> Tensor:
    """The crop at native size [1, 3, size, size]; where it overhangs the portrait the border is repeated."""
    device = portrait.device
    rows = torch.arange(crop.top, crop.top + crop.size, device=device).clamp(0, crop.height - 1)
    columns = torch.arange(crop.left, crop.left + crop.size, device=device).clamp(0, crop.width - 1)
    return portrait[:, :, rows][:, :, :, columns]


def _backdrop_image(source: Tensor, backdrop: Backdrop | None) -> Tensor:
    """What lies behind the person at native size [1, 3, S, S]: the source [1, 3, S, S] and the plate."""
    if backdrop is None:
        return source
    size = source.shape[-1]
    return torch.lerp(source, upsample(backdrop.plate, size), upsample(backdrop.hole, size))


def _paste_frame(out: Tensor, source: Tensor, behind: Tensor, crop: Crop, frames: GeneratedFrames, index: int) -> None:
    """Write one frame into out [3, H, W], from the crop and from what lies behind it; only the box that moves."""
    now = slice(index, index + 1)
    paints = [paint.frames(now) for paint in frames.paints if (paint.alpha[index] > 0).any()]
    motion = frames.motion.frames(now)
    box = left, top, right, bottom = _moving_box(changed_pixels(motion)[0], paints, crop)
    if right <= left or bottom <= top:
        return
    # flow is in units of half the crop: enlarged to the native crop it keeps its values
    native = _native_flow(motion.flow, crop, box)
    moved = warp_part(source, native, left, top)
    still = (native == 0).all(-1)[:, None]
    # bicubic sampling without motion may differ in the last bit: what does not move is copied
    own = source[:, :, top:bottom, left:right]
    moved = torch.where(still, own, moved)
    fill, backdrop = motion.fill, motion.backdrop
    if fill is not None and (fill.alpha > 0).any():
        # a cheek at most: only its box
        x0, y0, x1, y1 = _moving_box(fill.alpha[0, 0] > 0, [], crop)
        cheek = moved[:, :, y0 - top : y1 - top, x0 - left : x1 - left]
        other = warp_part(source, _native_flow(fill.flow, crop, (x0, y0, x1, y1)), x0, y0)
        filled = (other * _native(fill.gain, crop, (x0, y0, x1, y1))).clamp(0, 1)
        cheek.copy_(torch.lerp(cheek, filled, _native(fill.alpha, crop, (x0, y0, x1, y1))))
    if backdrop is not None and (backdrop.uncovered > 0).any():
        behind = behind[:, :, top:bottom, left:right]
        uncovered = _native(backdrop.uncovered, crop, box)
        # interpolation rounds: a background that is seen fully is the portrait's own, bit for bit
        moved = torch.where(uncovered > 0.999, behind, torch.lerp(moved, behind, uncovered))
    scale = crop.size / CROP
    for paint in paints:
        corner = paint.box.new_tensor((left, top, left, top)) / scale
        moved = paint_over(moved, replace(paint, box=paint.box - corner), scale).clamp(0, 1)
    y, x = top + crop.top, left + crop.left
    out[:, y : y + bottom - top, x : x + right - left] = moved[0]


def _native(maps: Tensor, crop: Crop, box: tuple[int, int, int, int]) -> Tensor:
    """Maps [1, C, 256, 256] at the crop's native size, cut to a box (left, top, right, bottom): [1, C, h, w]."""
    left, top, right, bottom = box
    return upsample(maps, crop.size)[:, :, top:bottom, left:right]


def _native_flow(flow: Tensor, crop: Crop, box: tuple[int, int, int, int]) -> Tensor:
    """A field [1, 256, 256, 2] at the crop's native size, cut to a box: [1, h, w, 2]."""
    native = _native(rearrange(flow, "1 h w xy -> 1 xy h w"), crop, box)
    return rearrange(native, "1 xy h w -> 1 h w xy")


def changed_pixels(motion: DenseMotion) -> Tensor:
    """[T, 256, 256] bool, where frames differ from the portrait before they are painted."""
    changed = (motion.flow != 0).any(-1)
    if motion.fill is not None:
        changed = changed | (motion.fill.alpha[:, 0] > 0)
    if motion.backdrop is not None:
        # where the backdrop is the portrait's own, nothing changes
        changed = changed | ((motion.backdrop.uncovered > 0) & (motion.backdrop.hole > 0))[:, 0]
    return changed


def warp_part(source: Tensor, flow: Tensor, left: int, top: int) -> Tensor:
    """The window [1, 3, h, w] at (left, top) of a source [1, 3, S, S], warped by flow [1, h, w, 2] in half sources."""
    height, width = flow.shape[1:3]
    size = source.shape[-1]
    reach = int(torch.ceil(flow.abs().amax() * size / 2)) + 3  # px, with the support of the bicubic kernel
    x0, y0 = max(0, left - reach), max(0, top - reach)
    x1, y1 = min(size, left + width + reach), min(size, top + height + reach)
    window = source[:, :, y0:y1, x0:x1]
    # zero flow around the window; F.pad counts from the last dimension: none of x and y, then columns, then rows
    padded = F.pad(flow, (0, 0, left - x0, x1 - left - width, top - y0, y1 - top - height))
    unit = flow.new_tensor((size / (x1 - x0), size / (y1 - y0)))
    warped = warp(window, padded * unit, "bicubic").clamp(0, 1)
    return warped[:, :, top - y0 : top - y0 + height, left - x0 : left - x0 + width]


def _shown_box(paint: Paint) -> list[float]:
    """Left, top, right, bottom in px of the 256 crop around what one frame of a layer shows."""
    shown = paint.alpha[0, 0] > 0  # [h, w]
    rows, columns = shown.any(1).nonzero()[:, 0], shown.any(0).nonzero()[:, 0]
    edges = torch.stack((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    left, top, right, bottom = paint.box[0].tolist()
    size = edges.new_tensor((shown.shape[1], shown.shape[0]) * 2)
    span = paint.box.new_tensor((right - left, bottom - top) * 2)
    # the painting is blurred by two of its pixels and sampled between them
    reach = torch.tensor((-3, -3, 3, 3), device=edges.device)
    shown_box: list[float] = (paint.box.new_tensor((left, top, left, top)) + (edges + reach) / size * span).tolist()
    return shown_box


def _moving_box(active: Tensor, paints: list[Paint], crop: Crop) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in px of the native crop around all that moves or is painted, inside the portrait.

    Args:
        active: [256, 256] bool, what moves.
        paints: layers of one frame with alpha above 0 somewhere.
        crop: of the portrait.
    """
    boxes = [_shown_box(paint) for paint in paints]
    if active.any():
        rows, columns = active.any(1).nonzero()[:, 0], active.any(0).nonzero()[:, 0]
        boxes.append([float(edge) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)])
    if not boxes:
        return 0, 0, 0, 0
    scale, margin = crop.size / CROP, 1.0  # px of the crop: bilinear upsampling reaches that far
    low = [max(0, math.floor((min(box[i] for box in boxes) - margin) * scale)) for i in (0, 1)]
    high = [min(crop.size, math.ceil((max(box[i] for box in boxes) + margin) * scale)) for i in (2, 3)]
    left, top = max(low[0], -crop.left), max(low[1], -crop.top)
    return left, top, min(high[0], crop.width - crop.left), min(high[1], crop.height - crop.top)
