"""Tracks of many clips, kept on disk so that an interrupted preparation can continue."""

from __future__ import annotations

import contextlib
import functools
import zipfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...errors import DatasetError, MediaError, MissingFileError, NoFaceError
from ...face.models import FaceModels, load_face_models
from ...face.track import Track, track_video
from ...files import whole_file
from ...structures import ARKIT_NAMES, check_shapes
from ...video.reader import read_video
from ..dataset.layout import refusal_path
from ..dataset.motion_shard import curve_shapes
from .workers import Cancelled, run_jobs

KEYS = ("coefficients", "lip_offsets", "rotation", "translation", "fps", "landmarks", "identity", "interpolated")


@dataclass(frozen=True, eq=False, slots=True)
class ClipTrack:
    """The curves of a clip of T frames at its own rate, as tracked."""

    coefficients: Tensor  # [T, 52] β
    lip_offsets: Tensor  # [T, L, 3] float16, model units
    rotation: Tensor  # [T, 3] rad, absolute
    translation: Tensor  # [T, 3] model units, absolute
    landmarks: Tensor  # [T, 478, 2] px of the video frame
    identity: Tensor  # [I] α
    interpolated: Tensor  # [K] int64, frames in which no face was found; their values are interpolated
    fps: float

    def __post_init__(self) -> None:
        check_shapes(
            **curve_shapes(self),
            landmarks=(self.landmarks, "T 478 2"),
            identity=(self.identity, "I"),
            interpolated=(self.interpolated, "K"),
        )


def write_track(path: Path, track: Track) -> None:
    """Write what preparation needs of a track, whole or not at all."""
    crop = track.crop
    with whole_file(path) as part, part.open("wb") as stream:
        np.savez(
            stream,
            coefficients=track.expression.coefficients.numpy(),
            # Most of a track: half precision halves it, and its rounding is far below the noise of tracking.
            lip_offsets=track.expression.lip_offsets.half().numpy(),
            rotation=track.pose.rotation.numpy(),
            translation=track.pose.translation.numpy(),
            fps=np.float64(track.pose.fps),
            landmarks=track.landmarks_2d.numpy(),
            identity=track.id_coefficients.numpy(),
            interpolated=np.array(track.interpolated, np.int64),
            crop=np.array((crop.left, crop.top, crop.size)),
        )


def read_track(path: Path) -> ClipTrack:
    """Read what `write_track` wrote; DatasetError if it is damaged."""
    try:
        # Never pickles: an array file of a stranger could run code.
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in KEYS}
        return _make_track(arrays)
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path} is not a track of `train prepare` ({error}); delete it, then it is made again."
        ) from error


def _make_track(arrays: Mapping[str, npt.NDArray[Any]]) -> ClipTrack:
    """The track of arrays named like its fields, e.g. coefficients [T, E]; ValueError where shapes do not fit."""
    tensors = {key: torch.from_numpy(values) for key, values in arrays.items() if key != "fps"}
    if tensors["coefficients"].shape[-1:] != (len(ARKIT_NAMES),):
        raise ValueError(f"coefficients must be [T, {len(ARKIT_NAMES)}]; got {list(tensors['coefficients'].shape)}")
    return ClipTrack(
        coefficients=tensors["coefficients"],
        lip_offsets=tensors["lip_offsets"],
        rotation=tensors["rotation"],
        translation=tensors["translation"],
        landmarks=tensors["landmarks"],
        identity=tensors["identity"],
        interpolated=tensors["interpolated"].long(),
        fps=float(arrays["fps"]),
    )


def track_clips(jobs: Sequence[tuple[Path, Path]], workers: int) -> Generator[tuple[Path, str], None, None]:
    """Track videos that have no track yet.

    Args:
        jobs: (video, path of its track).
        workers: processes, one thread each; 1 tracks in this one.

    Yields:
        (video, "" or the reason why it could not be tracked), as they finish.
    """
    with contextlib.closing(run_jobs(_track_one, jobs, workers)) as tracking:
        for (video, _), reason in tracking:
            yield video, reason


@functools.cache
def _models() -> FaceModels:
    """Loaded once in each process."""
    return load_face_models()


def _track_one(job: tuple[Path, Path], cancelled: Cancelled) -> str:
    """Write the track of a video; "" or the reason why it has none, which is kept so that it is not tried again."""
    video, out = job

    def progress(done: int, total: int, preview: Tensor | None = None, /) -> None:
        if cancelled():
            raise InterruptedError(f"{video.name} was interrupted at frame {done}")

    try:
        clip = read_video(video, with_audio=False)
        write_track(out, track_video(_models(), clip.frames, clip.fps, progress))
    # Only what is wrong with the video: any other error is a bug, and must not be kept as a refusal.
    except (NoFaceError, MediaError, MissingFileError) as error:
        with whole_file(refusal_path(out)) as part:
            part.write_text(str(error), encoding="utf-8")
        return str(error)
    return ""
