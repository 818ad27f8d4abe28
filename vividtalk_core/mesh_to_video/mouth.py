"""Where the inside of the mouth is painted, and where the line between closed lips is.

What the portrait itself shows of its mouth is kept and moved by the dense motion; only what it does not show is
painted, by `interior.InteriorShader`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from ..filters import gaussian, ramp, smoothstep
from ..geometry import polygon_distance, project
from ..head.morphable import landmark_positions
from ..head.mouth_shape import inter_ocular
from ..head.topology import INNER_LIP_PAIRS, INNER_LIPS, OUTER_LIPS
from ..progress import Progress
from ..structures import CROP, DenseMotion, FaceFit, MeshSequence, Paint, SourceView
from .interior import InteriorShader, mouth_palette
from .paint import box_points, boxes_around

# Large enough for a mouth that is open as wide as possible.
BOX_SIZE = (1.5, 1.25)  # width and height in mouth widths
LIP_EDGE_PX = (-0.5, 0.5)  # px of the crop inside the lips' contour between which the inside fades in
# Rounding of the sampling grid must not paint over the portrait's own mouth.
KEPT_TOLERANCE = 0.01  # of alpha
# Own gap over driven gap: below the first nothing of the portrait's mouth is kept, above the second all of it. Teeth
# that a smile shows are kept for long; a slit is given up soon, because what it shows would be a second row of teeth.
STRETCHED_SMILE, STRETCHED_SLIT = (0.15, 0.5), (0.55, 0.85)
SLIT = (0.07, 0.16)  # own gap over the width of the mouth: below the first a slit, above the second a smile
# Driven gap over own gap: below the first the line between closing lips begins to show, below the second it is full.
SHUT = (0.4, 0.15)
# Own gap below the first: the portrait's lips are closed, and their line is in the portrait; above the second: open.
OWN_GAP_PX = (1.0, 2.0)  # px of the crop
# The line between closed lips: its standard deviation to either side of their contour, and its colour relative to the
# lips. In closed frames of 36 real people its luminance is 0.6 of the lips' (median; FIGURES.md).
SEAM_IOD = 0.010
SEAM = (0.70, 0.52, 0.52)
FAINT = 0.13  # of the line, below which it is not drawn


def render_mouth(
    view: SourceView,
    mesh: MeshSequence,
    motion: DenseMotion,
    detail: int,
    progress: Progress | None = None,
) -> Paint:
    """Paint the mouth's inside where the portrait does not show it.

    Args:
        view: the portrait, from `view_source`.
        mesh: T driven meshes.
        motion: T frames, which carry what the portrait shows.
        detail: px of the painting per px of the crop.
        progress: called after each frame.

    Returns:
        Colour [T, 3, h, w] and alpha [T, 1, h, w] of a box that follows the mouth.
    """
    shader, lips = InteriorShader(view), _lip_boxes(view, mesh, detail)
    colors, alphas = [], []
    for vertices, outline, box, flow in zip(mesh.vertices, lips.outlines, lips.boxes, motion.flow, strict=True):
        points = box_points(box, lips.height, lips.width, detail)  # [h, w, 2] px of the crop
        opening = _opening(points, outline)
        colors.append(shader.paint(vertices, box, detail, opening))
        # what the warp brings from inside the portrait's own opening is its own mouth: that much is not painted
        share = _share_kept(lips.own, outline)
        kept = _opening(points + _sample(flow * (CROP / 2), points), lips.own) * share if share > 0 else 0.0
        alphas.append((opening - kept - KEPT_TOLERANCE).clamp(min=0) / (1 - KEPT_TOLERANCE))
        if progress:
            progress(len(alphas), len(lips.boxes), None)
    return Paint(torch.stack(colors), torch.stack(alphas)[:, None], lips.boxes)


def render_lip_seam(view: SourceView, mesh: MeshSequence, detail: int) -> Paint:
    """Paint the dark line between lips that close over the teeth they showed.

    Args:
        view: the portrait, from `view_source`.
        mesh: T driven meshes.
        detail: px of the painting per px of the crop.

    Returns:
        Colour [T, 3, h, w] and alpha [T, 1, h, w] of a box that follows the mouth; alpha is 0 while the lips are apart.
    """
    lips = _lip_boxes(view, mesh, detail)
    width = SEAM_IOD * inter_ocular(view.face.landmarks[None])  # [] px of the crop
    alphas = []
    for outline, box in zip(lips.outlines, lips.boxes, strict=True):
        points = box_points(box, lips.height, lips.width, detail)  # [h, w, 2] px of the crop
        share = _share_shut(lips.own, outline)
        if share == 0:
            alphas.append(torch.zeros_like(points[..., 0]))
            continue
        line = gaussian(_signed_distance(points, outline, 3 * float(width)).clamp(max=0), width)
        # from two standard deviations on nothing, so that the line has an end
        alphas.append(ramp(line, FAINT, 1.0) * share)
    lip = mouth_palette(view).lips
    color = repeat(lip * lip.new_tensor(SEAM), "c -> t c h w", t=len(alphas), h=lips.height, w=lips.width)
    return Paint(color, torch.stack(alphas)[:, None], lips.boxes)


@dataclass(frozen=True, eq=False, slots=True)
class _LipBoxes:
    """The mouth's opening in T frames and the boxes that are painted around it."""

    own: Tensor  # [N, 2] px of the crop, outline of the opening in the portrait
    outlines: Tensor  # [T, N, 2] px of the crop
    boxes: Tensor  # [T, 4] px of the crop
    height: int  # h of the painting, px
    width: int  # w of the painting, px


