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

from ..face.morphable import landmark_positions
from ..face.topology import INNER_LIPS, OUTER_LIPS
from ..geometry import CROP, pixel_centres, project
from ..structures import FaceFit, MeshSequence, Paint
from .paint import sample_box
from .rasterizer import Progress, interpolate, rasterize
from .regions import polygon_distance
from .source_view import SourceView, blur, smoothstep, vertex_normals

BOX_SIZE = (1.5, 1.25)  # width and height in mouth widths: holds a mouth as wide open as it goes
LIP_EDGE_PX = (-0.5, 0.5)  # px of the crop inside the lips' contour: the inside begins to show, and is all there is
KEPT_TOLERANCE = 0.01  # of alpha: the portrait's own mouth, read back through a float grid, paints nothing
LOWER_TEETH = 0.8  # brightness beside the upper ones: the lower lip's side is in the shade
INNER_LIP = 0.72  # brightness beside the lips' outside
TOOTH_WIDTH = 0.083  # model units, mean of the front teeth
ENAMEL = (1.0, 0.95, 0.86)  # relative to the white of the eye
VIVID = 0.12  # spread of the skin's channels above which a portrait counts as fully coloured; 0 is black and white
TONGUE, GUM = (0.95, 0.62, 0.60), (0.85, 0.52, 0.50)  # relative to the lips


@dataclass(frozen=True, eq=False, slots=True)
class Palette:
    """Colours [3] of the mouth's inside, taken from the portrait, RGB in 0..1."""

    enamel: Tensor
    lips: Tensor
    tongue: Tensor
    cavity: Tensor


def render_mouth(
    face: FaceFit, mesh: MeshSequence, view: SourceView, detail: int, progress: Progress | None = None
) -> Paint:
    """Paint the mouth's inside where the portrait does not show it.

    Args:
        face: the fitted portrait.
        mesh: T driven meshes.
        view: `view_source(face)`.
        detail: px of the painting per px of the crop.
        progress: called as (done, total, None) after each frame; it may raise to cancel.

    Returns:
        Colour and alpha of a box that follows the mouth, [T, ·, h, w].
    """
    palette = mouth_palette(face, view)
    shown = _interior(face, view.mesh, view, detail)
    colors, alphas, boxes = [], [], []
    for vertices in mesh.vertices:
        frame = MeshSequence(vertices[None], mesh.triangles, mesh.fps)
        inside = _interior(face, frame, view, detail)
        kept = sample_box(shown.alpha, shown.box, inside.source)
        colors.append(_shade(inside, palette))
        alphas.append((inside.alpha - kept - KEPT_TOLERANCE).clamp(min=0) / (1 - KEPT_TOLERANCE))
        boxes.append(inside.box)
        if progress:
            progress(len(boxes), len(mesh.vertices), None)
    return Paint(torch.cat(colors), torch.cat(alphas), torch.stack(boxes))


@dataclass(frozen=True, eq=False, slots=True)
class _Interior:
    """The mouth's inside in one frame, at the painting's resolution."""

    alpha: Tensor  # [1, 1, h, w] 1 where the inside of the mouth is seen
    lip: Tensor  # [1, 1, h, w] 1 on the inner side of the lips
    teeth: Tensor  # [1, 1, h, w] 1 on upper teeth, less on lower ones, 0 elsewhere
    tongue: Tensor  # [1, 1, h, w] 1 on the tongue
    head: Tensor  # [1, 3, h, w] position in the head frame, model units
    facing: Tensor  # [1, 1, h, w] 0..1, how squarely the surface faces the viewer
    source: Tensor  # [h, w, 2] px of the crop where the portrait has the same point
    box: Tensor  # [4] px of the crop


def _interior(face: FaceFit, mesh: MeshSequence, view: SourceView, detail: int) -> _Interior:
    """Rasterise the mouth of one mesh (T = 1)."""
    box, width, height = _box(face, mesh, view, detail)
    triangles = mesh.triangles[view.regions.mouth]
    screen = project(mesh.vertices)
    scale = torch.tensor((detail, detail, 1.0), device=screen.device)
    screen = (screen - F.pad(box[:2], (0, 1))) * scale
    fragments = rasterize(screen, triangles, height, width)
    normals = vertex_normals(mesh.vertices[0], mesh.triangles)[:, 2:].clamp(0, 1)
    attributes = torch.cat((view.pixels[:, :2], face.model.mean_shape, normals, view.confidence[:, None]), 1)  # [V, 7]
    maps = interpolate(attributes, triangles, fragments)  # [1, h, w, 7]
    index = fragments.triangle_index
    part = face.model.triangle_parts[view.regions.mouth][index.clamp(min=0)]
    named = {name: number for number, name in enumerate(face.model.part_names)}
    inside = view.regions.interior[view.regions.mouth][index.clamp(min=0)] & (index >= 0)
    # the inner side of the lips, which a closed mouth never showed, is painted too
    unseen = (1 - maps[..., 6] * 4).clamp(0, 1)[:, None] * (index >= 0)[:, None]
    teeth = inside * ((part == named["upper_teeth"]) + LOWER_TEETH * (part == named["lower_teeth"]))
    maps = maps.movedim(-1, 1)
    opening = _opening(face, mesh, box, detail, (height, width))
    return _Interior(
        alpha=torch.maximum(inside[:, None].float(), unseen) * opening,
        lip=1 - inside[:, None].float(),
        teeth=teeth[:, None],
        tongue=(inside & (part == named["tongue"]))[:, None].float(),
        head=maps[:, 2:5],
        facing=maps[:, 5:6],
        source=maps[0, :2].movedim(0, -1),
        box=box,
    )


