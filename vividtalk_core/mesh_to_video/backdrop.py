"""The background behind the person: a still plate, so that a head that turns does not bend what lies beside it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..filters import smoothstep, upsample
from ..geometry import pixel_centres, polygon_mask, warp
from ..head.topology import FACE_OVAL
from ..structures import CROP, Backdrop, FaceFit, SourceView

# Px of the crop outside the segmented person. Up to the first all is carried by the head: hair is finer than the
# segmentation. From the second on nothing is.
RIM_PX = (2.0, 7.0)
# Px outside the person. Up to the first the plate is shown, for hair is seen there; from the second on the portrait's
# own background, which the plate is filled from.
HOLE_PX = (2.5, 5.0)
# The plate is filled at half the resolution: lines that are continued into the hole are guesses.
PLATE_STEP = 2  # px of the crop
INPAINT_PX = 3.0  # px of the plate, radius from which each of its pixels is filled
FRAME_PX = 3.0  # px of the crop inside the portrait's edge that nothing is filled from
# Motion below the first leaves the background as it is, above the second the backdrop is shown.
MOVING_PX = (0.1, 1.0)  # px of the crop


def person_distance(face: FaceFit) -> Tensor:
    """[256, 256] distance to the person in px of the crop, 0 on it."""
    oval = face.landmarks[list(FACE_OVAL), :2]
    # the segmentation may miss a painted face that the landmarks have found
    person = (face.person_mask[0, 0] > 0.5) | polygon_mask(oval, CROP, CROP)
    away = cv2.distanceTransform((~person).cpu().numpy().astype(np.uint8), cv2.DIST_L2, 5)
    return torch.from_numpy(away).to(face.image.device)


def person_matte(distance: Tensor) -> Tensor:
    """[256, 256] 0..1, the person with a soft rim of background; see `person_distance`."""
    near, far = RIM_PX
    return smoothstep(distance, far, near)


def background_hole(distance: Tensor) -> Tensor:
    """[256, 256] 0..1, where the portrait hides the background; see `person_distance`."""
    near, far = HOLE_PX
    return smoothstep(distance, far, near)


def background_plate(face: FaceFit, hole: Tensor) -> Tensor:
    """The crop without the person.

    Args:
        face: the fitted portrait.
        hole: [256, 256] of `background_hole`.

    Returns:
        [1, 3, 256, 256] RGB in 0..1; where the hole is 0, the crop. The rest is filled from there (Telea 2004).
    """
    image, crop = face.image, face.crop
    # nor from beyond the portrait or its outermost pixels, which may be a frame: they would be drawn out into streaks
    centres = pixel_centres(CROP, CROP, image.device) * (crop.size / CROP)
    corner = centres.new_tensor((crop.left, crop.top))
    size = centres.new_tensor((crop.width, crop.height))
    edge = torch.minimum(centres + corner, size - centres - corner).amin(-1) * (CROP / crop.size)
    unknown = (hole > 0) | (edge < FRAME_PX)
    if unknown.all():
        return image
    # what is outside of the hole weighs in alone: the person must not bleed into the plate
    known = (~unknown).to(image)[None, None]
    weight = F.avg_pool2d(known, PLATE_STEP)
    small = F.avg_pool2d(image * known, PLATE_STEP) / weight.clamp(min=1e-6)
    empty = (weight[0, 0] == 0).cpu().numpy()
    pixels = (rearrange(small[0], "c h w -> h w c") * 255).round().byte().cpu().numpy()
    filled = torch.from_numpy(cv2.inpaint(pixels, empty.astype(np.uint8), INPAINT_PX, cv2.INPAINT_TELEA))
    plate = upsample(rearrange(filled.to(image), "h w c -> 1 c h w") / 255, CROP)
    return torch.where((hole > 0)[None, None], plate, image)


def uncover(view: SourceView, flow: Tensor) -> Tensor:
    """Where the moved person does not cover the backdrop.

    Args:
        view: the portrait.
        flow: [256, 256, 2] px, the motion of the person and of the rim around it.

    Returns:
        [256, 256] 0..1; 0 where nothing moves.
    """
    matte = warp(view.matte[None, None], flow[None] * (2 / CROP))[0, 0]
    # hypot: a norm over two values costs ten times as much
    return smoothstep(torch.hypot(flow[..., 0], flow[..., 1]), *MOVING_PX) * (1 - matte)


def show_backdrop(image: Tensor, portrait: Tensor, backdrop: Backdrop) -> Tensor:
    """Frames [T, 3, 256, 256] with the backdrop where it is uncovered; portrait is the crop [1, 3, 256, 256]."""
    return torch.lerp(image, behind_person(portrait, backdrop).expand_as(image), backdrop.uncovered)


def behind_person(portrait: Tensor, backdrop: Backdrop) -> Tensor:
    """[1, 3, 256, 256] the crop with the plate where the person stands."""
    return torch.lerp(portrait, backdrop.plate, backdrop.hole)