def _lip_boxes(view: SourceView, mesh: MeshSequence, detail: int) -> _LipBoxes:
    """Outlines [T, N, 2] and boxes [T, 4] of T driven meshes; all boxes have the size that the portrait gives."""
    own, outlines = (_inner_lips(view.face, each) for each in (view.mesh, mesh))  # [1, N, 2], [T, N, 2]
    half = _half_box(view)
    width, height = (2 * int(side) * detail for side in half)
    return _LipBoxes(own[0], outlines, boxes_around(outlines, half), height, width)


def _inner_lips(face: FaceFit, mesh: MeshSequence) -> Tensor:
    """The outline of the mouth's opening [T, N, 2], px of the crop."""
    return project(landmark_positions(face.model, mesh.vertices)[:, list(INNER_LIPS)])[..., :2]


def _opening(points: Tensor, outline: Tensor) -> Tensor:
    """[h, w] 0..1 at points [h, w, 2]: 1 inside the outline [N, 2] of the inner lips."""
    return ramp(_signed_distance(points, outline, -LIP_EDGE_PX[0]), *LIP_EDGE_PX)


def _signed_distance(points: Tensor, outline: Tensor, reach: float) -> Tensor:
    """[h, w] distance of points [h, w, 2] to an outline [N, 2], positive inside; −inf further than `reach` outside."""
    # most points of a box are far from the lips, and the distance to twenty segments is what a frame spends time on
    near = ((points >= outline.amin(0) - reach) & (points <= outline.amax(0) + reach)).all(-1)
    distance = torch.full_like(points[..., 0], -torch.inf)
    distance[near] = polygon_distance(points[near], outline)
    return distance


def _share_kept(own: Tensor, driven: Tensor) -> Tensor:
    """How much of the portrait's own mouth is kept, [] 0..1: a slit would be stretched too far over an open mouth.

    Both outlines are [N, 2] px.
    """
    smile = smoothstep(_gap(own) / (own[:, 0].amax() - own[:, 0].amin()).clamp(min=1e-3), *SLIT)
    ends = torch.lerp(own.new_tensor(STRETCHED_SLIT), own.new_tensor(STRETCHED_SMILE), smile).tolist()
    return smoothstep(_gap(own) / _gap(driven).clamp(min=1e-3), *ends)


def _share_shut(own: Tensor, driven: Tensor) -> Tensor:
    """How far lips that are open in the portrait are closed, [] 0..1: the warp squeezes their teeth into a bright line.

    Both outlines are [N, 2] px. 0 where the portrait's own lips are closed, because their line is in the portrait.
    """
    apart = smoothstep(_gap(own), *OWN_GAP_PX)
    return smoothstep(_gap(driven) / _gap(own).clamp(min=1e-3), *SHUT) * apart


def _gap(outline: Tensor) -> Tensor:
    """Mean distance [] of upper and lower inner lip in px, of an outline [N, 2]."""
    upper, lower = (
        [INNER_LIPS.index(number) for number in side] for side in zip(*INNER_LIP_PAIRS, strict=True)
    )  # fmt: skip
    gaps: Tensor = (outline[upper] - outline[lower]).norm(dim=-1)
    return gaps.mean()


def _sample(flow: Tensor, points: Tensor) -> Tensor:
    """A field [256, 256, 2] at points [h, w, 2] px of the crop, bilinear: [h, w, 2]."""
    grid = (points * (2 / CROP) - 1)[None]
    field = rearrange(flow, "h w c -> 1 c h w")
    sampled = F.grid_sample(field, grid, align_corners=False, padding_mode="border")
    return rearrange(sampled, "1 c h w -> h w c")


def _half_box(view: SourceView) -> Tensor:
    """Half of the box's width and height [2], whole px of the crop; it depends on the portrait alone."""
    # one size for all frames, so that they can be stacked and detail does not flicker with the size
    own = project(landmark_positions(view.face.model, view.mesh.vertices[0])[list(OUTER_LIPS)])[:, :2]  # [N, 2]
    mouth_width = (own.amax(0) - own.amin(0))[0]
    return (own.new_tensor(BOX_SIZE) / 2 * mouth_width).round().clamp(min=4)
