"""Figures of re-enacted pictures: each way to make them is a row, and every row is looked at alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...critics.face_embedder import FaceEmbedder, csim
from ...critics.perceptual import perceptual_distance
from ...face.align import to_pixel_centres
from ...face.landmarks import region_of_landmarks
from ...face.models import FaceModels
from ...mesh_to_video.paste import crop_portrait
from ...structures import CROP, Crop
from ..lip_score import known
from ..lips import mouth_distance
from ..motion import SecondDifference
from ..pictures import face_oval, mouth_box, psnr, ssim
from ..sharpness import BLOCK, cpbd

STATIC, CLOSED_FORM, NETWORK, REAL = "static", "closed form", "network", "real"  # the rows, in their order
BORDER_PX = 6  # px of the 256 crop to both sides of the face oval: where a painted face would flicker


@dataclass(frozen=True, slots=True)
class RowScore:
    """One row of one clip; pictures are the 256 crop of the portrait. None where there is nothing to measure."""

    face_psnr: float | None = None  # dB inside the face oval
    mouth_psnr: float | None = None  # dB in the mouth box
    face_ssim: float | None = None  # inside the face oval
    perceptual: float | None = None  # inside the face oval, 0 is alike
    csim: float | None = None  # mean cosine with the source frame
    mouth_distance: float | None = None  # M-LMD, IOD
    misregistration_px: float | None = None  # landmarks found again against those of the real frame
    cpbd: float | None = None  # of the face at the video's own resolution
    cpbd_ratio: float | None = None  # of the source frame's
    face_tremble: float | None = None  # second difference over time in the face, of the real video's
    border_tremble: float | None = None  # the same along the face oval
    edge_tremble: float | None = None  # the same where motion dies out in the background
    still_change: float | None = None  # 0..255, the largest change where nothing is moved or painted: 0
    background_change: float | None = None  # 0..255, the mean change off the person, where motion has died out


@dataclass(frozen=True, eq=False, slots=True)
class Examiner:
    """What looks at the pictures."""

    face: FaceModels
    embedder: FaceEmbedder | None = None
    perceptual: nn.Module | None = None  # of `load_perceptual`


@dataclass(frozen=True, eq=False, slots=True)
class Shot:
    """A frame, its crop, and the face found in it."""

    frame: Tensor  # [3, H, W] in 0..1
    small: Tensor  # [1, 3, 256, 256]
    points: Tensor  # [478, 2] px of the 256 crop


def small_crop(frame: Tensor, crop: Crop) -> Tensor:
    """[1, 3, 256, 256] the crop of a frame [3, H, W] in 0..1."""
    return F.interpolate(crop_portrait(frame[None], crop), size=(CROP, CROP), mode="bilinear", antialias=True)


def take_shot(models: FaceModels, frame: Tensor, crop: Crop, expected: Tensor) -> Shot:
    """Find the landmarks of a frame [3, H, W] near where they are expected, [478, 2] px of the crop."""
    small = small_crop(frame, crop)
    found, _ = models.landmarker.landmarks(small, region_of_landmarks(F.pad(expected, (0, 1))[None]))
    return Shot(frame, small, to_pixel_centres(found)[0, :, :2])


class RowMeter:
    """Collects the figures of one row.

    Args:
        examiner: who looks.
        source: the portrait.
        crop: of the portrait.
    """

    def __init__(self, examiner: Examiner, source: Shot, crop: Crop) -> None:
        self.examiner, self.source, self.crop = examiner, source, crop
        self.tremble = SecondDifference()
        self.values: dict[str, list[float]] = {}
        self.mouths: list[tuple[Tensor, Tensor]] = []
        self.still_change: float | None = None
        self.identity = self._embed(source)

    def shoot(self, frame: Tensor, points: Tensor) -> Shot:
        """`take_shot` of a frame [3, H, W] whose face should be at `points` [478, 2] px of the crop."""
        return take_shot(self.examiner.face, frame, self.crop, points)

    def look(self, shot: Shot, points: Tensor) -> None:
        """Judge a picture by itself; its landmarks should be at `points` [478, 2] px of the crop."""
        self._add("misregistration_px", float((shot.points - points)[:468].norm(dim=-1).mean()))
        self._add("cpbd", face_cpbd(shot, self.crop, self.source.points))
        self.mouths.append((shot.points, points))
        if self.identity is not None:
            self._add("csim", csim(self._embed(shot), self.identity))

    def compare(self, shot: Shot, wanted: Tensor, points: Tensor) -> None:
        """Judge a picture beside the real one [1, 3, 256, 256], where the real landmarks [478, 2] are."""
        oval, mouth = face_oval(points, CROP, CROP), mouth_box(points, CROP, CROP)
        self._add("face_psnr", psnr(shot.small, wanted, oval))
        self._add("mouth_psnr", psnr(shot.small, wanted, mouth))
        self._add("face_ssim", ssim(shot.small, wanted, oval))
        if self.examiner.perceptual is not None:
            distance = perceptual_distance(self.examiner.perceptual, shot.small, wanted, oval[None, None].float())
            self._add("perceptual", float(distance))

    def compare_background(self, frame: Tensor, still: Tensor, background: Tensor) -> None:
        """Compare a frame [3, H, W] with the portrait.

        Args:
            frame: the picture.
            still: [H, W] bool, where nothing is moved or painted.
            background: [H, W] bool, off the person and where motion has died out.
        """
        change = (frame - self.source.frame).abs() * 255
        if still.any():
            self.still_change = max(float(change[:, still].max()), self.still_change or 0.0)
        if background.any():
            self._add("background_change", float(change[:, background].mean()))

    def _embed(self, shot: Shot) -> Tensor | None:
        """[1, D] whom the embedder sees."""
        embedder = self.examiner.embedder
        return None if embedder is None else embedder.embed(shot.small[0], shot.points)[None]

    def _add(self, name: str, value: float) -> None:
        if known(value) is not None:
            self.values.setdefault(name, []).append(value)

    def score(self, real: RowMeter) -> RowScore:
        """The figures so far, beside those of the real row."""
        means = {name: fmean(values) for name, values in self.values.items()}
        mouths = [torch.stack(side) for side in zip(*self.mouths, strict=True)]
        lips = mouth_distance(*mouths) if mouths else None
        own = face_cpbd(self.source, self.crop, self.source.points)
        sharpness = known(means["cpbd"] / own) if "cpbd" in means and own > 0 else None
        names = ("face_tremble", "border_tremble", "edge_tremble")
        ratios = (_ratio(a, b) for a, b in zip(self.tremble.means(), real.tremble.means(), strict=False))
        score = RowScore(**means, mouth_distance=lips, cpbd_ratio=sharpness, still_change=self.still_change)
        return replace(score, **dict(zip(names, ratios, strict=False)))


def _ratio(value: float, real: float) -> float | None:
    return known(value / real) if real > 0 else None


def face_cpbd(shot: Shot, crop: Crop, like: Tensor) -> float:
    """CPBD of a face at the frame's own resolution, in a box as large as that of the landmarks `like` [478, 2] px."""
    scale = crop.size / CROP
    extent = [(points[:468].amin(0), points[:468].amax(0)) for points in (shot.points, like)]
    middle, size = sum(extent[0]) / 2 * scale, (extent[1][1] - extent[1][0]) * scale
    size = (size / BLOCK).ceil() * BLOCK  # what is left over of whole blocks is not looked at
    left, top = (middle - size / 2).round().long().add(torch.tensor((crop.left, crop.top))).clamp(min=0).tolist()
    width, height = size.long().tolist()
    return cpbd(shot.frame[:, top : top + height, left : left + width])


def oval_border(oval: Tensor) -> Tensor:
    """[H, W] bool, both sides of the outline of a region [H, W] bool."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BORDER_PX + 1,) * 2)
    wide, narrow = (change(oval.numpy().astype(np.uint8), kernel) for change in (cv2.dilate, cv2.erode))
    return torch.from_numpy(wide > narrow)


def to_native(mask: Tensor, crop: Crop, outside: bool) -> Tensor:
    """[H, W] bool of the portrait for a mask [256, 256] bool of its crop; `outside` counts beyond the crop."""
    whole = torch.full((crop.height, crop.width), outside)
    rows = torch.arange(max(0, crop.top), min(crop.height, crop.top + crop.size))[:, None]
    columns = torch.arange(max(0, crop.left), min(crop.width, crop.left + crop.size))
    whole[rows, columns] = mask[(rows - crop.top) * CROP // crop.size, (columns - crop.left) * CROP // crop.size]
    return whole
