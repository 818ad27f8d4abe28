"""The whole paper as one readable function: portrait + audio → frames."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from .audio.encoder import encode_audio
from .audio_to_mesh.acoustic import AcousticSettings, acoustic_expression
from .audio_to_mesh.articulation import ArticulationSettings, apply_gains, generate_expression
from .audio_to_mesh.expression import ExpressionConfig, ExpressionGenerator
from .audio_to_mesh.pose_sampler import PoseSampler, PoseSamplerConfig, sample_head_pose
from .face.fit import fit_face
from .face.models import FaceModels, load_face_models
from .head.drive import drive_mesh
from .hub import WeightSet, load_module, resolve_weights
from .mesh_to_video.dense_motion import estimate_motion
from .mesh_to_video.generator import generate_frames
from .mesh_to_video.generator_network import FrameGenerator, FrameGeneratorConfig
from .mesh_to_video.motion_vae import MotionVae, MotionVaeConfig
from .mesh_to_video.ncc import render_ncc
from .mesh_to_video.paste import paste_back
from .mesh_to_video.source_view import view_source
from .motion.blink import add_blinks
from .motion.edit import smooth_all
from .motion.head_pose import fit_to_length, idle_pose, still_pose
from .structures import AudioFeatures, Expression, FaceFit, GeneratedFrames, HeadPose
from .timing import StageTimer
from .video.stream import chunk_frames, frame_ranges

log = logging.getLogger("vividtalk")

Network = TypeVar("Network", bound=nn.Module)

# Modes of the expression generator: a window of sound seen at once, or the paper's autoregression over past motion.
EXPRESSION_FILES = {"parallel": "expression.safetensors", "causal": "expression_causal.safetensors"}
ACOUSTIC = "acoustic"  # the baseline without weights
POSE_FILE = "pose.safetensors"
MOTION_FILE, GENERATOR_FILE = "motion.safetensors", "generator.safetensors"


@dataclass(frozen=True, slots=True)
class Models:
    """Everything that is loaded before a portrait can talk."""

    face: FaceModels
    expression: Mapping[str, ExpressionGenerator]  # by mode, see EXPRESSION_FILES
    pose: PoseSampler | None  # if the set has one; always on the CPU, so that a seed means one motion on any device
    motion: MotionVae | None  # refines the dense motion; None where the set has none: the closed form alone
    generator: FrameGenerator | None  # corrects frames; None as above
    weights: str  # where they came from

    def to(self, device: torch.device | str) -> Models:
        """The same models on another device."""
        expression = {mode: copy.deepcopy(model).to(device) for mode, model in self.expression.items()}
        motion, generator = (
            None if model is None else copy.deepcopy(model).to(device) for model in (self.motion, self.generator)
        )
        return Models(self.face.to(device), expression, self.pose, motion, generator, self.weights)


@dataclass(frozen=True, slots=True)
class TalkSettings:
    """What a user may choose."""

    fps: float = 25.0  # frames per second
    seed: int = 0  # of blinks, gaze and head motion
    pose: str = "codebook"  # codebook | idle | still; other sources come in as a HeadPose
    pose_amplitude: float = 1.0
    pose_temperature: float = 1.0  # of the codebook
    blinks: bool = True
    mode: str = "parallel"  # of the lips: parallel | causal | acoustic
    articulation: ArticulationSettings = field(default_factory=ArticulationSettings)
    strength: float = 1.0  # of motion-VAE and generator; 0 = closed form alone
    face_index: int = 0  # counted from the largest face
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom px, instead of detection
    threshold: float = 0.5  # of the face detector
    chunk: int = 8  # frames held at a time at most; the result does not depend on it


@dataclass(frozen=True, eq=False, slots=True)
class TalkStream:
    """A talking portrait, made chunk by chunk as it is read, in constant memory."""

    portrait: Tensor  # [1, 3, H, W]
    face: FaceFit
    expression: Expression
    pose: HeadPose
    models: Models
    settings: TalkSettings
    timer: StageTimer

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.expression.coefficients)

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
        """What is done to the portrait, and the frames [t, 3, H, W] in 0..1 that come of it, chunk by chunk."""
        timer, face, models, strength = self.timer, self.face, self.models, self.settings.strength
        with timer("render"):
            view = view_source(face)
        for part in frame_ranges(self.frames, chunk_frames(self.settings.chunk, self.height, self.width)):
            expression, pose = _frames(self.expression, self.pose, part)
            with timer("mesh"):
                mesh = drive_mesh(face, expression, pose)
            with timer("render"):
                render = render_ncc(face, mesh, view)
            with timer("motion"):
                motion = estimate_motion(face, render, view, model=models.motion, strength=strength)
            with timer("generate"):
                frames = generate_frames(face, render, motion, view, model=models.generator, strength=strength)
            with timer("paste"):
                chunk = paste_back(self.portrait, face, frames)
            yield frames, chunk


def load_models(weights: str = "embedded") -> Models:
    """Load the networks and the head model.

    Args:
        weights: "embedded", a folder, or "hub:ID@REVISION".
    """
    found = resolve_weights(weights)
    motion = _load(MotionVae, MotionVaeConfig, found, MOTION_FILE)
    generator = _load(FrameGenerator, FrameGeneratorConfig, found, GENERATOR_FILE)
    for name, network in (("motion-VAE", motion), ("generator", generator)):
        if network is None:
            log.warning("The weights '%s' have no %s: the closed form does its work alone.", weights, name)
    pose = _load(PoseSampler, PoseSamplerConfig, found, POSE_FILE)
    return Models(load_face_models(found), _load_expression(found), pose, motion, generator, weights)


def _load_expression(weights: WeightSet) -> dict[str, ExpressionGenerator]:
    """The expression generators that the weight set has, by mode."""
    files = {mode: weights.file(name) for mode, name in EXPRESSION_FILES.items() if name in weights}
    return {mode: load_module(ExpressionGenerator, ExpressionConfig, file) for mode, file in files.items()}


def _load(cls: type[Network], config: type, weights: WeightSet, name: str) -> Network | None:
    """A network of the weight set, if it has one."""
    return load_module(cls, config, weights.file(name)) if name in weights else None


def talk(
    models: Models,
    portrait: Tensor,
    waveform: Tensor,
    sample_rate: int,
    settings: TalkSettings | None = None,
    pose: HeadPose | None = None,
    timer: StageTimer | None = None,
) -> TalkStream:
    """Make a portrait say what is heard.

    Args:
        models: from `load_models`.
        portrait: [1, 3, H, W] RGB in 0..1.
        waveform: [C, N] audio of any rate and number of channels.
        sample_rate: Hz.
        settings: the user's choices.
        pose: motion on top of the portrait's own pose; None takes `settings.pose`.
        timer: collects the seconds of each stage.

    Returns:
        round(duration · fps) frames, computed as they are read.
    """
    settings, timer = settings or TalkSettings(), timer or StageTimer()
    with timer("fit"):
        face = fit_face(models.face, portrait, settings.face_index, settings.box, settings.threshold)
    with timer("audio"):
        features = encode_audio(waveform, sample_rate, settings.fps)
    with timer("expression"):
        expression = choose_expression(models, settings, face, features)
    with timer("pose"):
        pose = choose_pose(settings, len(expression.coefficients), pose, features, models, face)
    return TalkStream(portrait, face, expression, pose, models, settings, timer)


def drive(
    models: Models,
    portrait: Tensor,
    expression: Expression,
    pose: HeadPose,
    settings: TalkSettings | None = None,
    timer: StageTimer | None = None,
) -> TalkStream:
    """Put tracked or edited motion on a portrait [1, 3, H, W]; see `talk` for the arguments that both share."""
    settings, timer = settings or TalkSettings(), timer or StageTimer()
    with timer("fit"):
        face = fit_face(models.face, portrait, settings.face_index, settings.box, settings.threshold)
    return TalkStream(portrait, face, expression, pose, models, settings, timer)


def choose_expression(models: Models, settings: TalkSettings, face: FaceFit, features: AudioFeatures) -> Expression:
    """Lips and face for what is heard, with blinks if the settings want them; ValueError for a mode without weights."""
    mode, gains = settings.mode, settings.articulation
    if mode == ACOUSTIC:
        acoustic = AcousticSettings(seed=settings.seed)
        expression = acoustic_expression(features, len(face.model.lip_vertices), acoustic)
        expression = smooth_all(apply_gains(expression, gains), gains.smoothing_s)
    elif mode in models.expression:
        expression = generate_expression(models.expression[mode], features, face.id_coefficients, gains)
    else:
        known = ", ".join((*models.expression, ACOUSTIC))
        raise ValueError(f"There is no expression mode '{mode}' in the weights '{models.weights}': choose {known}.")
    return add_blinks(expression, settings.seed) if settings.blinks else expression


def choose_pose(
    settings: TalkSettings,
    frames: int,
    given: HeadPose | None,
    features: AudioFeatures | None = None,
    models: Models | None = None,
    face: FaceFit | None = None,
) -> HeadPose:
    """The head pose of a clip: the given one fitted to its length, or the source that the settings name.

    With `features` the idle head nods on what is stressed; the codebook needs them and `models`, and moves in the
    style of `face` if there is one.
    """
    if given is not None:
        return fit_to_length(given, frames, settings.fps)
    if settings.pose == "still":
        return still_pose(frames, settings.fps)
    if settings.pose == "idle":
        return idle_pose(frames, settings.fps, settings.seed, settings.pose_amplitude, features)
    if settings.pose == "codebook":
        if models is None or features is None:
            raise ValueError("The head pose source 'codebook' needs the models and the audio features.")
        style = None if face is None else face.id_coefficients
        controls = (settings.pose_temperature, settings.pose_amplitude, settings.seed)
        return sample_head_pose(pose_sampler(models), features, *controls, id_coefficients=style)
    raise ValueError(
        f"There is no head pose source {settings.pose!r}: choose still, idle or codebook, or give a head pose."
    )


def pose_sampler(models: Models) -> PoseSampler:
    """The pose sampler of the models; ValueError if their weight set has none."""
    if models.pose is None:
        raise ValueError(
            f"pose 'codebook' needs the weights '{POSE_FILE}', which the set '{models.weights}' does not contain; "
            "use the idle pose, or load a set that has them"
        )
    return models.pose


def _frames(expression: Expression, pose: HeadPose, part: slice) -> tuple[Expression, HeadPose]:
    """Some of the frames of a motion."""
    return (
        Expression(
            expression.coefficients[part],
            expression.lip_offsets[part],
            expression.fps,
            expression.neutral_coefficients,
            expression.neutral_lip_offsets,
        ),
        HeadPose(pose.rotation[part], pose.translation[part], pose.fps),
    )
