"""Teeth, tongue and cavity of the head mesh, rendered and lit like the portrait.

What the portrait itself shows of its mouth is kept and moved by the dense motion; only what it does not show is
painted. The colours come from the portrait: teeth are at most as white as its eyes, the inside is as red as its lips.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from ..filters import blur, ramp, smoothstep
from ..geometry import polygon_distance, project
from ..head.morphable import landmark_positions
from ..head.topology import INNER_LIP_PAIRS, INNER_LIPS, OUTER_LIPS
from ..progress import Progress
from ..structures import CROP, DenseMotion, FaceFit, MeshSequence, Paint, SourceView
from .paint import box_points, boxes_around
from .rasterizer import interpolate, rasterize

# Large enough for a mouth that is open as wide as possible.
BOX_SIZE = (1.5, 1.25)  # width and height in mouth widths
LIP_EDGE_PX = (-0.5, 0.5)  # px of the crop inside the lips' contour between which the inside fades in
# Rounding of the sampling grid must not paint over the portrait's own mouth.
KEPT_TOLERANCE = 0.01  # of alpha
# Own gap over driven gap: below the first nothing of the portrait's mouth is kept, above the second all of it.
STRETCHED = (0.15, 0.5)
# Driven gap over own gap: below the first the line between closing lips begins to show, below the second it is full.
SHUT = (0.4, 0.15)
# Own gap below the first: the portrait's lips are closed, and their line is in the portrait; above the second: open.
OWN_GAP_PX = (1.0, 2.0)  # px of the crop
# Outside the lips' contour: where the line between closed lips ends, and where it is full.
SEAM_PX = (-0.9, -0.1)  # px of the crop
SEAM = 2.6  # brightness of that line beside the cavity's
# Brightness beside the upper ones: the lower lip's side is in the shade.
LOWER_TEETH = 0.8
DEPTH = 0.75  # model units from the front teeth to where it is dark
TOOTH_WIDTH = 0.083  # model units, mean of the front teeth
ENAMEL = (1.0, 0.95, 0.86)  # relative to the white of the eye
# Spread of the skin's channels from which on a portrait counts as fully coloured; 0 is black and white.
VIVID = 0.12
TONGUE, CAVITY = (0.95, 0.62, 0.60), (0.22, 0.10, 0.10)  # relative to the lips


@dataclass(frozen=True, eq=False, slots=True)
class Palette:
    """Colours [3] of the mouth's inside, taken from the portrait, RGB in 0..1."""

    enamel: Tensor
    tongue: Tensor
    cavity: Tensor


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
    palette, lips = mouth_palette(view), _lip_boxes(view, mesh, detail)
    colors, alphas = [], []
    for vertices, outline, box, flow in zip(mesh.vertices, lips.outlines, lips.boxes, motion.flow, strict=True):
        points = box_points(box, lips.height, lips.width, detail)  # [h, w, 2] px of the crop
        opening = _opening(points, outline)
        teeth, tongue, head = _rasterize_inside(view, vertices, box, detail, lips.height, lips.width)
        colors.append(_shade(_Interior(teeth, tongue, head, opening), palette))
        # what the warp brings from inside the portrait's own opening is its own mouth: that much is not painted
        kept = _opening(points + _sample(flow * (CROP / 2), points), lips.own) * _share_kept(lips.own, outline)
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
    alphas = []
    for outline, box in zip(lips.outlines, lips.boxes, strict=True):
        points = box_points(box, lips.height, lips.width, detail)  # [h, w, 2] px of the crop
        alphas.append(ramp(polygon_distance(points, outline), *SEAM_PX) * _share_shut(lips.own, outline))
    color = repeat(mouth_palette(view).cavity * SEAM, "c -> t c h w", t=len(alphas), h=lips.height, w=lips.width)
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


@dataclass(frozen=True, eq=False, slots=True)
class _Interior:
    """The mouth's inside in one frame, at the painting's resolution."""

    teeth: Tensor  # [h, w] 1 on upper teeth, less on lower ones, 0 elsewhere
    tongue: Tensor  # [h, w] bool
    head: Tensor  # [3, h, w] position on the mean head, model units; 0 where there is only the cavity
    opening: Tensor  # [h, w] 0..1, 1 between the inner lips


