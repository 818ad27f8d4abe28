"""Metrics of re-enacted images: each method is a row, and every row is measured in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...critics.face_embedder import csim
from ...critics.perceptual import perceptual_distance
from ...face.align import to_pixel_centres
from ...face.landmarks import region_of_landmarks
from ...face.models import FaceModels
from ...mesh_to_video.paste import crop_portrait
from ...structures import CROP, Crop
from ..evaluators import Evaluators
from ..image_metrics import face_oval, mouth_box, psnr, ssim
from ..lip_score import none_if_nan
from ..lips import mouth_distance
from ..motion import SecondDifference
from ..mouth_light import mouth_light, open_mouth
from ..sharpness import BLOCK, cpbd

STATIC, CLOSED_FORM, NETWORK, REAL = "static", "closed form", "network", "real"  # the rows, in their order
# px of the 256 crop to both sides of the face oval: where a generated face would flicker.
BORDER_PX = 6


@dataclass(frozen=True, slots=True)
class RowScore:
    """One row of one clip; images are the 256 crop of the portrait. None where there is nothing to measure."""

    face_psnr: float | None = None  # dB inside the face oval
    mouth_psnr: float | None = None  # dB in the mouth box
    face_ssim: float | None = None  # inside the face oval
    perceptual: float | None = None  # inside the face oval, 0 for equal images
    csim: float | None = None  # mean cosine with the source frame
    mouth_distance: float | None = None  # M-LMD, IOD
    misregistration_px: float | None = None  # landmarks of the generated frame against those of the real one
    mouth_bright: float | None = None  # luminance of the bright end of the open mouth's inside over the cheeks'
    mouth_detail: float | None = None  # mean slope in the open mouth's inside, as a ratio to the real video's
    cpbd: float | None = None  # of the face at the video's own resolution
    cpbd_ratio: float | None = None  # to the source frame's
    face_jitter: float | None = None  # second difference over time in the face, as a ratio to the real video's
    border_jitter: float | None = None  # the same along the face oval
    edge_jitter: float | None = None  # the same where motion ends in the background
    still_change: float | None = None  # 0..255, the largest change where nothing is moved or painted: 0
    background_change: float | None = None  # 0..255, the mean change off the person, beyond where motion ends


@dataclass(frozen=True, eq=False, slots=True)
class FrameSample:
    """A frame, its crop, and the face found in it."""

    frame: Tensor  # [3, H, W] in 0..1
    small: Tensor  # [1, 3, 256, 256]
    points: Tensor  # [478, 2] px of the 256 crop


def small_crop(frame: Tensor, crop: Crop) -> Tensor:
    """[1, 3, 256, 256] the crop of a frame [3, H, W] in 0..1."""
    return F.interpolate(crop_portrait(frame[None], crop), size=(CROP, CROP), mode="bilinear", antialias=True)


def sample_frame(models: FaceModels, frame: Tensor, crop: Crop, expected: Tensor) -> FrameSample:
    """Find the landmarks of a frame [3, H, W] near their expected positions [478, 2] px of the crop."""
    small = small_crop(frame, crop)
    # From the expected place and not by detection: all rows are searched alike, and a distorted face is found as
    # well.
    found, _ = models.landmarker.landmarks(small, region_of_landmarks(F.pad(expected, (0, 1))[None]))
    return FrameSample(frame, small, to_pixel_centres(found)[0, :, :2])


class RowMeter:
    """Collects the metrics of one row.

    Args:
        evaluators: the networks that metrics are computed with.
        source: the portrait.
        crop: of the portrait.
    """

    def __init__(self, evaluators: Evaluators, source: FrameSample, crop: Crop) -> None:
        self.evaluators, self.source, self.crop = evaluators, source, crop
        self.jitter = SecondDifference()
        self.values: dict[str, list[float]] = {}
        self.mouths: list[tuple[Tensor, Tensor]] = []
        self.still_change: float | None = None
        self.identity = self._embed(source)

    def sample(self, frame: Tensor, points: Tensor) -> FrameSample:
        """`sample_frame` of a frame [3, H, W] whose face should be at `points` [478, 2] px of the crop."""
        return sample_frame(self.evaluators.face, frame, self.crop, points)

    def measure(self, sample: FrameSample, points: Tensor) -> None:
        """Measure a frame by itself; its landmarks should be at `points` [478, 2] px of the crop."""
        self._add("misregistration_px", float((sample.points - points)[:468].norm(dim=-1).mean()))
        self._add("cpbd", face_cpbd(sample, self.crop, self.source.points))
        self.mouths.append((sample.points, points))
        # where the real mouth is open, so that all rows are measured in the same frames
        inside = open_mouth(points, CROP, CROP)
        if inside is not None:
            light = mouth_light(sample.small[0], points, inside)
            self._add("mouth_bright", light.brightness)
            self._add("mouth_detail", light.detail)
        # Against the portrait and not the real frame: identity should be the portrait's, and the real row shows what
        # is natural.
        embedding = self._embed(sample)
        if embedding is not None and self.identity is not None:
            self._add("csim", csim(embedding, self.identity))

    def compare(self, sample: FrameSample, target: Tensor, points: Tensor) -> None:
        """Measure a frame beside the real one [1, 3, 256, 256], whose landmarks are [478, 2] px of the crop."""
        oval, mouth = face_oval(points, CROP, CROP), mouth_box(points, CROP, CROP)
        self._add("face_psnr", psnr(sample.small, target, oval))
        self._add("mouth_psnr", psnr(sample.small, target, mouth))
        self._add("face_ssim", ssim(sample.small, target, oval))
        if self.evaluators.perceptual is not None:
            # Inside the face only, because a background that does not move would make every row look good.
            weights = oval[None, None].float()
            distance = perceptual_distance(self.evaluators.perceptual, sample.small, target, weights)
            self._add("perceptual", float(distance))

    def compare_background(self, frame: Tensor, still: Tensor, background: Tensor) -> None:
        """Compare a frame [3, H, W] with the portrait.

        Args:
            frame: the image.
            still: [H, W] bool, where nothing is moved or painted.
            background: [H, W] bool, off the person and beyond where motion ends.
        """
        change = (frame - self.source.frame).abs() * 255
        if still.any():
            self.still_change = max(float(change[:, still].max()), self.still_change or 0.0)
        if background.any():
            self._add("background_change", float(change[:, background].mean()))

    def _embed(self, sample: FrameSample) -> Tensor | None:
        """Embedding [1, D] of the face's identity; None without an embedder."""
        embedder = self.evaluators.embedder
        return None if embedder is None else embedder.embed(sample.small[0], sample.points)[None]

    def _add(self, name: str, value: float) -> None:
        if none_if_nan(value) is not None:
            self.values.setdefault(name, []).append(value)

    def score(self, real: RowMeter) -> RowScore:
        """The metrics so far, beside those of the real row."""
        means = {name: fmean(values) for name, values in self.values.items()}
        if "mouth_detail" in means:
            means["mouth_detail"] /= max(fmean(real.values["mouth_detail"]), 1e-6)
        mouths = [torch.stack(side) for side in zip(*self.mouths, strict=True)]
        own = face_cpbd(self.source, self.crop, self.source.points)
        jitter = [_ratio(a, b) for a, b in zip(self.jitter.means(), real.jitter.means(), strict=False)]
        face, border, edge = jitter or (None, None, None)  # a static row takes no frames
        return RowScore(
            **means,
            mouth_distance=mouth_distance(mouths[0], mouths[1]) if mouths else None,
            cpbd_ratio=_ratio(means["cpbd"], own) if "cpbd" in means else None,
            face_jitter=face,
            border_jitter=border,
            edge_jitter=edge,
            still_change=self.still_change,
        )


