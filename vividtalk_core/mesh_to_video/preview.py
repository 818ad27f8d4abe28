"""Images of landmarks, meshes and dense motion, to be looked at."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from ..geometry import project
from ..pixels import to_float
from ..structures import CROP, DenseMotion, FaceFit, MeshSequence

Canvas = npt.NDArray[np.uint8]
SCALE = 4  # drawn larger and scaled down, so that lines are smooth
LANDMARK_COLOR, MESH_COLOR = (0, 255, 120), (120, 220, 255)  # RGB
FULL_COLOR_PX = 16  # px of the crop: motion that is drawn in full colour


def draw_landmarks(face: FaceFit) -> Tensor:
    """The landmarks over the crop, [1, 3, 256, 256] in 0..1."""
    canvas = _canvas(face)
    for x, y in face.landmarks[:, :2].cpu().tolist():
        cv2.circle(canvas, (round(x * SCALE), round(y * SCALE)), 3, LANDMARK_COLOR, -1, cv2.LINE_AA)
    return _picture(canvas)[None]


def draw_mesh(face: FaceFit, mesh: MeshSequence) -> Tensor:
    """The mesh as lines over the crop, [T, 3, 256, 256] in 0..1; triangles that face away are left out."""
    return torch.stack([_picture(_draw_wires(_canvas(face), frame, mesh.triangles)) for frame in mesh.vertices])


def draw_flow(motion: DenseMotion) -> Tensor:
    """Direction as hue and length as saturation, [T, 3, H, W] in 0..1; white does not move."""
    flow = (motion.flow * (CROP / 2)).cpu().numpy()  # [T, H, W, 2] px
    hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * math.pi) + 0.5) * 360
    saturation = np.clip(np.hypot(flow[..., 0], flow[..., 1]) / FULL_COLOR_PX, 0, 1)
    hsv = np.stack((hue, saturation, np.ones_like(hue)), -1).astype(np.float32)
    colors = np.stack([cv2.cvtColor(frame, cv2.COLOR_HSV2RGB) for frame in hsv])
    return rearrange(torch.from_numpy(colors), "t h w c -> t c h w").to(motion.flow.device)


def _draw_wires(canvas: Canvas, vertices: Tensor, triangles: Tensor) -> Canvas:
    """Draw the front-facing triangles of camera-space vertices [V, 3] on the canvas [H, W, 3]."""
    pixels = (project(vertices)[:, :2] * SCALE)[triangles].cpu().numpy()  # [F, 3, 2]
    first, second = pixels[:, 1] - pixels[:, 0], pixels[:, 2] - pixels[:, 0]
    # y points down: the area of a front face is negative
    front = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    cv2.polylines(canvas, list(pixels[front].round().astype(np.int32)), True, MESH_COLOR, 1, cv2.LINE_AA)
    return canvas


def _canvas(face: FaceFit) -> Canvas:
    """The crop enlarged, [H, W, 3] uint8."""
    image = (rearrange(face.image, "1 c h w -> h w c").cpu().numpy() * 255).round().astype(np.uint8)
    enlarged: Canvas = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
    return enlarged


def _picture(canvas: Canvas) -> Tensor:
    """[H, W, 3] uint8 canvas to [3, 256, 256] in 0..1."""
    small = cv2.resize(canvas, (CROP, CROP), interpolation=cv2.INTER_AREA)
    return to_float(rearrange(torch.from_numpy(small), "h w c -> c h w"))