def _opening(face: FaceFit, mesh: MeshSequence, box: Tensor, detail: int, size: tuple[int, int]) -> Tensor:
    """[1, 1, h, w] 0..1, 1 between the inner lips: where lips touch or stretch, the mesh's inside must not show."""
    lips = project(landmark_positions(face.model, mesh.vertices[0])[list(INNER_LIPS)])[:, :2]
    points = pixel_centres(*size, box.device) / detail + box[:2]
    signed = polygon_distance(points, lips)
    return ((signed - LIP_EDGE_PX[0]) / (LIP_EDGE_PX[1] - LIP_EDGE_PX[0])).clamp(0, 1)[None, None]


def _box(face: FaceFit, mesh: MeshSequence, view: SourceView, detail: int) -> tuple[Tensor, int, int]:
    """The box [4] px of the crop around the driven mouth; its size depends on the portrait alone."""
    own = project(landmark_positions(face.model, view.mesh.vertices[0])[list(OUTER_LIPS)])[:, :2]
    mouth_width = float((own.amax(0) - own.amin(0))[0])
    width, height = (max(8, round(share * mouth_width)) for share in BOX_SIZE)
    lips = project(landmark_positions(face.model, mesh.vertices[0])[list(INNER_LIPS)])[:, :2]
    middle = (lips.amax(0) + lips.amin(0)) / 2
    half = torch.tensor((width / 2, height / 2), device=middle.device)
    return torch.cat((middle - half, middle + half)), width * detail, height * detail


def _shade(inside: _Interior, palette: Palette) -> Tensor:
    """Colour [1, 3, h, w] of the mouth's inside."""
    depth = inside.head[:, 2:]
    front = depth.amax() if inside.alpha.any() else depth.new_tensor(0.0)
    shadow = ((depth - (front - 0.75)) / 0.75).clamp(0, 1)  # the cavity darkens towards the throat
    column = inside.head[:, :1] / TOOTH_WIDTH
    gap = (column - column.round()).abs() * TOOTH_WIDTH  # the mid-line between the incisors is a gap, at x = 0
    enamel = palette.enamel.view(1, 3, 1, 1) * (1 - 0.16 * torch.exp(-((gap / 0.007) ** 2)))
    enamel = enamel * (0.7 + 0.3 * smoothstep(shadow * 1.4))  # the teeth are bands: their arch is their only shape
    tongue = palette.tongue.view(1, 3, 1, 1) * (0.35 + 0.65 * shadow) * (0.6 + 0.4 * inside.facing)
    cavity = palette.cavity.view(1, 3, 1, 1) * (0.25 + 0.75 * shadow)
    lip = palette.lips.view(1, 3, 1, 1) * INNER_LIP
    color = torch.where(inside.teeth > 0, enamel * inside.teeth, torch.where(inside.tongue > 0, tongue, cavity))
    color = torch.lerp(color, lip.expand_as(color), inside.lip)
    # lips shade what is behind them
    reach = max(1.5, inside.alpha.shape[-1] * 0.035)
    return (color * (0.62 + 0.38 * smoothstep((blur(inside.alpha, reach) - 0.35) / 0.5))).clamp(0, 1)


def mouth_palette(face: FaceFit, view: SourceView) -> Palette:
    """Colours of the mouth's inside, in the light of the portrait."""
    image = face.image[0]  # [3, 256, 256]
    skin = _mean(image, face.face_mask[0, 0] > 0.5)
    lips = _lip_color(face)
    eyes = view.eyes[0, 0] > 0
    luminance = image.mean(0)
    white = skin * 1.05 + 0.04
    if eyes.sum() > 12:
        bright = luminance >= luminance[eyes].quantile(0.85)
        white = torch.maximum(_mean(image, eyes & bright), white)
    white = torch.lerp(white, white.mean().expand(3), 0.5)  # a tooth takes half of the light's tint
    vivid = ((skin.amax() - skin.amin()) / VIVID).clamp(0, 1)
    enamel, tongue, gum = (
        torch.lerp(tint.mean(), tint, vivid) for tint in map(image.new_tensor, (ENAMEL, TONGUE, GUM))
    )
    return Palette((white * enamel).clamp(0, 0.92), lips, lips * tongue, lips * gum * 0.42)


def _lip_color(face: FaceFit) -> Tensor:
    """[3] mean colour between the outer and inner lip contours."""
    points = face.landmarks[list(OUTER_LIPS), :2] * 0.6 + face.landmarks[list(INNER_LIPS), :2] * 0.4
    flow = (points / CROP * 2 - 1)[None, :, None]  # [1, N, 1, 2]
    return F.grid_sample(face.image, flow, align_corners=False)[0, :, :, 0].median(1).values


def _mean(image: Tensor, where: Tensor) -> Tensor:
    """[3] mean of image [3, H, W] where [H, W] is true; mid grey when nowhere."""
    return image[:, where].mean(1) if where.any() else image.new_full((3,), 0.5)