def _ratio(value: float, reference: float) -> float | None:
    return none_if_nan(value / reference) if reference > 0 else None


def face_cpbd(sample: FrameSample, crop: Crop, like: Tensor) -> float:
    """CPBD of a face at the frame's own resolution, in a box as large as that of the landmarks `like` [478, 2] px.

    One size of box for a whole clip, because CPBD depends on the number of blocks.
    """
    scale = crop.size / CROP
    own, other = sample.points[:468], like[:468]
    middle = (own.amin(0) + own.amax(0)) / 2 * scale
    size = (other.amax(0) - other.amin(0)) * scale
    # CPBD uses whole blocks only and leaves out the rest.
    size = (size / BLOCK).ceil() * BLOCK
    left, top = (middle - size / 2).round().long().add(torch.tensor((crop.left, crop.top))).clamp(min=0).tolist()
    width, height = size.long().tolist()
    return cpbd(sample.frame[:, top : top + height, left : left + width])


def oval_border(oval: Tensor) -> Tensor:
    """[H, W] bool, both sides of the outline of a region [H, W] bool."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BORDER_PX + 1,) * 2)
    region = oval.numpy().astype(np.uint8)
    return torch.from_numpy(cv2.dilate(region, kernel) > cv2.erode(region, kernel))


def to_native(mask: Tensor, crop: Crop, outside: bool) -> Tensor:
    """[H, W] bool of the portrait for a mask [256, 256] bool of its crop; pixels beyond the crop become `outside`."""
    whole = torch.full((crop.height, crop.width), outside)
    rows = torch.arange(max(0, crop.top), min(crop.height, crop.top + crop.size))[:, None]
    columns = torch.arange(max(0, crop.left), min(crop.width, crop.left + crop.size))
    whole[rows, columns] = mask[(rows - crop.top) * CROP // crop.size, (columns - crop.left) * CROP // crop.size]
    return whole
