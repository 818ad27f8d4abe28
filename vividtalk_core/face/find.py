"""The chosen face of a portrait, and its landmarks; every error says what was found and what to try."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from ..errors import MediaError, NoFaceError, SettingsError
from .align import to_pixel_centres
from .detector import Detection
from .landmarks import PRESENT, region_of_detection
from .models import FaceModels
from .region import Region

log = logging.getLogger("vividtalk")

MIN_SIDE, MAX_SIDE = 64, 8192  # px of a portrait
# Below it lips are a few pixels.
MIN_FACE = 40  # px, the longer side of the landmarks' box
# Threshold of a second detection, so that the error can name the best score.
LOWEST_SCORE = 0.05
BOX_MARGIN = 1.5  # side of the first landmark region over the longer side of a box given by hand
# Runs of the landmark network, each in the region of the one before: a box by hand, or of the detector, is inexact.
ROUNDS = 3


def check_portrait(portrait: Tensor) -> None:
    """Check that a portrait is [B, 3, H, W], of a usable size, with finite values in 0..1.

    Raises:
        MediaError: it is not.
        TypeError: it is no tensor.
    """
    if not isinstance(portrait, Tensor):
        found = type(portrait).__name__
        raise TypeError(f"portrait must be a tensor [1, 3, H, W], as read_image gives it; got {found}")
    if portrait.ndim != 4 or portrait.shape[1] != 3 or portrait.shape[0] < 1:
        raise MediaError(f"portrait must be [B, 3, H, W] RGB with B ≥ 1; got {list(portrait.shape)}")
    height, width = portrait.shape[2:]
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
        raise MediaError(
            f"the portrait is {width}×{height} px; its sides must be {MIN_SIDE} to {MAX_SIDE} px: resize it"
        )
    if not portrait.is_floating_point():
        raise MediaError(f"portrait must hold floating-point values in 0..1; got {portrait.dtype}: scale it")
    # NaN before the range, because every comparison with NaN is false
    low, high = portrait[:1].aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise MediaError("the portrait holds NaN or infinite values: check the step that made it")
    # resizing with a bicubic filter leaves 0..1 by a little; `fit_face` clamps it
    if low < -0.01 or high > 1.01:
        raise MediaError(f"the portrait's values must be in 0..1; got {float(low):.3g} to {float(high):.3g}")


def find_landmarks(
    models: FaceModels,
    image: Tensor,
    face_index: int = 0,
    box: tuple[float, float, float, float] | None = None,
    threshold: float = 0.5,
    force: bool = False,
) -> Tensor:
    """Landmarks of one face.

    Args:
        models: the networks.
        image: [1, 3, H, W] RGB in 0..1.
        face_index: which face, counted from the largest.
        box: left, top, right, bottom in px around the face, instead of detection.
        threshold: of the detector, 0..1.
        force: use the face even if the landmark network's presence score is too low.

    Returns:
        [478, 3] px of the image, pixel centres at .5.

    Raises:
        NoFaceError: there is no such face, it is too small, or its presence score is too low.
        SettingsError: the box is not inside the image.
    """
    # a box replaces the detector, so that paintings and drawings in which it finds nothing can be used
    region = _box_region(box, image) if box is not None else _detected_region(models, image, face_index, threshold)
    landmarks, presence = models.landmarker.refine(image, region, ROUNDS)
    _check_presence(float(presence[0]), force)
    points = to_pixel_centres(landmarks)[0]
    size = float((points[:468, :2].amax(0) - points[:468, :2].amin(0)).amax())
    if not math.isfinite(size) or size < MIN_FACE:
        raise NoFaceError(
            f"the face is {size:.0f} px large, at least {MIN_FACE} px are needed", advice=("closer", "larger")
        )
    return points


def _check_presence(presence: float, force: bool) -> None:
    """NoFaceError for a presence score below `PRESENT`, or a warning with `force`."""
    if presence >= PRESENT:
        return
    found = f"this may be no face: the landmark network's presence score is {presence:.2f}, {PRESENT:g} is needed"
    if not force:
        raise NoFaceError(found, advice=("box", "closer", "force"))
    log.warning("%s; it is used because 'force' is set", found)


def _box_region(box: tuple[float, float, float, float], image: Tensor) -> Region:
    """The square around a box given in px of an image [1, 3, H, W]."""
    try:
        left, top, right, bottom = map(float, box)
    except (TypeError, ValueError):
        raise SettingsError(f"box must be four numbers left, top, right, bottom in px; got {box!r}") from None
    height, width = image.shape[2:]
    # a box may reach over the edge, but the square around one of any size would need a picture of any size
    overhang = left >= -width and top >= -height and right <= 2 * width and bottom <= 2 * height
    if not (overhang and left < right and top < bottom and right > 0 and bottom > 0 and left < width and top < height):
        raise SettingsError(
            f"box must be left, top, right, bottom in px inside the {width}×{height} portrait; got {box}"
        )
    centre = image.new_tensor([[(left + right) / 2, (top + bottom) / 2]])
    size = image.new_tensor([max(right - left, bottom - top) * BOX_MARGIN])
    return Region(centre, size, torch.zeros_like(size))


def _detected_region(models: FaceModels, image: Tensor, face_index: int, threshold: float) -> Region:
    """The square around one of the faces that are found in an image [1, 3, H, W]."""
    faces = models.detector.detect(image, threshold, models.landmarker.confirm)
    if not faces:
        # a second detection with a low threshold, for the message only
        raise _no_face(models.detector.detect(image, LOWEST_SCORE), threshold)
    if not 0 <= face_index < len(faces):
        boxes = "; ".join(f"{k}: {box_text(face)}" for k, face in enumerate(faces))
        raise NoFaceError(
            f"there is no face number {face_index}: {len(faces)} face{'s were' if len(faces) > 1 else ' was'} found, "
            f"counted from 0 (left, top, right, bottom px): {boxes}"
        )
    # 0 is the default: a warning, because another face may be meant
    if face_index == 0 and len(faces) > 1:
        others = "; ".join(f"{k}: {box_text(face)}" for k, face in enumerate(faces))
        log.warning("%d faces were found, the largest is used (left, top, right, bottom px): %s", len(faces), others)
    return region_of_detection(faces[face_index])


def _no_face(nearly: list[Detection], threshold: float) -> NoFaceError:
    """The error for a portrait without a face, with the best score that was found."""
    advice = ("closer", "box")
    if not nearly:
        return NoFaceError(f"no face found (no score above {LOWEST_SCORE:g})", advice=advice)
    best = max(nearly, key=lambda face: face.score)
    if best.score >= threshold:
        return NoFaceError(
            f"no face found: what the detector takes for a face, the box {box_text(best)}, score {best.score:.2f}, is "
            "none by the landmark network",
            advice=advice,
        )
    return NoFaceError(
        f"no face found: the best score is {best.score:.2f} at box {box_text(best)}, the threshold is {threshold:g}",
        advice=("threshold", *advice),
    )


def box_text(face: Detection) -> str:
    """The box of a face as "(left, top, right, bottom)" in px."""
    return "(" + ", ".join(f"{x:.0f}" for x in face.box.tolist()) + ")"
