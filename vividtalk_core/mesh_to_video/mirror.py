"""The half of a turned face that the portrait hides is filled from the half that it shows: faces are symmetric."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..filters import blur, gaussian, ramp, smoothstep
from ..geometry import CAMERA_DISTANCE, pixel_centres, vertex_normals, warp
from ..structures import CROP, FaceFit, Fragments, MirrorFill, MirrorView, NccRender, Regions, SourceView

# Colours are compared without the detail of skin, which is not symmetric.
COLOR_PX = 3.0  # px of the crop, standard deviation of a blur
# Cosines between skin and viewer: below the first the portrait shows too little of it to be stretched over a face that
# turns to the viewer, above the second enough.
SHOWN = (0.15, 0.5)
TURNED = (0.04, 0.25)  # by which the cosine grows when the other half begins to be shown, and when it is shown fully
SEEN = 0.6  # share shown from which both sides of the face are compared
GAIN_REACH = 0.35  # model units, standard deviation over which the difference of light is carried to the hidden side
GAIN_WEIGHT = 0.01  # of no difference, where no compared vertex is near
MOST_GAIN = 0.7  # bound of the logarithm
LEAST_TRUST = 0.3  # below it in all vertices there is nothing to fill
# Share of the other half below which nothing of it is shown, and above which it is shown alone.
ALPHA = (0.1, 0.9)
ALPHA_PX = 1.5  # px of the crop, standard deviation by which the edge of the fill is softened
DARK = 0.04  # of colour 0..1, added before logarithms


def view_mirror(face: FaceFit, pixels: Tensor, facing: Tensor, visible: Tensor, regions: Regions) -> MirrorView:
    """What the other half of the face shows of each vertex.

    Args:
        face: the fitted portrait.
        pixels: [V, 2] px of the crop.
        facing: [V] of `facing_cosine`.
        visible: [V] bool, whether nothing lies before a vertex.
        regions: of the head model.
    """
    skin = torch.zeros_like(visible)
    skin[face.model.triangles[regions.drawn & ~regions.interior & ~regions.eyes].flatten()] = True
    other = mirrored_vertices(face.model.mean_shape, skin & (regions.inner_face > 0))
    shown = ramp(facing, *SHOWN) * visible
    trust = regions.inner_face * shown[other] * (1 - shown)
    colors = _sample(blur(face.image, COLOR_PX), pixels)  # [V, 3]
    ratio = ((colors + DARK) / (colors[other] + DARK)).log()
    both = torch.minimum(shown, shown[other]) * regions.inner_face > SEEN
    log_gain = torch.zeros_like(ratio)
    hidden = trust > 0
    if both.any() and hidden.any():
        shape = face.model.mean_shape
        weight = gaussian(torch.cdist(shape[hidden], shape[both]), GAIN_REACH)  # [N, M]
        # a mean over the nearest, for beside the edge of what is seen the two halves must meet; near the middle of the
        # face, where both are one, nothing is learned of the light, and beyond it the opposite
        weight = weight * (shape[both, 0] * shape[hidden, :1].sign()).clamp(min=0)
        log_gain[hidden] = (weight @ ratio[both]) / (weight.sum(1, keepdim=True) + GAIN_WEIGHT)
    return MirrorView(pixels[other], trust, facing, log_gain.clamp(-MOST_GAIN, MOST_GAIN))


def mirrored_vertices(shape: Tensor, where: Tensor) -> Tensor:
    """[V] int64, the vertex nearest to the mirror image of each of the vertices [V, 3]; itself outside `where` [V]."""
    other = torch.arange(len(shape), device=shape.device)
    right, left = ((where & side).nonzero()[:, 0] for side in (shape[:, 0] >= 0, shape[:, 0] <= 0))
    for here, there in ((right, left), (left, right)):
        points, reflected = shape[there], shape[here] * shape.new_tensor((-1.0, 1.0, 1.0))
        # |a − b|² without |a|², which does not change which b is nearest: a product of matrices is the fastest way
        other[here] = there[torch.addmm(points.square().sum(1), reflected, points.T, alpha=-2).argmin(1)]
    return other


def mirror_fill(render: NccRender) -> MirrorFill | None:
    """The fill of T frames of `render_ncc`; None where the portrait hides nothing that its other half shows."""
    view = render.view
    mirror = view.mirror
    if mirror.trust.amax() < LEAST_TRUST:
        return None
    parts = [
        _fill_frame(view, vertices, frame) for vertices, frame in zip(render.mesh.vertices, _each(render), strict=True)
    ]
    flow, alpha, gain = (torch.stack(values) for values in zip(*parts, strict=True))
    return MirrorFill(flow, alpha, gain)


def other_half(portrait: Tensor, fill: MirrorFill) -> Tensor:
    """[T, 3, 256, 256] the crop [1, 3, 256, 256] where the other half shows each pixel, in the light of its side."""
    return warp(portrait, fill.flow) * fill.gain


def _each(render: NccRender) -> list[Fragments]:
    """The fragments of each frame, T = 1."""
    return [render.fragments.frames(slice(frame, frame + 1)) for frame in range(render.frame_count)]


def _fill_frame(view: SourceView, vertices: Tensor, fragments: Fragments) -> tuple[Tensor, Tensor, Tensor]:
    """Flow [256, 256, 2], alpha [1, 256, 256] and gain [3, 256, 256] of a driven mesh [V, 3]."""
    mirror, triangles = view.mirror, view.mesh.triangles
    trust = mirror.trust * ramp(facing_cosine(vertices, triangles) - mirror.facing, *TURNED)  # [V]
    fit = (trust[triangles] > 0).any(-1) & ~view.regions.interior & ~view.regions.eyes  # [F]
    triangle = fragments.triangle_index[0]
    where = (triangle >= 0) & fit[triangle.clamp(min=0)]
    flow, alpha, gain = (vertices.new_zeros(CROP, CROP, channels) for channels in (2, 1, 3))
    if where.any():
        # a cheek is a small part of the crop: only its pixels are interpolated
        values = torch.cat((mirror.pixels, trust[:, None], mirror.log_gain), 1)  # [V, 6]
        maps = (values[triangles[triangle[where]]] * fragments.barycentric[0][where][..., None]).sum(1)  # [N, 6]
        flow[where] = (maps[:, :2] - pixel_centres(CROP, CROP, maps.device)[where]) * (2 / CROP)
        alpha[where], gain[where] = maps[:, 2:3], maps[:, 3:]
        # without the outermost pixels, which change between surfaces, and softened
        eroded = -F.max_pool2d(-rearrange(alpha, "h w 1 -> 1 1 h w"), 3, 1, 1)
        alpha = rearrange(smoothstep(blur(eroded, ALPHA_PX), *ALPHA), "1 1 h w -> h w 1")
    return flow, rearrange(alpha, "h w 1 -> 1 h w"), rearrange(gain.exp(), "h w c -> c h w")


def facing_cosine(vertices: Tensor, triangles: Tensor) -> Tensor:
    """[V] cosine between the normals of vertices [V, 3] in camera space and the direction to the viewer."""
    normals = vertex_normals(vertices, triangles)
    towards = F.normalize(vertices.new_tensor((0.0, 0.0, CAMERA_DISTANCE)) - vertices, dim=-1)
    return (normals * towards).sum(-1)


def _sample(image: Tensor, pixels: Tensor) -> Tensor:
    """[V, 3] colours of an image [1, 3, 256, 256] at pixels [V, 2] px of the crop, bilinear."""
    grid = (pixels * (2 / CROP) - 1)[None, None]
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0, :, 0].T
