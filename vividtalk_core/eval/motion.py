"""Unwanted motion: in the background, at the start of a clip, flicker, and jitter.

Jitter is the mean absolute second difference over time: 0 for anything at rest or in motion of constant speed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head.mouth_shape import inter_ocular
from ..pixels import luma

# Of a clip that count as its start: filters of generators settle within it.
START_S = 0.4
# Blocks across the face, for flicker: large enough that motion within one averages out.
GRID = 16
# Of the face's width: hair and hands beside it.
SIDE_MARGIN = 0.75
TOP_MARGIN = 0.5  # of the face's height
# Of the frame that must be background; fewer pixels give no stable mean.
LEAST_SHARE = 0.03


def face_box(landmarks: Tensor) -> Tensor:
    """[4] left, top, right, bottom in px around landmarks [T, N, 2] or [T, N, 3] of a clip."""
    # Without the irises (468 and on), which move by themselves and never reach the edge of the face.
    points = landmarks[:, :468, :2].flatten(0, 1)
    return torch.cat((points.amin(0), points.amax(0)))


def background_mask(landmarks: Tensor, height: int, width: int) -> Tensor:
    """[H, W] bool: what lies beside and above the head in every frame; nothing below the brows, where shoulders are.

    Args:
        landmarks: [T, N, 2] or [T, N, 3] px of the whole clip, N = 468 or 478.
        height: px.
        width: px.
    """
    left, top, right, bottom = face_box(landmarks).tolist()
    side, above = SIDE_MARGIN * (right - left), TOP_MARGIN * (bottom - top)
    rows = torch.arange(height)[:, None] + 0.5
    columns = torch.arange(width) + 0.5
    beside: Tensor = (columns < left - side) | (columns > right + side)  # [W]
    # [H, 1] each
    above_head: Tensor = rows < top - above
    above_shoulders: Tensor = rows < (top + bottom) / 2
    return above_head | (beside & above_shoulders)


class BackgroundMotion:
    """Background-motion ratio of a clip whose frames come one by one.

    The mean absolute change from frame to frame beside and above the head, over that within the face box: about 0 for
    a still background, about 1 where everything moves alike. It is meaningful only if the camera does not move.

    Args:
        landmarks: [T, N, 2] or [T, N, 3] px of the whole clip, N = 468 or 478.
    """

    def __init__(self, landmarks: Tensor) -> None:
        self.landmarks = landmarks  # [T, N, 2] or [T, N, 3]
        self.previous: Tensor | None = None
        self.sums = [0.0, 0.0]  # background, face

    def add(self, frame: Tensor) -> None:
        """Take the next frame [3, H, W] in 0..1 into account."""
        if self.previous is None:
            height, width = frame.shape[1:]
            self.background = background_mask(self.landmarks, height, width)
            left, top, right, bottom = face_box(self.landmarks).round().long().clamp(min=0).tolist()
            self.face = (slice(top, bottom), slice(left, right))
        else:
            change = (frame - self.previous).abs().mean(0)
            # Means and not sums, because the two regions differ in size.
            self.sums[0] += float(change[self.background].mean())
            self.sums[1] += float(change[self.face].mean())
        self.previous = frame

    def ratio(self) -> float:
        """0 and more; NaN where the frame shows no background, or nothing moves in the face."""
        if self.previous is None or not self.sums[1] or self.background.float().mean() < LEAST_SHARE:
            return float("nan")
        return self.sums[0] / self.sums[1]


def startup_jitter(landmarks: Tensor, fps: float, start_s: float = START_S) -> float:
    """Jitter of the face in the first moments over its jitter later: 1 is equal, well above 1 is a jump at the start.

    Jitter is here the mean length of the second difference of the landmarks, in inter-ocular distances per frame².

    Args:
        landmarks: [T, N, 2] or [T, N, 3] px, N = 468 or 478.
        fps: frames per second.
        start_s: seconds that count as the start.

    Returns:
        The ratio; NaN for a clip shorter than three starts or one without any motion.
    """
    # Without the irises (468 and on), which move by themselves; in double precision, because second differences are
    # small.
    points = landmarks[:, :468, :2].double() / inter_ocular(landmarks)
    jitter = points.diff(n=2, dim=0).norm(dim=-1).mean(-1)
    first = max(1, round(start_s * fps))
    # The rest must be long compared with the start, or its mean would be no measure of the usual jitter.
    if len(jitter) < 3 * first or not jitter[first:].any():
        return float("nan")
    return float(jitter[:first].mean() / jitter[first:].mean())


def brightness(frame: Tensor, landmarks: Tensor) -> Tensor:
    """[16, 16] mean luminance 0..1 of the blocks of the face box of a whole clip, in one frame [3, H, W] in 0..1."""
    left, top, right, bottom = face_box(landmarks).round().long().clamp(min=0).tolist()
    # The box is that of the whole clip, because one that followed the face would jitter with its landmarks.
    luminance = luma(frame[:, top:bottom, left:right])[None]
    return F.adaptive_avg_pool2d(luminance, GRID)[0]


def flicker(blocks: Tensor) -> float:
    """Brightness that jumps back and forth: compare with the real video of the same speech.

    Args:
        blocks: [T, 16, 16] of `brightness`; a block averages over what moves within it.

    Returns:
        Mean absolute second difference over time, 0..255; NaN for fewer than three frames.
    """
    return float(255 * blocks.diff(n=2, dim=0).abs().mean()) if len(blocks) >= 3 else float("nan")


class SecondDifference:
    """Jitter of pixels: the mean of |x[t + 1] − 2·x[t] + x[t − 1]| of a clip whose frames come one by one.

    A moving edge has a second difference too: compare with the real video of the same motion.
    """

    def __init__(self) -> None:
        self.frames: list[Tensor] = []  # the last two
        self.masks: Sequence[Tensor] = ()  # of the last one
        self.sums: list[float] = []
        self.count = 0

    def add(self, frame: Tensor, masks: Sequence[Tensor]) -> None:
        """Take the next frame [3, H, W] in 0..1 into account, with its regions [H, W] bool, as many for each frame.

        A second difference counts in the regions of its middle frame.
        """
        # A frame counts when its successor is known, so two frames and the regions of the last one are kept.
        if len(self.frames) == 2:
            energy = (frame - 2 * self.frames[1] + self.frames[0]).abs().mean(0)
            means = [float(energy[mask].mean()) if mask.any() else 0.0 for mask in self.masks]
            self.sums = [a + b for a, b in zip(self.sums or [0.0] * len(means), means, strict=True)]
            self.count += 1
        self.frames, self.masks = [*self.frames[-1:], frame], masks

    def means(self) -> list[float]:
        """For each region 0..255; NaN for fewer than three frames."""
        if not self.count:
            return [float("nan")] * len(self.masks)
        return [255 * total / self.count for total in self.sums]
