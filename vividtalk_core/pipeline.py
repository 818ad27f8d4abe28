"""All stages of the paper in order: portrait + audio → frames."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from .audio.encoder import encode_audio
from .audio_to_mesh.choose import choose_expression, choose_head_and_face
from .audio_to_mesh.models import AudioToMeshModels
from .face.fit import fit_face
from .face.models import FaceModels, load_face_models
from .face.track import Track, track_video
from .head.drive import drive_mesh
from .hub import WeightSet, resolve_weights
from .mesh_to_video.dense_motion import estimate_motion
from .mesh_to_video.generator import generate_frames
from .mesh_to_video.models import MeshToVideoModels
from .mesh_to_video.ncc import render_ncc
from .mesh_to_video.paste import paste_back
from .mesh_to_video.source_view import view_source
from .progress import Progress
from .settings import TalkSettings as TalkSettings  # part of the interface of `talk`
from .structures import Audio, Expression, FaceFit, GeneratedFrames, HeadMotion, SourceView
from .threads import default_workers, in_order, single_threaded
from .timing import StageTimer
from .video.reader import VideoClip, read_video
from .video.stream import chunk_frames, frame_ranges


class Models:
    """All networks of the pipeline; each part is loaded when it is first used.

    Args:
        weights: where the files are, from `hub.resolve_weights`.
        device: of all networks but the pose sampler.
    """

    def __init__(self, weights: WeightSet, device: torch.device | str = "cpu") -> None:
        self._weights, self.device = weights, torch.device(device)
        self.audio_to_mesh = AudioToMeshModels(weights, device)
        self.mesh_to_video = MeshToVideoModels(weights, device)

    @property
    def weights(self) -> str:
        """Where the weights come from, as the user wrote it."""
        return self._weights.source

    @cached_property
    def face(self) -> FaceModels:
        """The head 3DMM and the networks that find and fit a face."""
        return load_face_models(self._weights).to(self.device)

    def to(self, device: torch.device | str) -> Models:
        """The same models on another device; these stay where they are."""
        moved = Models(self._weights, device)
        moved.audio_to_mesh, moved.mesh_to_video = self.audio_to_mesh.to(device), self.mesh_to_video.to(device)
        return moved

    def replaced(self, mesh_to_video: MeshToVideoModels) -> Models:
        """The same models with other networks of stage 2."""
        models = Models(self._weights, self.device)
        # with what `cached_property` has stored, so that nothing is loaded twice
        models.__dict__.update(self.__dict__ | {"mesh_to_video": mesh_to_video})
        return models


def load_models(weights: str | os.PathLike[str] = "embedded") -> Models:
    """The models of a weight set; its files are found, downloaded if needed, and checked for damage.

    Args:
        weights: "embedded", a folder, or "hub:ID@REVISION".

    Raises:
        WeightsError: a file is damaged.
        MissingFileError: there is no such folder or repository.
        HubError: the Hugging Face Hub cannot be reached.
    """
    # checked now, although parts are loaded later: a damaged file is reported before any work is done
    return Models(resolve_weights(weights).checked())


@lru_cache(maxsize=1)
def embedded_models() -> Models:
    """The models inside the package, loaded once for all calls without other models."""
    return load_models()


@dataclass(frozen=True, eq=False, slots=True)
class TalkStream:
    """A talking portrait: iterate over it for its frames. They are computed chunk by chunk, in constant memory."""

    portrait: Tensor  # [1, 3, H, W]
    face: FaceFit
    expression: Expression
    pose: HeadMotion
    models: Models
    settings: TalkSettings
    timer: StageTimer

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return self.expression.frame_count

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.expression.fps

    @property
    def height(self) -> int:
        """Px of the portrait."""
        return self.portrait.shape[2]

    @property
    def width(self) -> int:
        """Px of the portrait."""
        return self.portrait.shape[3]

    def __iter__(self) -> Iterator[Tensor]:
        """Chunks of frames [t, 3, H, W] in 0..1."""
        return (frames for _, frames in self.generated())

    def generated(self) -> Iterator[tuple[GeneratedFrames, Tensor]]:
        """Chunks of the generated crop and of the frames [t, 3, H, W] in 0..1 that it gives at the portrait's size.

        Once the curves are known, frames do not depend on each other: several threads compute chunks at the same time.
        """
        # one thread, as in the workers: another number may change the last bit of a sum
        with single_threaded():
            with self.timer("render"):
                view = view_source(self.face)
            networks = self.models.mesh_to_video
            # loaded before several threads ask for them: each would read the files
            with self.timer("load"):
                _ = networks.motion, networks.generator
            # fewer of the large frames at once, so that memory does not grow with the portrait either
            chunk = chunk_frames(self.settings.chunk, self.height, self.width)
            workers = self.settings.workers or default_workers()
            parts = in_order(partial(self._chunk, view), frame_ranges(self.frame_count, chunk), workers)
            start = time.perf_counter()
            for frames, images, seconds in parts:
                self.timer.add(seconds, time.perf_counter() - start)
                yield frames, images
                # the caller's own time between two chunks is not counted
                start = time.perf_counter()

    def _chunk(self, view: SourceView, part: slice) -> tuple[GeneratedFrames, Tensor, dict[str, float]]:
        """Stage 2 for some of the frames [t, 3, H, W]: see `generated`; and the seconds of each stage."""
        timer, networks, strength = StageTimer(), self.models.mesh_to_video, self.settings.strength
        with timer("mesh"):
            mesh = drive_mesh(self.face, self.expression.frames(part), self.pose.frames(part))
        with timer("render"):
            render = render_ncc(view, mesh)
        with timer("motion"):
            motion = estimate_motion(render, networks.motion, strength)
        with timer("generate"):
            frames = generate_frames(render, motion, networks.generator, strength)
        with timer("paste"):
            images = paste_back(self.portrait, self.face, frames)
        return frames, images, timer.seconds


def talk(
    portrait: Tensor,
    audio: Audio | tuple[Tensor, int],
    settings: TalkSettings | None = None,
    *,
    models: Models | None = None,
    pose: HeadMotion | None = None,
    timer: StageTimer | None = None,
) -> TalkStream:
    """Make a portrait speak: the frames of a talking head whose lips follow a sound.

    Args:
        portrait: [1, 3, H, W] RGB in 0..1, from `read_image`.
        audio: waveform [C, N] of any number of channels and its rate in Hz, from `read_audio`.
        settings: the user's choices.
        models: from `load_models`; None takes the weights inside the package.
        pose: motion on top of the portrait's own pose, fitted to the clip's length; None takes `settings.pose`.
        timer: collects the seconds of each stage.

    Returns:
        round(duration · fps) frames, computed as they are read.

    Raises:
        NoFaceError: the portrait holds no such face; the message says what was found.
        MediaError: portrait or sound cannot be used.
        TypeError: an argument is of another type.
    """
    settings, models, timer = settings or TalkSettings(), models or embedded_models(), timer or StageTimer()
    _check_types(settings, models)
    with single_threaded():
        return _talk(_in_float32(portrait), Audio.of(audio), settings, models, pose, timer)


def _talk(
    portrait: Tensor, audio: Audio, settings: TalkSettings, models: Models, pose: HeadMotion | None, timer: StageTimer
) -> TalkStream:
    """Stage 1 for a portrait [1, 3, H, W] in one thread; see `talk`."""
    with timer("fit"):
        face = _fit(models, portrait, settings)
    with timer("audio"):
        waveform, sample_rate = audio
        features = encode_audio(waveform, sample_rate, settings.fps, settings.encoder)
    with timer("pose"):
        pose, upper_face = choose_head_and_face(
            settings.pose if pose is None else pose,
            features,
            models=models.audio_to_mesh,
            face=face,
            amplitude=settings.pose_amplitude,
            temperature=settings.pose_temperature,
            seed=settings.seed,
            face_amplitude=settings.face_amplitude,
        )
    with timer("expression"):
        expression = choose_expression(
            models.audio_to_mesh,
            settings.mode,
            features,
            face,
            settings.articulation,
            settings.seed,
            settings.blinks,
            upper_face,
        )
    return TalkStream(portrait, face, expression, pose, models, settings, timer)


def drive(
    portrait: Tensor,
    expression: Expression,
    pose: HeadMotion,
    settings: TalkSettings | None = None,
    *,
    models: Models | None = None,
    timer: StageTimer | None = None,
) -> TalkStream:
    """Move a portrait by tracked or edited curves.

    Args:
        portrait: [1, 3, H, W] RGB in 0..1, from `read_image`.
        expression: T frames of curves, from `track` or a curve file.
        pose: T frames of head motion at the same frame rate.
        settings: which face is meant, and how strongly the networks of stage 2 count.
        models: from `load_models`; None takes the weights inside the package.
        timer: collects the seconds of each stage.

    Returns:
        T frames, computed as they are read.

    Raises:
        NoFaceError: the portrait holds no such face; the message says what was found.
        MediaError: the portrait cannot be used.
        MismatchError: expression and head motion differ in length or frame rate, or are for another head model.
        TypeError: an argument is of another type.
    """
    settings, models, timer = settings or TalkSettings(), models or embedded_models(), timer or StageTimer()
    _check_types(settings, models)
    portrait = _in_float32(portrait)
    with single_threaded(), timer("fit"):
        face = _fit(models, portrait, settings)
    return TalkStream(portrait, face, expression, pose, models, settings, timer)


def track(video: VideoClip | str | Path, *, models: Models | None = None, progress: Progress | None = None) -> Track:
    """Expression and head pose of the largest face of a video.

    Args:
        video: a file, or a clip from `read_video`.
        models: from `load_models`; None takes the weights inside the package.
        progress: called after each frame.

    Raises:
        NoFaceError: no face for longer than can be bridged.
        MediaError: the file is not a video.
    """
    # the sound of a driving video is not used
    clip = video if isinstance(video, VideoClip) else read_video(video, with_audio=False)
    with single_threaded():
        return track_video((models or embedded_models()).face, clip.frames, clip.fps, progress, total=clip.frame_count)


def _check_types(settings: object, models: object) -> None:
    """TypeError unless these are settings and models."""
    if not isinstance(settings, TalkSettings):
        raise TypeError(f"settings must be TalkSettings(...); got {type(settings).__name__}")
    if not isinstance(models, Models):
        raise TypeError(f"models must be what load_models gives; got {type(models).__name__}")


def _in_float32(portrait: Tensor) -> Tensor:
    """A portrait [1, 3, H, W] of any floating-point type in the networks' own; `check_portrait` refuses the rest."""
    return portrait.float() if isinstance(portrait, Tensor) and portrait.is_floating_point() else portrait


def _fit(models: Models, portrait: Tensor, settings: TalkSettings) -> FaceFit:
    """The face that the settings choose in a portrait [1, 3, H, W]."""
    return fit_face(
        models.face,
        portrait,
        face_index=settings.face_index,
        box=settings.box,
        threshold=settings.threshold,
        force=settings.force,
    )
