"""Teeth, gums, tongue and cavity of the head mesh, rasterised and shaded in the portrait's own light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import blur, gaussian, smoothstep
from ..geometry import project, vertex_normals
from ..head.topology import INNER_LIPS, OUTER_LIPS
from ..pixels import luma
from ..structures import CROP, FaceFit, SourceView
from .light import brightness, light_direction
from .rasterizer import interpolate, rasterize

SUPERSAMPLING = 2  # rasterised px per painted px, in each direction: edges of crowns are then smooth
DEPTH = 0.75  # model units from the front teeth to where it is dark
# Share of the skin's hue in that of teeth; the rest is the hue of the white of the eyes.
SKIN_HUE = 0.3
# Brightness of the white of the eyes beside the skin, where the portrait does not show it; none is below half of it.
WHITE_OF_SKIN = 0.72
# Teeth are at most so tinted, as a share of the skin's tint and beyond it, as in real clips: the brightest part of
# drawn eyes may be an amber iris.
MOST_TINT, FREE_TINT = 0.8, 0.06
# Luminance of teeth from that of the white of the eyes, both 0..1: the regression of the bright end of open mouths on
# 33 people (FIGURES.md); it spreads by a sixth about this line.
TOOTH_LUMA, TOOTH_POWER = 0.90, 0.51
BRIGHTEST = 0.92  # of any channel
# Spread of the skin's channels from which on a portrait counts as fully coloured; 0 is black and white.
VIVID = 0.12
GUM, TONGUE, CAVITY = (0.98, 0.74, 0.73), (0.95, 0.62, 0.60), (0.22, 0.10, 0.10)  # relative to the lips
# Cosine between a surface and the outside of its row: below the first it lies in the gap between two crowns.
GAP = (0.1, 0.75)
GAP_SHADE = 0.45  # brightness in a gap
LOWER_TEETH = 0.9  # brightness beside the upper ones: the lower lip's side is in the shade
# Of the light from the portrait's side that still reaches what lies behind the lips.
LIGHT_SHARE = 0.75
WET, WET_POWER = 0.16, 40.0  # brightness and sharpness of the reflection of the light on wet crowns
GROOVE, GROOVE_WIDTH = 0.25, 0.025  # depth in brightness and width in model units of the tongue's middle line
LIP_SHADOW = 0.5  # brightness at the lips
SHADOW_REACH = 0.045  # of the box's width
ARCH_CENTRE = 0.42  # model units behind the front teeth, from where the outside of a row is seen


@dataclass(frozen=True, eq=False, slots=True)
class Palette:
    """Colours [3] of the mouth's inside in full light, taken from the portrait, RGB in 0..1."""

    lips: Tensor  # as they are in the portrait
    enamel: Tensor
    gum: Tensor
    tongue: Tensor
    cavity: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Surfaces:
    """What is seen of the mouth's inside in one frame, without the lips."""

    enamel: Tensor  # [h, w] 1 on upper crowns, less on lower ones, 0 elsewhere
    gum: Tensor  # [h, w] bool
    tongue: Tensor  # [h, w] bool
    aside: Tensor  # [h, w] x on the mean head, model units
    depth: Tensor  # [h, w] z on the mean head, model units; 0 where there is only the cavity
    outward: Tensor  # [h, w] cosine between the surface and the outside of its row, on the mean head
    normal: Tensor  # [h, w, 3] camera space