def _rasterize_inside(
    view: SourceView, vertices: Tensor, box: Tensor, detail: int, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Teeth [h, w], tongue [h, w] and position [3, h, w] of a driven mesh [V, 3] in a box [4], without the lips.

    The lips are left out because the alpha of the painting ends at their outline.
    """
    model, inside = view.face.model, view.regions.teeth_and_tongue
    screen = project(vertices[None]) - F.pad(box[:2], (0, 1))
    fragments = rasterize(screen * screen.new_tensor((detail, detail, 1.0)), model.triangles[inside], height, width)
    # positions on the mean head, because depth and the gaps between teeth must not change with the pose
    head = rearrange(interpolate(model.mean_shape, model.triangles[inside], fragments), "1 h w c -> c h w")
    index = fragments.triangle_index[0]
    part = torch.where(index >= 0, model.triangle_parts[inside][index.clamp(min=0)], -1)
    upper, lower, tongue = (part == model.part_names.index(name) for name in ("upper_teeth", "lower_teeth", "tongue"))
    return upper + LOWER_TEETH * lower, tongue, head


def _inner_lips(face: FaceFit, mesh: MeshSequence) -> Tensor:
    """The outline of the mouth's opening [T, N, 2], px of the crop."""
    return project(landmark_positions(face.model, mesh.vertices)[:, list(INNER_LIPS)])[..., :2]


def _opening(points: Tensor, outline: Tensor) -> Tensor:
    """[h, w] 0..1 at points [h, w, 2]: 1 inside the outline [N, 2] of the inner lips."""
    return ramp(polygon_distance(points, outline), *LIP_EDGE_PX)


def _share_kept(own: Tensor, driven: Tensor) -> Tensor:
    """How much of the portrait's own mouth is kept, [] 0..1: a slit would be stretched too far over an open mouth.

    Both outlines are [N, 2] px.
    """
    return smoothstep(_gap(own) / _gap(driven).clamp(min=1e-3), *STRETCHED)


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


def _shade(inside: _Interior, palette: Palette) -> Tensor:
    """Colour [3, h, w] of the mouth's inside."""
    depth, teeth = inside.head[2], inside.teeth
    lit = ((depth - depth.amax() + DEPTH) / DEPTH).clamp(0, 1)  # darker towards the throat
    column = inside.head[0] / TOOTH_WIDTH
    # the mid-line between the incisors, at x = 0, is a gap
    gap = (column - column.round()).abs() * TOOTH_WIDTH
    lines = 1 - 0.16 * torch.exp(-((gap / 0.007) ** 2))
    enamel = palette.enamel[:, None, None] * lines * (0.7 + 0.3 * smoothstep(lit * 1.4)) * teeth
    tongue = palette.tongue[:, None, None] * (0.35 + 0.5 * lit)
    cavity = palette.cavity[:, None, None].expand_as(enamel)
    color = torch.where(teeth > 0, enamel, torch.where(inside.tongue, tongue, cavity))
    # lips cast a shadow on what is behind them
    reach = max(1.5, teeth.shape[1] * 0.035)
    return (color * (0.62 + 0.38 * smoothstep(blur(inside.opening, reach), 0.35, 0.85))).clamp(0, 1)


def mouth_palette(view: SourceView) -> Palette:
    """Colours of the mouth's inside, in the light of the portrait."""
    face = view.face
    image = face.image[0]  # [3, 256, 256]
    skin = _mean(image, face.face_mask[0, 0] > 0.5)
    lips = _lip_color(face)
    eyes = view.eyes[0, 0] > 0
    luminance = image.mean(0)
    # a guess from the skin, for eyes that are closed or in the shade
    white = skin * 1.05 + 0.04
    if eyes.sum() > 12:
        # iris, lashes and shadow are darker: the brightest 15 % belong to the white of the eye
        bright = luminance >= luminance[eyes].quantile(0.85)
        white = torch.maximum(_mean(image, eyes & bright), white)
    # half of the tint: a tooth is less coloured than skin
    white = torch.lerp(white, white.mean().expand(3), 0.5)
    # a portrait in black and white gets a grey mouth
    vivid = ((skin.amax() - skin.amin()) / VIVID).clamp(0, 1)
    tints = (image.new_tensor(tint) for tint in (ENAMEL, TONGUE, CAVITY))
    enamel, tongue, cavity = (torch.lerp(tint.mean(), tint, vivid) for tint in tints)
    return Palette((white * enamel).clamp(0, 0.92), lips * tongue, lips * cavity)


def _lip_color(face: FaceFit) -> Tensor:
    """[3] mean colour between the outer and inner lip contours."""
    # a little outside the middle of the red part; the median leaves highlights out
    points = face.landmarks[list(OUTER_LIPS), :2] * 0.6 + face.landmarks[list(INNER_LIPS), :2] * 0.4
    flow = (points / CROP * 2 - 1)[None, :, None]  # [1, N, 1, 2]
    return F.grid_sample(face.image, flow, align_corners=False)[0, :, :, 0].median(1).values


def _mean(image: Tensor, where: Tensor) -> Tensor:
    """[3] mean of image [3, H, W] where [H, W] is true; mid grey when nowhere."""
    return image[:, where].mean(1) if where.any() else image.new_full((3,), 0.5)
