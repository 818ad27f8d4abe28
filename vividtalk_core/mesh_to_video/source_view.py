"""What stage 2 needs of the portrait itself: computed once, used for every frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import blur, ramp, smoothstep
from ..geometry import pixel_centres, project
from ..head.drive import face_mesh
from ..head.topology import FACE_OVAL
from ..progress import Progress
from ..structures import CROP, FaceFit, Fragments, MeshSequence, Regions, SourceView
from .backdrop import background_hole, background_plate, person_distance, person_matte
from .light import portrait_light
from .mirror import facing_cosine, view_mirror
from .rasterizer import rasterize
from .regions import find_regions

FADE_PX = 26  # px of the crop over which motion fades out in the background beside the head
BORDER_PX = 10  # px of the crop over which it fades out at the border of the crop
# Cosines of the angle between skin and viewer: beyond 84° its pixels are not used, below 70° they are used fully.
FACING = (0.10, 0.35)
COLLAR = 0.55  # of the face height below the chin, where the neck does not move
# Shoulders do not follow: from this far beside the middle of the face, in widths of it, the collar rises by the slope.
SHOULDER, SHOULDER_SLOPE = 0.7, 1.2
VISIBLE = 0.06  # model units by which a visible vertex may lie behind the z-buffer


def view_source(face: FaceFit) -> SourceView:
    """Project, rasterise and classify the portrait's own mesh: V vertices, maps of 256 × 256 px."""
    mesh, regions = face_mesh(face), find_regions(face.model)
    pixels = project(mesh.vertices)
    fragments = rasterize_mesh(mesh, regions)
    triangle = fragments.triangle_index[0]
    eyes = (regions.eyes[triangle.clamp(min=0)] & (triangle >= 0)).float()
    facing = facing_cosine(mesh.vertices[0], mesh.triangles)
    visible = _visible(pixels[0], fragments.depth[0], regions)
    distance = person_distance(face)
    hole = background_hole(distance)
    return SourceView(
        face=face,
        mesh=mesh,
        pixels=pixels[0],
        fragments=fragments,
        confidence=ramp(facing, *FACING) * visible,
        mirror=view_mirror(face, pixels[0, :, :2], facing, visible, regions),
        follow=_follow(face, distance),
        carry=_carry(face),
        matte=person_matte(distance),
        hole=hole,
        plate=background_plate(face, hole),
        border=_border(face.image.device),
        eyes=eyes[None, None],
        light=portrait_light(face, mesh, fragments, regions),
        regions=regions,
    )


def rasterize_mesh(mesh: MeshSequence, regions: Regions, progress: Progress | None = None) -> Fragments:
    """Z-buffer of the drawn triangles at 256, with eyeballs set back; indices are into `mesh.triangles`."""
    screen = project(mesh.vertices) + F.pad(regions.setback[:, None], (2, 0))  # [T, V, 3]
    numbers = regions.drawn.nonzero()[:, 0]
    fragments = rasterize(screen, mesh.triangles[numbers], CROP, CROP, progress)
    index = fragments.triangle_index
    return Fragments(torch.where(index >= 0, numbers[index.clamp(min=0)], -1), fragments.barycentric, fragments.depth)


def _visible(pixels: Tensor, depth: Tensor, regions: Regions) -> Tensor:
    """[V] bool, whether nothing lies before vertices [V, 3], px and depth, in the z-buffer [H, W]."""
    x, y = (pixels[:, i].floor().long().clamp(0, CROP - 1) for i in (0, 1))
    # the nearest surface within a pixel: at a silhouette the pixel under a vertex may miss the mesh
    nearest = -F.max_pool2d(-depth.clamp(max=1e3)[None, None], 3, 1, 1)[0, 0]
    return pixels[:, 2] + regions.setback < nearest[y, x] + VISIBLE


def _follow(face: FaceFit, distance: Tensor) -> Tensor:
    """[256, 256] how far each pixel follows the head's rigid motion, at a distance [256, 256] px from the person."""
    beside = smoothstep(1 - distance / FADE_PX)
    # softened: an edge in this map would be an edge in the motion, and so a tear in the image
    return blur(beside * _above_collar(face, 0.0), 3.0)


def _carry(face: FaceFit) -> Tensor:
    """[256, 256] how far each pixel would follow the head's rigid motion if the background did."""
    return blur(_above_collar(face, SHOULDER_SLOPE), 3.0)


def _above_collar(face: FaceFit, slope: float) -> Tensor:
    """[256, 256] 1 on the head and at its height, 0 from the collar down; over the shoulders it rises by the slope."""
    oval = face.landmarks[list(FACE_OVAL), :2]
    chin, brow = float(oval[:, 1].max()), float(oval[:, 1].min())
    columns, rows = pixel_centres(CROP, CROP, face.image.device).unbind(-1)
    collar = COLLAR * (chin - brow)
    low, high = oval[:, 0].amin(), oval[:, 0].amax()
    beside = ((columns - (low + high) / 2).abs() - SHOULDER * (high - low)).clamp(min=0)
    return smoothstep((chin + collar - slope * beside - rows) / collar)


def _border(device: torch.device) -> Tensor:
    """[256, 256] 1 inside, 0 at the border of the crop."""
    centres = pixel_centres(CROP, CROP, device)
    edge = torch.minimum(centres, CROP - centres).amin(-1)
    # 0 on the outermost pixel too, whose centre lies half a pixel inside
    return smoothstep((edge - 1) / BORDER_PX)