class InteriorShader:
    """Rasterises and shades the inside of the mouth of one portrait; what no frame changes is computed once."""

    def __init__(self, view: SourceView) -> None:
        model = view.face.model
        self.palette, self.light = mouth_palette(view), view.light
        inside = view.regions.teeth_and_tongue
        self.triangles, self.parts = model.triangles[inside], model.triangle_parts[inside]
        self.numbers = {name: model.part_names.index(name) for name in model.part_names}
        # on the mean head, because depth and gaps between teeth must not change with the pose
        normals = vertex_normals(model.mean_shape, self.triangles)
        front = model.mean_shape[self.triangles.flatten(), 2].amax()
        centre = model.mean_shape.new_tensor((0.0, 0.0, float(front) - ARCH_CENTRE))
        beside = (model.mean_shape - centre) * model.mean_shape.new_tensor((1.0, 0.0, 1.0))
        outward = (F.normalize(beside, dim=-1) * normals).sum(-1)
        self.fixed = torch.stack((model.mean_shape[:, 0], model.mean_shape[:, 2], outward), -1)  # [V, 3]
        self.front = float(front)

    def surfaces(self, vertices: Tensor, box: Tensor, scale: float, height: int, width: int) -> Surfaces:
        """What a driven mesh [V, 3] shows in a box [4] of the crop, at `scale` px per px of the crop.

        The lips are left out because the alpha of the painting ends at their outline.
        """
        screen = project(vertices[None]) - F.pad(box[:2], (0, 1))
        fragments = rasterize(screen * screen.new_tensor((scale, scale, 1.0)), self.triangles, height, width)
        attributes = torch.cat((self.fixed, vertex_normals(vertices, self.triangles)), 1)  # [V, 6]
        values = interpolate(attributes, self.triangles, fragments)[0]  # [h, w, 6]
        index = fragments.triangle_index[0]
        part = torch.where(index >= 0, self.parts[index.clamp(min=0)], -1)
        upper, lower = (part == self.numbers[name] for name in ("upper_teeth", "lower_teeth"))
        gum = (part == self.numbers["upper_gums"]) | (part == self.numbers["lower_gums"])
        return Surfaces(
            enamel=upper + LOWER_TEETH * lower,
            gum=gum,
            tongue=part == self.numbers["tongue"],
            aside=values[..., 0],
            depth=values[..., 1],
            outward=values[..., 2],
            normal=F.normalize(values[..., 3:], dim=-1),
        )

    def paint(self, vertices: Tensor, box: Tensor, detail: int, opening: Tensor) -> Tensor:
        """Colour [3, h, w] of a driven mesh [V, 3] in a box [4], at `detail` px per px of the crop.

        Args:
            vertices: camera space.
            box: px of the crop.
            detail: px of the painting per px of the crop.
            opening: [h, w] 0..1, 1 between the inner lips, which shade what is behind them.
        """
        color = self.palette.cavity[:, None, None].repeat(1, *opening.shape)
        shown = (opening > 0).nonzero()
        if not len(shown):
            return color
        # only where the lips are apart: most of the box lies behind them
        (top, left), (bottom, right) = shown.amin(0).tolist(), (shown.amax(0) + 1).tolist()
        fine = SUPERSAMPLING
        corner = box + box.new_tensor((left, top, left, top)) / detail
        seen = self.surfaces(vertices, corner, detail * fine, (bottom - top) * fine, (right - left) * fine)
        part = F.avg_pool2d(self.shade(seen)[None], fine)[0]
        color[:, top:bottom, left:right] = part * lip_shadow(opening)[top:bottom, left:right]
        return color.clamp(0, 1)

    def shade(self, seen: Surfaces) -> Tensor:
        """Colour [3, h, w] of surfaces, before the shadow of the lips."""
        lit = ((seen.depth - self.front + DEPTH) / DEPTH).clamp(0, 1)  # darker towards the throat
        matte = 1 + LIGHT_SHARE * (brightness(self.light, seen.normal) - 1)
        gap = GAP_SHADE + (1 - GAP_SHADE) * smoothstep(seen.outward, *GAP)
        wet = WET * self._reflection(seen.normal)
        groove = 1 - GROOVE * gaussian(seen.aside, GROOVE_WIDTH)
        enamel = self.palette.enamel[:, None, None] * (matte * gap * (0.1 + 0.9 * smoothstep(lit)) * seen.enamel)
        gum = self.palette.gum[:, None, None] * (matte * (0.2 + 0.7 * lit))
        tongue = self.palette.tongue[:, None, None] * (matte * groove * (0.2 + 0.8 * lit * lit) + wet * lit)
        cavity = self.palette.cavity[:, None, None].expand_as(enamel)
        color = torch.where(seen.tongue, tongue, cavity)
        color = torch.where(seen.gum, gum, color)
        return torch.where(seen.enamel > 0, enamel + wet * seen.enamel * self.palette.enamel.amax(), color)

    def _reflection(self, normals: Tensor) -> Tensor:
        """Share [...] of the light that unit normals [..., 3] reflect to the viewer (Blinn 1977)."""
        half = light_direction(self.light) + normals.new_tensor((0.0, 0.0, 1.0))
        cosine: Tensor = normals @ (half / half.norm())
        return cosine.clamp(min=0) ** WET_POWER


