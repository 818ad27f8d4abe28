"""Teeth, tongue and cavity of the head mesh, rendered and lit like the portrait.

What the portrait itself shows of its mouth is kept and carried by the dense motion; only what it never showed is
painted. The palette comes from the portrait: the whites of the eyes say how white a tooth may be, the lips say how
red the inside is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import blur, ramp, smoothstep
from ..geometry import CROP, pixel_centres, polygon_distance, project
from ..head.morphable import landmark_positions
from ..head.topology import INNER_LIP_PAIRS, INNER_LIPS, OUTER_LIPS
from ..progress import Progress
from ..structures import DenseMotion, FaceFit, MeshSequence, Paint, SourceView
from .rasterizer import interpolate, rasterize

BOX_SIZE = (1.5, 1.25)  # width and height in mouth widths: holds a mouth as wide open as it goes
LIP_EDGE_PX = (-0.5, 0.5)  # px of the crop inside the lips' contour: the inside begins to show, and is all there is
KEPT_TOLERANCE = 0.01  # of alpha: the portrait's own mouth, read back through a float grid, paints nothing
STRETCHED = (0.15, 0.5)  # own gap over driven gap: below the first nothing of the portrait's mouth is kept, above the
# second all of it
SHUT = (0.4, 0.15)  # driven gap over own gap: below the first lips that showed teeth begin to hide the last of them,
# below the second nothing is seen of them
OWN_GAP_PX = (1.0, 2.0)  # own gap: below the first the portrait's lips are closed, above the second open
SEAM_PX = (-0.9, -0.1)  # px of the crop outside the lips' contour: where the line between closed lips ends, and is full
SEAM = 2.6  # brightness of that line beside the cavity's
LOWER_TEETH = 0.8  # brightness beside the upper ones: the lower lip's side is in the shade
DEPTH = 0.75  # model units from the front teeth to where no light comes
TOOTH_WIDTH = 0.083  # model units, mean of the front teeth
ENAMEL = (1.0, 0.95, 0.86)  # relative to the white of the eye
VIVID = 0.12  # spread of the skin's channels above which a portrait counts as fully coloured; 0 is black and white
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
        Colour and alpha of a box that follows the mouth, [T, ·, h, w].
    """
    face, palette = view.face, mouth_palette(view)
    own_lips, lips = (_inner_lips(face, each) for each in (view.mesh, mesh))  # [1, N, 2], [T, N, 2]
    half = _half_box(view)
    size = [2 * int(side) * detail for side in half.flip(0)]
    colors, alphas, boxes = [], [], []
    for vertices, outline, flow in zip(mesh.vertices, lips, motion.flow, strict=True):
        middle = (outline.amax(0) + outline.amin(0)) / 2
        box = torch.cat((middle - half, middle + half))
        points = pixel_centres(*size, box.device) / detail + box[:2]  # [h, w, 2] px of the crop
        opening = _opening(points, outline)
        colors.append(_shade(_Interior(*_rasterize_inside(view, vertices, box, detail, size), opening), palette))
        kept = _opening(points + _sample(flow * (CROP / 2), points), own_lips[0]) * _share_kept(own_lips[0], outline)
        alphas.append((opening - kept - KEPT_TOLERANCE).clamp(min=0) / (1 - KEPT_TOLERANCE))
        boxes.append(box)
        if progress:
            progress(len(boxes), len(lips), None)
    return Paint(torch.stack(colors), torch.stack(alphas)[:, None], torch.stack(boxes))


def render_lip_seam(view: SourceView, mesh: MeshSequence, detail: int) -> Paint:
    """Paint the dark line between lips that close over the teeth they showed.

    Args:
        view: the portrait, from `view_source`.
        mesh: T driven meshes.
        detail: px of the painting per px of the crop.

    Returns:
        Colour and alpha of a box that follows the mouth, [T, ·, h, w]; alpha is 0 while the lips are apart.
    """
    own_lips, lips = (_inner_lips(view.face, each) for each in (view.mesh, mesh))  # [1, N, 2], [T, N, 2]
    half = _half_box(view)
    size = [2 * int(side) * detail for side in half.flip(0)]
    middle = (lips.amax(1) + lips.amin(1)) / 2  # [T, 2]
    boxes = torch.cat((middle - half, middle + half), 1)
    alphas = []
    for outline, box in zip(lips, boxes, strict=True):
        points = pixel_centres(*size, box.device) / detail + box[:2]  # [h, w, 2] px of the crop
        alphas.append(ramp(polygon_distance(points, outline), *SEAM_PX) * _share_shut(own_lips[0], outline))
    color = (mouth_palette(view).cavity * SEAM).view(1, 3, 1, 1).expand(len(lips), -1, *size)
    return Paint(color, torch.stack(alphas)[:, None], boxes)


@dataclass(frozen=True, eq=False, slots=True)
class _Interior:
    """The mouth's inside in one frame, at the painting's resolution."""

    teeth: Tensor  # [h, w] 1 on upper teeth, less on lower ones, 0 elsewhere
    tongue: Tensor  # [h, w] bool
    head: Tensor  # [3, h, w] position on the mean head, model units; 0 where there is only the cavity
    opening: Tensor  # [h, w] 0..1, 1 between the inner lips


