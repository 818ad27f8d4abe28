"""The lash line of a closing eye.

Where upper and lower lid meet, the warp would squeeze the whole eye into one pixel. Real eyes show a dark line of
lashes there; it is painted in the colour of the portrait's own lash line.
"""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor

from ..filters import smoothstep
from ..geometry import project, segment_distance
from ..head.morphable import landmark_positions
from ..head.topology import LEFT_EYE_CORNERS, LEFT_LID_PAIRS, RIGHT_EYE_CORNERS, RIGHT_LID_PAIRS
from ..structures import FaceFit, MeshSequence, Paint, SourceView
from .paint import box_points, boxes_around

EYES = ((RIGHT_LID_PAIRS, RIGHT_EYE_CORNERS), (LEFT_LID_PAIRS, LEFT_EYE_CORNERS))
LINE_WIDTH = 0.045  # of the eye's width: half the thickness of the line in its middle
CLOSING = (0.55, 0.92)  # share of the opening that is gone when the line begins to show, and when it is full
# Below it the portrait's eye is closed and shows its own line.
MIN_OPENING = 0.06  # of the eye's width
MARGIN = 0.25  # of the eye's width around both eyes


def render_lash_lines(view: SourceView, mesh: MeshSequence, detail: int) -> Paint:
    """Paint the lash lines of closing eyes.

    Args:
        view: the portrait, from `view_source`.
        mesh: T driven meshes.
        detail: px of the painting per px of the crop.

    Returns:
        Colour [T, 3, h, w] and alpha [T, 1, h, w] of a box over both eyes; alpha is 0 while they are open.
    """
    face = view.face
    own = project(landmark_positions(face.model, view.mesh.vertices))[0, :, :2]
    driven = project(landmark_positions(face.model, mesh.vertices))[..., :2]  # [T, 468, 2]
    span = _lid_lines(own).amax(0) - _lid_lines(own).amin(0)  # [2]
    eye_width = float((own[EYES[0][1][0]] - own[EYES[0][1][1]]).norm())
    margin = MARGIN * eye_width
    width, height = (max(4, round(float(side) + 2 * margin)) for side in (span[0], span[1] + eye_width))
    half = own.new_tensor((width / 2, height / 2))
    boxes = boxes_around(torch.stack([_lid_lines(points) for points in driven]), half)
    height, width = height * detail, width * detail
    alphas = []
    for points, box in zip(driven, boxes, strict=True):
        pixels = box_points(box, height, width, detail)
        right, left = (_line(pixels, points, own, *eye) for eye in EYES)
        alphas.append((right + left).clamp(0, 1))
    color = repeat(_lash_color(face), "c -> t c h w", t=len(alphas), h=height, w=width)
    return Paint(color, torch.stack(alphas)[:, None], boxes)


def _lid_lines(points: Tensor) -> Tensor:
    """The lines [18, 2] of both eyes on which their lids meet, of landmarks [468, 2] px."""
    return torch.cat([_lid_line(points, *eye) for eye in EYES])


def _lid_line(points: Tensor, pairs: tuple[tuple[int, int], ...], corners: tuple[int, int]) -> Tensor:
    """The line [9, 2] midway between the lids, from corner to corner; points are [468, 2] px."""
    upper, lower = (points[list(side)] for side in zip(*pairs, strict=True))
    outer, inner = points[[corners[0]]], points[[corners[1]]]
    return torch.cat((outer, (upper + lower) / 2, inner))


def _line(
    pixels: Tensor, driven: Tensor, own: Tensor, pairs: tuple[tuple[int, int], ...], corners: tuple[int, int]
) -> Tensor:
    """Alpha [h, w] of one eye's line at pixels [h, w, 2] px of the crop; driven and own landmarks are [468, 2] px."""
    upper, lower = (list(side) for side in zip(*pairs, strict=True))
    eye_width = (own[corners[0]] - own[corners[1]]).norm()
    # the middle three of the seven pairs: near the corners the error of the landmarks is as large as the opening
    opening = (own[lower] - own[upper])[2:5, 1].mean()
    if opening < MIN_OPENING * eye_width:
        return pixels.new_zeros(pixels.shape[:2])
    closed = 1 - (driven[lower] - driven[upper])[2:5, 1].mean() / opening
    strength = smoothstep(closed, *CLOSING)
    knots = _lid_line(driven, pairs, corners)
    distances, along = segment_distance(pixels, knots[:-1], knots[1:])  # [h, w, 8] each
    distance, segment = distances.min(-1)
    place = (segment + along.gather(-1, segment[..., None])[..., 0]) / (len(knots) - 1)  # 0 and 1 at the two corners
    # half an ellipse between the corners, of which the thinnest ends are as thick as the landmarks are exact
    thickness = LINE_WIDTH * eye_width * (4 * place * (1 - place)).clamp(min=0.15).sqrt()
    return strength * torch.exp(-((distance / thickness) ** 2)) * smoothstep(place * (1 - place) * 12)


def _lash_color(face: FaceFit) -> Tensor:
    """[3] the darker half of the colours along the portrait's upper lids."""
    upper = [pair[0] for pairs, _ in EYES for pair in pairs]
    x, y = face.landmarks[upper, :2].long().clamp(0, face.image.shape[-1] - 1).unbind(-1)
    colors = face.image[0, :, y, x].T  # [14, 3]
    # skin shows between the lashes: the darker half of the samples are lashes
    order = colors.sum(1).argsort()
    return colors[order[: len(order) // 2]].mean(0)
