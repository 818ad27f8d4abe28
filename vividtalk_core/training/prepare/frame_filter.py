"""Frames of a track that must not be used for training, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...head.mouth_shape import inter_ocular
from .tracks import ClipTrack


@dataclass(frozen=True, slots=True)
class FrameSettings:
    """Limits of a good frame. IOD is the inter-ocular distance, the outer corners of the eyes."""

    most_turned_deg: float = 35.0  # yaw or pitch; beyond it half of the mouth is hidden
    fastest_face: float = 7.5  # IOD/s that the landmarks move on average: more is a cut, or another face
    fastest_lips: float = 7.5  # IOD/s that the lips open or close: a mouth opens wide in 100 ms at 3 IOD/s
    largest_misfit: float = 0.04  # mean distance in model units of the lip offsets from the median of the clip


NO_FACE, TURNED, JUMPED, MISFIT = "no face found", "face turned away", "landmarks jump", "lips hidden or badly fitted"


def bad_frames(track: ClipTrack, aperture: Tensor, settings: FrameSettings = FrameSettings()) -> dict[str, Tensor]:
    """Reason → bool of shape [T], each frame under the first reason that holds for it.

    Args:
        track: T frames.
        aperture: [T] of its landmarks, in IOD.
        settings: the limits of a good frame.
    """
    no_face = torch.zeros(len(aperture), dtype=torch.bool)
    no_face[track.interpolated] = True
    # Pitch and yaw; a head that rolls still shows its whole mouth.
    turned = (track.rotation[:, :2].abs() > math.radians(settings.most_turned_deg)).any(1)
    motion = track.landmarks.diff(dim=0).norm(dim=-1).mean(1) / inter_ocular(track.landmarks)  # [T - 1]
    jumped = beside(motion * track.fps > settings.fastest_face)
    offsets = track.lip_offsets.float()
    # The offsets are what the 3DMM cannot explain: a hand or a microphone before the mouth makes them large.
    stray = (offsets - offsets.median(0).values).norm(dim=-1).mean(1)  # [T]
    snapped = beside(aperture.diff().abs() * track.fps > settings.fastest_lips)
    found = {NO_FACE: no_face, TURNED: turned, JUMPED: jumped, MISFIT: (stray > settings.largest_misfit) | snapped}
    # Each frame under its first reason, so that the counts of the report add up.
    marked = torch.zeros_like(no_face)
    for reason, frames in found.items():
        found[reason] = frames & ~marked
        marked |= frames
    return found


def beside(steps: Tensor) -> Tensor:
    """Frames, bool of shape [T], on either side of a marked step, bool of shape [T − 1]."""
    false = steps.new_zeros(1)
    return torch.cat((steps, false)) | torch.cat((false, steps))
