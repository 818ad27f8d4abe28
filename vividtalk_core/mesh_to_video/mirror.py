"""The half of a turned face that the portrait hides is filled from the half that it shows: faces are symmetric."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..filters import blur, gaussian, ramp, smoothstep
from ..geometry import CAMERA_DISTANCE, pixel_centres, vertex_normals
from ..structures import CROP, FaceFit, MirrorFill, MirrorView, NccRender, Regions
from .rasterizer import interpolate

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
LEAST_TRUST = 0.05  # below it in all vertices there is nothing to fill
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
    other = mirrored_vertices(face.model.mean_shape, regions.inner_face > 0)
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
        # face, where both are one, nothing is learned of the light
        weight = weight * shape[both, 0].abs()
        log_gain[hidden] = (weight @ ratio[both]) / (weight.sum(1, keepdim=True) + GAIN_WEIGHT)
    return MirrorView(pixels[other], trust, facing, log_gain.clamp(-MOST_GAIN, MOST_GAIN))


def mirrored_vertices(shape: Tensor, where: Tensor) -> Tensor:
    """[V] int64, the vertex nearest to the mirror image of each of the vertices [V, 3]; itself outside `where` [V]."""
    chosen = where.nonzero()[:, 0]
    points = shape[chosen]
    nearest = torch.cdist(points * shape.new_tensor((-1.0, 1.0, 1.0)), points).argmin(1)
    other = torch.arange(len(shape), device=shape.device)
    other[chosen] = chosen[nearest]
    return other


def mirror_fill(render: NccRender) -> MirrorFill | None:
    """The fill of T frames of `render_ncc`; None where the portrait hides nothing that its other half shows."""
    view = render.view
    mirror = view.mirror
    if mirror.trust.amax() < LEAST_TRUST:
        return None
    triangles = render.mesh.triangles
    turned = torch.stack([facing_cosine(vertices, triangles) for vertices in render.mesh.vertices]) - mirror.facing
    trust = mirror.trust * ramp(turned, *TURNED)  # [T, V]
    still = torch.cat((mirror.pixels, mirror.log_gain), 1).expand(len(trust), -1, -1)
    maps = interpolate(torch.cat((trust[..., None], still), -1), triangles, render.fragments)  # [T, H, W, 6]
    triangle = render.fragments.triangle_index
    inner = triangle.clamp(min=0)
    skin = (triangle >= 0) & ~view.regions.interior[inner] & ~view.regions.eyes[inner]
    alpha = (maps[..., 0] * skin)[:, None]  # [T, 1, H, W]
    # without the outermost pixels, which change between surfaces, and softened
    alpha = smoothstep(blur(-F.max_pool2d(-alpha, 3, 1, 1), 1.5))
    # the field ends with the mesh: beyond it the pixel itself, under an alpha near 0
    motion = (maps[..., 1:3] - pixel_centres(CROP, CROP, maps.device)) * skin[..., None]
    gain = rearrange(maps[..., 3:], "t h w c -> t c h w").exp()
    return MirrorFill(motion * (2 / CROP), alpha, gain)


def facing_cosine(vertices: Tensor, triangles: Tensor) -> Tensor:
    """[V] cosine between the normals of vertices [V, 3] in camera space and the direction to the viewer."""
    normals = vertex_normals(vertices, triangles)
    towards = F.normalize(vertices.new_tensor((0.0, 0.0, CAMERA_DISTANCE)) - vertices, dim=-1)
    return (normals * towards).sum(-1)


def _sample(image: Tensor, pixels: Tensor) -> Tensor:
    """[V, 3] colours of an image [1, 3, 256, 256] at pixels [V, 2] px of the crop, bilinear."""
    grid = (pixels * (2 / CROP) - 1)[None, None]
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0, :, 0].T
