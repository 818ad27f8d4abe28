"""Distance of the 3DMM alone from the landmarks, in px of the 256 crop, before any registration offsets.

`python -m vividtalk_core evaluate fit FOLDER …` prints it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from ...errors import MediaError, MissingFileError, NoFaceError, SettingsError
from ...face.align import face_crop, to_crop
from ...face.find import find_landmarks
from ...face.fit import fit_points
from ...face.models import FaceModels
from ...geometry import project, rotation_matrix
from ...head.morphable import landmark_positions, shape
from ...head.topology import INNER_LIPS, OUTER_LIPS
from ...pixels import to_float
from ...video.reader import read_image, read_video

log = logging.getLogger("vividtalk")

STILLS = (".jpg", ".jpeg", ".png", ".webp")
CLIPS = (".mp4", ".mov", ".webm", ".mkv")
# Of the face detector: below the default, so that drawings count too.
THRESHOLD = 0.3


@dataclass(frozen=True, slots=True)
class FitError:
    """Mean distances between projected and detected landmarks."""

    name: str
    frames: int  # in which a face was found
    lips_px: float  # of the 40 lip landmarks
    all_px: float  # of all 468


def fit_error(models: FaceModels, name: str, frames: Iterable[Tensor], threshold: float = THRESHOLD) -> FitError | None:
    """Fit one identity to the frames of a still or clip; None if no frame shows a face.

    Args:
        models: from `load_face_models`.
        name: for the result.
        frames: [1, 3, H, W] RGB in 0..1 each.
        threshold: of the face detector.
    """
    found = []
    for frame in frames:
        try:
            landmarks = find_landmarks(models, frame, threshold=threshold)
        except (NoFaceError, MediaError) as problem:
            log.info("%s: %s", name, problem)
            continue
        # px of the crop and not of the image, so that large and small pictures can be averaged.
        found.append(to_crop(landmarks, face_crop(landmarks, *frame.shape[2:])))
    if not found:
        return None
    errors = landmark_errors(models, torch.stack(found))
    return FitError(name, len(found), float(errors[:, list(INNER_LIPS + OUTER_LIPS)].mean()), float(errors.mean()))


def landmark_errors(models: FaceModels, landmarks: Tensor) -> Tensor:
    """Distances [T, 468] in px between landmarks [T, 478, 3] px of the 256 crop and the 3DMM fitted to them."""
    # One identity for all frames of a clip: with one each, identities could take the place of expressions.
    identity, expression, pose = fit_points(models, landmarks)
    vertices = shape(models.head, identity, expression)
    camera = vertices @ rotation_matrix(pose.rotation).mT + pose.translation[:, None]  # [T, V, 3]
    projected = project(landmark_positions(models.head, camera))
    distance: Tensor = (projected[..., :2] - landmarks[:, :468, :2]).norm(dim=-1)
    return distance


def folder_errors(models: FaceModels, folder: Path, every: int = 10, limit: int = 40) -> list[FitError]:
    """The errors of every still and clip of a folder, in alphabetical order; files without a face are left out.

    Args:
        models: from `load_face_models`.
        folder: with images and videos.
        every: step between the frames of a clip that are used.
        limit: frames of a clip.

    Raises:
        MissingFileError: there is no such folder, or it holds neither images nor videos.
        SettingsError: `every` or `limit` is below 1.
    """
    if every < 1 or limit < 1:
        raise SettingsError(f"every and limit must be at least 1; got {every} and {limit}")
    if not folder.is_dir():
        raise MissingFileError(f"there is no folder '{folder}'")
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in STILLS + CLIPS]
    if not files:
        raise MissingFileError(f"no images or videos in '{folder}': name a folder of {', '.join(STILLS + CLIPS)} files")
    results = (fit_error(models, path.name, _frames(path, every, limit)) for path in files)
    return [result for result in results if result is not None]


def _frames(path: Path, every: int, limit: int) -> Iterator[Tensor]:
    """[1, 3, H, W] in 0..1 each."""
    if path.suffix.lower() in STILLS:
        yield read_image(path)
        return
    clip = read_video(path, with_audio=False)
    for frame in itertools.islice(clip.frames, 0, every * limit, every):
        yield to_float(frame)[None]


def mean_error(errors: Sequence[FitError]) -> FitError:
    """The mean over files, each counted once; NoFaceError if there is none."""
    if not errors:
        raise NoFaceError("no file shows a face that can be found: there is nothing to average")
    frames = sum(error.frames for error in errors)
    lips, everything = fmean(error.lips_px for error in errors), fmean(error.all_px for error in errors)
    return FitError(f"mean of {len(errors)}", frames, lips, everything)
