"""How well the 3DMM alone explains the landmarks: px of the 256 crop, before any registration offsets.

Run as `python -m vividtalk_core.eval.fit_error FOLDER [FOLDER ...]`.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...face.align import face_crop, to_crop
from ...face.find import find_landmarks
from ...face.fit import fit_points
from ...face.models import FaceModels, load_face_models
from ...geometry import project, rotation_matrix
from ...head.morphable import landmark_positions, shape
from ...head.topology import INNER_LIPS, OUTER_LIPS
from ...pixels import to_float
from ...video.reader import read_image, read_video

log = logging.getLogger("vividtalk")

STILLS = (".jpg", ".jpeg", ".png", ".webp")
CLIPS = (".mp4", ".mov", ".webm", ".mkv")


@dataclass(frozen=True, slots=True)
class FitError:
    """Mean distances between projected and detected landmarks."""

    name: str
    frames: int  # in which a face was found
    lips_px: float  # of the 40 lip landmarks
    all_px: float  # of all 468


def fit_error(models: FaceModels, name: str, frames: Iterable[Tensor], threshold: float = 0.3) -> FitError | None:
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
        except ValueError as error:
            log.info("%s: %s", name, error)
            continue
        found.append(to_crop(landmarks, face_crop(landmarks, *frame.shape[2:])))
    if not found:
        return None
    error = landmark_errors(models, torch.stack(found))
    return FitError(name, len(found), float(error[:, list(INNER_LIPS + OUTER_LIPS)].mean()), float(error.mean()))


def landmark_errors(models: FaceModels, landmarks: Tensor) -> Tensor:
    """Distances [T, 468] in px between landmarks [T, 478, 3] px of the 256 crop and the 3DMM fitted to them."""
    identity, expression, pose = fit_points(models, landmarks)
    vertices = shape(models.head, identity, expression)
    camera = vertices @ rotation_matrix(pose.rotation).mT + pose.translation[:, None]
    projected = project(landmark_positions(models.head, camera))
    return (projected[..., :2] - landmarks[:, :468, :2]).norm(dim=-1)


def folder_errors(models: FaceModels, folder: Path, every: int = 10, limit: int = 40) -> list[FitError]:
    """The errors of every still and clip of a folder, in alphabetical order; files without a face are left out.

    Args:
        models: from `load_face_models`.
        folder: with pictures and videos.
        every: which frames of a clip are looked at.
        limit: frames of a clip.
    """
    if every < 1 or limit < 1:
        raise ValueError(f"every and limit must be at least 1; got {every} and {limit}")
    files = [path for path in sorted(Path(folder).iterdir()) if path.suffix.lower() in STILLS + CLIPS]
    if not files:
        raise FileNotFoundError(f"no pictures or videos in {folder}")
    results = (fit_error(models, path.name, _frames(path, every, limit)) for path in files)
    return [result for result in results if result is not None]


def _frames(path: Path, every: int, limit: int) -> Iterator[Tensor]:
    """[1, 3, H, W] in 0..1 each."""
    if path.suffix.lower() in STILLS:
        yield read_image(path)
        return
    clip = read_video(path, with_audio=False)
    for frame in itertools.islice(clip.frames, 0, every * limit, every):
        yield to_float(frame[None])


def mean_error(errors: list[FitError]) -> FitError:
    """The mean over files, each counted once."""
    if not errors:
        raise ValueError("no file with a face: nothing to average")
    lips, everything = (sum(getattr(e, name) for e in errors) / len(errors) for name in ("lips_px", "all_px"))
    return FitError(f"mean of {len(errors)}", sum(e.frames for e in errors), lips, everything)


def main() -> None:
    """Print one JSON line per file and one with the mean of each folder."""
    models = load_face_models("embedded")
    for folder in sys.argv[1:]:
        errors = folder_errors(models, Path(folder))
        for error in [*errors, mean_error(errors)]:
            sys.stdout.write(json.dumps(asdict(error)) + "\n")


if __name__ == "__main__":
    main()