def _rasterize_inside(
    view: SourceView, vertices: Tensor, box: Tensor, detail: int, size: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Teeth [h, w], tongue [h, w] and position [3, h, w], as if there were no lips: their outline cuts it out later."""
    model, inside = view.face.model, view.regions.teeth_and_tongue
    screen = project(vertices[None]) - F.pad(box[:2], (0, 1))
    fragments = rasterize(screen * screen.new_tensor((detail, detail, 1.0)), model.triangles[inside], *size)
    head = interpolate(model.mean_shape, model.triangles[inside], fragments)[0].movedim(-1, 0)
    index = fragments.triangle_index[0]
    part = torch.where(index >= 0, model.triangle_parts[inside][index.clamp(min=0)], -1)
    upper, lower, tongue = (part == model.part_names.index(name) for name in ("upper_teeth", "lower_teeth", "tongue"))
    return upper + LOWER_TEETH * lower, tongue, head


def _inner_lips(face: FaceFit, mesh: MeshSequence) -> Tensor:
    """The outline of the mouth's opening [T, N, 2], px of the crop."""
    return project(landmark_positions(face.model, mesh.vertices)[:, list(INNER_LIPS)])[..., :2]


def _opening(points: Tensor, outline: Tensor) -> Tensor:
    """0..1 at points [h, w, 2], 1 inside the outline [N, 2]; the lips' landmarks are surer than the mesh's edges."""
    return ramp(polygon_distance(points, outline), *LIP_EDGE_PX)


def _share_kept(own: Tensor, driven: Tensor) -> Tensor:
    """How much of the portrait's own mouth is kept, 0..1: a slit that would be stretched over an open mouth is not.

    Both outlines are [N, 2] px.
    """
    return smoothstep(_gap(own) / _gap(driven).clamp(min=1e-3), *STRETCHED)


def _share_shut(own: Tensor, driven: Tensor) -> Tensor:
    """How far lips that showed teeth are closed, 0..1: their teeth would be squeezed into a bright line.

    Both outlines are [N, 2] px. 0 where the portrait's own lips are closed: they have a line of their own.
    """
    apart = smoothstep(_gap(own), *OWN_GAP_PX)
    return smoothstep(_gap(driven) / _gap(own).clamp(min=1e-3), *SHUT) * apart


def _gap(outline: Tensor) -> Tensor:
    """Mean distance of upper and lower inner lip in px, of an outline [N, 2]."""
    upper, lower = (
        [INNER_LIPS.index(number) for number in side] for side in zip(*INNER_LIP_PAIRS, strict=True)
    )  # fmt: skip
    return (outline[upper] - outline[lower]).norm(dim=-1).mean()


def _sample(flow: Tensor, points: Tensor) -> Tensor:
    """A field [256, 256, 2] read at points [h, w, 2] px of the crop."""
    grid = (points * (2 / CROP) - 1)[None]
    return F.grid_sample(flow.movedim(-1, 0)[None], grid, align_corners=False, padding_mode="border")[0].movedim(0, -1)


def _half_box(view: SourceView) -> Tensor:
    """Half of the box's width and height [2], whole px of the crop; it depends on the portrait alone."""
    own = project(landmark_positions(view.face.model, view.mesh.vertices[0])[list(OUTER_LIPS)])[:, :2]  # [N, 2]
    mouth_width = (own.amax(0) - own.amin(0))[0]
    return (own.new_tensor(BOX_SIZE) / 2 * mouth_width).round().clamp(min=4)


def _shade(inside: _Interior, palette: Palette) -> Tensor:
    """Colour [3, h, w] of the mouth's inside."""
    depth, teeth = inside.head[2], inside.teeth
    lit = ((depth - depth.amax() + DEPTH) / DEPTH).clamp(0, 1)  # it darkens towards the throat
    column = inside.head[0] / TOOTH_WIDTH
    gap = (column - column.round()).abs() * TOOTH_WIDTH  # the mid-line between the incisors is a gap, at x = 0
    lines = 1 - 0.16 * torch.exp(-((gap / 0.007) ** 2))
    enamel = palette.enamel[:, None, None] * lines * (0.7 + 0.3 * smoothstep(lit * 1.4)) * teeth
    tongue = palette.tongue[:, None, None] * (0.35 + 0.5 * lit)
    cavity = palette.cavity[:, None, None].expand_as(enamel)
    color = torch.where(teeth > 0, enamel, torch.where(inside.tongue, tongue, cavity))
    # lips shade what is behind them
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
    white = skin * 1.05 + 0.04
    if eyes.sum() > 12:
        # iris, lashes and shade are darker: the brightest 15 % are the white of the eye
        bright = luminance >= luminance[eyes].quantile(0.85)
        white = torch.maximum(_mean(image, eyes & bright), white)
    white = torch.lerp(white, white.mean().expand(3), 0.5)  # a tooth takes half of the light's tint
    vivid = ((skin.amax() - skin.amin()) / VIVID).clamp(0, 1)
    tints = (image.new_tensor(tint) for tint in (ENAMEL, TONGUE, CAVITY))
    enamel, tongue, cavity = (torch.lerp(tint.mean(), tint, vivid) for tint in tints)
    return Palette((white * enamel).clamp(0, 0.92), lips * tongue, lips * cavity)


def _lip_color(face: FaceFit) -> Tensor:
    """[3] mean colour between the outer and inner lip contours."""
    # between the contours, where the lip is red; the median leaves highlights out
    points = face.landmarks[list(OUTER_LIPS), :2] * 0.6 + face.landmarks[list(INNER_LIPS), :2] * 0.4
    flow = (points / CROP * 2 - 1)[None, :, None]  # [1, N, 1, 2]
    return F.grid_sample(face.image, flow, align_corners=False)[0, :, :, 0].median(1).values


def _mean(image: Tensor, where: Tensor) -> Tensor:
    """[3] mean of image [3, H, W] where [H, W] is true; mid grey when nowhere."""
    return image[:, where].mean(1) if where.any() else image.new_full((3,), 0.5)
