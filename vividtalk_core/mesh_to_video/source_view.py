"""What stage 2 needs of the portrait itself: computed once, used for every frame."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import blur, ramp, smoothstep
from ..geometry import pixel_centres, polygon_mask, project, vertex_normals
from ..head.drive import face_mesh
from ..head.topology import FACE_OVAL
from ..progress import Progress
from ..structures import CROP, FaceFit, Fragments, MeshSequence, Regions, SourceView
from .light import portrait_light
from .rasterizer import rasterize
from .regions import find_regions

FADE_PX = 26  # px of the crop over which motion fades out in the background beside the head
BORDER_PX = 10  # px of the crop over which it fades out at the border of the crop
# Cosines of the angle between skin and viewer: beyond 84° its pixels are not used, below 70° they are used fully.
FACING = (0.10, 0.35)
COLLAR = 0.55  # of the face height below the chin, where the neck does not move
VISIBLE = 0.06  # model units by which a visible vertex may lie behind the z-buffer


def view_source(face: FaceFit) -> SourceView:
    """Project, rasterise and classify the portrait's own mesh: V vertices, maps of 256 × 256 px."""
    mesh, regions = face_mesh(face), find_regions(face.model)
    pixels = project(mesh.vertices)
    fragments = rasterize_mesh(mesh, regions)
    triangle = fragments.triangle_index[0]
    eyes = (regions.eyes[triangle.clamp(min=0)] & (triangle >= 0)).float()
    return SourceView(
        face=face,
        mesh=mesh,
        pixels=pixels[0],
        fragments=fragments,
        confidence=_confidence(mesh.vertices[0], pixels[0], fragments.depth[0], mesh.triangles, regions),
        follow=_follow(face),
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


def _confidence(vertices: Tensor, pixels: Tensor, depth: Tensor, triangles: Tensor, regions: Regions) -> Tensor:
    """[V] 0..1 from facing and visibility of vertices [V, 3], pixels [V, 3] px and depth, and the z-buffer [H, W]."""
    normals = vertex_normals(vertices, triangles)
    towards = F.normalize(vertices.new_tensor((0.0, 0.0, 10.0)) - vertices, dim=-1)
    facing = ramp((normals * towards).sum(-1), *FACING)
    x, y = (pixels[:, i].floor().long().clamp(0, CROP - 1) for i in (0, 1))
    # the nearest surface within a pixel: at a silhouette the pixel under a vertex may miss the mesh
    nearest = -F.max_pool2d(-depth.clamp(max=1e3)[None, None], 3, 1, 1)[0, 0]
    in_front = pixels[:, 2] + regions.setback < nearest[y, x] + VISIBLE
    return facing * in_front


def _follow(face: FaceFit) -> Tensor:
    """[256, 256] how far each pixel of the crop follows the head's rigid motion."""
    oval = face.landmarks[list(FACE_OVAL), :2]
    # the segmentation may miss a painted face that the landmarks have found
    person = (face.person_mask[0, 0] > 0.5) | polygon_mask(oval, CROP, CROP)
    away = torch.from_numpy(cv2.distanceTransform((~person).cpu().numpy().astype(np.uint8), cv2.DIST_L2, 5))
    away = away.to(face.image.device)
    beside = smoothstep(1 - away / FADE_PX)
    chin, brow = float(oval[:, 1].max()), float(oval[:, 1].min())
    rows = pixel_centres(CROP, CROP, face.image.device)[..., 1]
    collar = COLLAR * (chin - brow)
    above_collar = smoothstep((chin + collar - rows) / collar)
    # softened: an edge in this map would be an edge in the motion, and so a tear in the image
    return blur(beside * above_collar, 3.0)


def _border(device: torch.device) -> Tensor:
    """[256, 256] 1 inside, 0 at the border of the crop."""
    centres = pixel_centres(CROP, CROP, device)
    edge = torch.minimum(centres, CROP - centres).amin(-1)
    # 0 on the outermost pixel too, whose centre lies half a pixel inside
    return smoothstep((edge - 1) / BORDER_PX)
