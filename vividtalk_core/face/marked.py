"""Which face a mask means, also where the mask marks everything but the face.

A picture with a transparent background gives such a mask, because image editors and ComfyUI mark what is transparent.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from ..errors import MismatchError, NoFaceError
from .detector import Detection
from .find import box_text, find_landmarks
from .models import FaceModels

log = logging.getLogger("vividtalk")

MARKED = 0.5  # of a mask's value, above which a pixel is marked
# A mask whose box covers more than this does not say where the face is.
AROUND = 0.8  # of the picture's area
# With fewer on marked pixels, the mask leaves out the face that its box holds.
ON_MASK = 0.2  # of the landmarks

Box = tuple[float, float, float, float]  # left, top, right, bottom px


def marked_face(
    models: FaceModels,
    image: Tensor,
    mask: Tensor,
    face_index: int = 0,
    threshold: float = 0.5,
    force: bool = False,
) -> tuple[Box | None, int]:
    """The face that a mask means, as the arguments `box` and `face_index` of `fit_face`.

    A mask drawn around one face gives its box. One that marks more, such as a whole person, chooses among the detected
    faces. One that covers the picture and leaves out its only face is taken for the transparent background of a cut-out
    picture: that face is used, and a warning says so.

    Args:
        models: the networks.
        image: [1, 3, H, W] RGB in 0..1.
        mask: [H, W] 0..1; what is above 0.5 is marked.
        face_index: which face, counted from the largest, where the mask marks several or none.
        threshold: of the detector, 0..1.
        force: use the mask's box as it is, whatever it holds.

    Raises:
        MismatchError: mask and picture have different sizes.
        NoFaceError: no face is marked; the message says what was found.
    """
    height, width = image.shape[2:]
    if tuple(mask.shape) != (height, width):
        found = f"The mask is {mask.shape[1]} x {mask.shape[0]} px and the portrait {width} x {height} px"
        raise MismatchError(f"{found}: they must be the same size.")
    marked = mask > MARKED
    if not bool(marked.any()):
        return None, face_index
    rows, columns = torch.nonzero(marked, as_tuple=True)
    box = (float(columns.min()), float(rows.min()), float(columns.max()) + 1, float(rows.max()) + 1)
    # only the landmark network checks the box, so that faces which the detector misses can be used
    if force or _holds_marked_face(models, image, marked, box):
        return box, face_index
    faces = models.detector.detect(image, threshold, models.landmarker.confirm)
    chosen = [index for index, face in enumerate(faces) if _centre_is_marked(face, marked)]
    marks = f"the mask marks {100 * float(marked.float().mean()):.0f} % of the picture"
    everywhere = _share(box, image) >= AROUND
    if face_index < len(chosen):
        left_out = [box_text(face) for index, face in enumerate(faces) if index not in chosen]
        if everywhere and left_out:
            log.warning("%s and leaves out the face at %s; if that one is meant, invert it", marks, ", ".join(left_out))
        return None, chosen[face_index]
    if not chosen and len(faces) == 1 and face_index == 0 and everywhere:
        log.warning(
            "%s, but not its only face at %s (left, top, right, bottom px): that face is used, as in a picture with a "
            "transparent background.",
            marks,
            box_text(faces[0]),
        )
        return None, 0
    if chosen:
        raise NoFaceError(
            f"there is no face number {face_index}: {marks} and {len(chosen)} of its faces, counted from 0"
        )
    where = ", ".join(f"{x:.0f}" for x in box)
    raise NoFaceError(
        f"{marks}, and no face is found in its box ({where}: left, top, right, bottom px); {_faces_text(faces)}",
        advice=("invert", "unlink", "force"),
    )


def _share(box: Box, image: Tensor) -> float:
    """Area of a box over that of its picture [1, 3, H, W]."""
    left, top, right, bottom = box
    return (right - left) * (bottom - top) / (image.shape[2] * image.shape[3])


def _holds_marked_face(models: FaceModels, image: Tensor, marked: Tensor, box: Box) -> bool:
    """Whether the box on an image [1, 3, H, W] holds a face which the mask [H, W] does not leave out."""
    try:
        landmarks = find_landmarks(models, image, box=box)
    except NoFaceError:
        return False
    if _share(box, image) < AROUND:
        return True
    x, y = landmarks[:, 0].long(), landmarks[:, 1].long()
    inside = marked[y.clamp(0, len(marked) - 1), x.clamp(0, marked.shape[1] - 1)]
    return float(inside.float().mean()) >= ON_MASK


def _centre_is_marked(face: Detection, marked: Tensor) -> bool:
    """Whether the middle of a detected face is on the mask [H, W]."""
    left, top, right, bottom = face.box.tolist()
    row, column = int((top + bottom) / 2), int((left + right) / 2)
    return bool(marked[min(max(row, 0), len(marked) - 1), min(max(column, 0), marked.shape[1] - 1)])


def _faces_text(faces: list[Detection]) -> str:
    """How many faces a picture shows, and where."""
    if not faces:
        return "none is found elsewhere either"
    return f"found elsewhere: {', '.join(box_text(face) for face in faces)}"