def lip_shadow(opening: Tensor) -> Tensor:
    """Brightness [h, w] of what lies behind lips whose opening [h, w] is 0..1: the upper one shades most."""
    reach = max(1.5, opening.shape[1] * SHADOW_REACH)
    soft = blur(opening, reach)
    # light comes from above: what lies below the upper lip sees less of it
    down = round(reach)
    soft = torch.minimum(soft, F.pad(soft[:-down], (0, 0, down, 0)))
    return LIP_SHADOW + (1 - LIP_SHADOW) * smoothstep(soft, 0.2, 0.8)


def mouth_palette(view: SourceView) -> Palette:
    """Colours of the mouth's inside in the portrait's light."""
    face = view.face
    image = face.image[0]  # [3, 256, 256]
    skin = _mean(image, face.face_mask[0, 0] > 0.5)
    lips = _lip_color(face)
    # a portrait in black and white gets a grey mouth
    vivid = ((skin.amax() - skin.amin()) / VIVID).clamp(0, 1)
    gum, tongue, cavity = (
        torch.lerp(tint.mean(), tint, vivid) for tint in (image.new_tensor(each) for each in (GUM, TONGUE, CAVITY))
    )
    return Palette(lips, _enamel(view, skin), lips * gum, lips * tongue, lips * cavity)


def _enamel(view: SourceView, skin: Tensor) -> Tensor:
    """[3] colour of teeth: the hue of the white of the eyes, at the luminance that teeth have beside it."""
    image, eyes = view.face.image[0], view.eyes[0, 0] > 0
    luminance = luma(image)
    # a guess from the skin [3], half as tinted, for eyes that are closed or in the shade
    white = torch.lerp(skin, skin.mean().expand(3), 0.5) * WHITE_OF_SKIN
    if eyes.sum() > 12:
        # iris, lashes and shadow are darker: the brightest 15 % belong to the white of the eye
        bright = luminance >= luminance[eyes].quantile(0.85)
        white = torch.maximum(_mean(image, eyes & bright), 0.5 * white)
    own, skin_luma = (luma(color[:, None, None]).clamp(min=0.02)[0, 0] for color in (white, skin))
    skin_tint = skin / skin_luma - 1
    most = MOST_TINT * skin_tint.abs() + FREE_TINT
    tint = torch.lerp(white / own - 1, skin_tint, SKIN_HUE).clamp(-most, most)
    return ((1 + tint) * TOOTH_LUMA * own**TOOTH_POWER).clamp(0, BRIGHTEST)


def _lip_color(face: FaceFit) -> Tensor:
    """[3] mean colour between the outer and inner lip contours."""
    # a little outside the middle of the red part; the median leaves highlights out
    points = face.landmarks[list(OUTER_LIPS), :2] * 0.6 + face.landmarks[list(INNER_LIPS), :2] * 0.4
    flow = (points / CROP * 2 - 1)[None, :, None]  # [1, N, 1, 2]
    return F.grid_sample(face.image, flow, align_corners=False)[0, :, :, 0].median(1).values


def _mean(image: Tensor, where: Tensor) -> Tensor:
    """[3] mean of image [3, H, W] where [H, W] is true; mid grey when nowhere."""
    return image[:, where].mean(1) if where.any() else image.new_full((3,), 0.5)
