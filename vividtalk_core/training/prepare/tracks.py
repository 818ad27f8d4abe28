"""Tracking of many clips, in several processes, kept on disk so that an interrupted preparation goes on."""

from __future__ import annotations

import functools
import multiprocessing
import signal
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np
import torch
from torch import Tensor

from ...face.models import FaceModels, load_face_models
from ...face.track import Track, track_video
from ...files import whole_file
from ...progress import Progress
from ...structures import check_shapes
from ...video.reader import read_video

KEYS = ("coefficients", "lip_offsets", "rotation", "translation", "fps", "landmarks", "identity", "interpolated")


@dataclass(frozen=True, eq=False, slots=True)
class ClipTrack:
    """The curves of a clip of T frames at its own rate, as tracked."""

    coefficients: Tensor  # [T, E] β
    lip_offsets: Tensor  # [T, L, 3] float16, model units
    rotation: Tensor  # [T, 3] rad, absolute
    translation: Tensor  # [T, 3] model units, absolute
    landmarks: Tensor  # [T, 478, 2] px of the video frame
    identity: Tensor  # [I] α
    interpolated: Tensor  # [K] int64, frames in which no face was seen
    fps: float

    def __post_init__(self) -> None:
        check_shapes(
            coefficients=(self.coefficients, "T 52"),
            lip_offsets=(self.lip_offsets, "T L 3"),
            rotation=(self.rotation, "T 3"),
            translation=(self.translation, "T 3"),
            landmarks=(self.landmarks, "T 478 2"),
            identity=(self.identity, "I"),
            interpolated=(self.interpolated, "K"),
        )


def write_track(path: Path, track: Track) -> None:
    """Keep what preparation needs of a track, whole or not at all."""
    crop = track.crop
    with whole_file(path) as part, part.open("wb") as stream:
        np.savez(
            stream,
            coefficients=track.expression.coefficients.numpy(),
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
    """Read what `write_track` wrote; ValueError if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in KEYS}
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a track of `prepare` ({error}); delete it, and it is made again.") from error
    fps = float(arrays.pop("fps"))
    interpolated = torch.from_numpy(arrays.pop("interpolated")).long()
    return ClipTrack(**{k: torch.from_numpy(v) for k, v in arrays.items()}, interpolated=interpolated, fps=fps)


def track_clips(jobs: Iterable[tuple[Path, Path]], workers: int) -> Iterator[tuple[Path, str]]:
    """Track videos that have no track yet.

    Args:
        jobs: (video, where its track is written).
        workers: processes, one thread each; 1 tracks in this one.

    Yields:
        (video, "" or why it could not be tracked), as they are done.
    """
    jobs = list(jobs)
    if workers > 1 and len(jobs) > 1:
        yield from _track_parallel(jobs, min(workers, len(jobs)))
    else:
        yield from ((video, _track_one(video, out)) for video, out in jobs)


def _track_parallel(jobs: list[tuple[Path, Path]], workers: int) -> Iterator[tuple[Path, str]]:
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    with context.Manager() as manager, ProcessPoolExecutor(workers, context, _start_worker) as pool:
        stop = manager.Event()
        pending = {pool.submit(_track_in_worker, video, out, stop): video for video, out in jobs}
        try:
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
        finally:
            # after an interruption workers stop at their next frame, and nothing new is begun
            stop.set()
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; this one hears it from its parent
    torch.set_num_threads(1)


@functools.cache
def _models() -> FaceModels:
    """Loaded once in each process."""
    return load_face_models()


def _track_in_worker(video: Path, out: Path, stop: Event) -> str:
    def progress(done: int, total: int, preview: Tensor | None) -> None:
        if stop.is_set():
            raise InterruptedError(f"{video.name} was interrupted at frame {done}")

    return _track_one(video, out, progress)


def _track_one(video: Path, out: Path, progress: Progress | None = None) -> str:
    """Write the track of a video; "" or the reason why it has none, which is kept so that it is not tried again."""
    try:
        clip = read_video(video, with_audio=False)
        write_track(out, track_video(_models(), clip.frames, clip.fps, progress))
    except (ValueError, FileNotFoundError) as error:
        with whole_file(refusal_path(out)) as part:
            part.write_text(str(error), encoding="utf-8")
        return str(error)
    return ""


def refusal_path(track: Path) -> Path:
    """Where the reason stands why there is no track."""
    return track.with_name(f"{track.name}.refused.txt")
