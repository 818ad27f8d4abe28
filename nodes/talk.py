"""The whole chain in one node, as frames or as a video of any length, and videos of frames."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import Input, io
from torch import Tensor

from ..vividtalk_core.audio.encoder import WHISPER
from ..vividtalk_core.pipeline import Models, TalkStream, embedded_models, talk
from ..vividtalk_core.settings import ArticulationSettings, TalkSettings
from ..vividtalk_core.structures import HeadMotion
from . import convert, face, running, sockets
from .models import encoder_inputs, encoder_source

WORDS = (
    "lip sync",
    "lipsync",
    "talking avatar",
    "talking portrait",
    "speech",
    "audio driven",
    "animate portrait",
    "dub",
)


def talk_inputs() -> list[io.Input]:
    """The inputs of both nodes."""
    return [
        io.Image.Input("portrait", tooltip=face.PORTRAIT),
        io.Audio.Input("audio", tooltip="The speech."),
        convert.widget(
            TalkSettings,
            "pose",
            name="motion",
            tooltip="How the head moves: as learned from people who talk, swaying a little, or not at all. A linked "
            "head_pose is used instead.",
        ),
        convert.widget(TalkSettings, "pose_amplitude", name="amplitude"),
        convert.widget(ArticulationSettings, "lip_strength"),
        convert.widget(TalkSettings, "fps"),
        convert.widget(TalkSettings, "seed", tooltip="Another seed gives other blinks and other head motion."),
        convert.widget(TalkSettings, "face_index"),
        sockets.Models.Input(
            "model", optional=True, tooltip="From Load Models; the weights inside the pack if nothing is linked."
        ),
        sockets.HeadPose.Input(
            "head_pose", optional=True, tooltip="Head motion of your own; it is fitted to the length."
        ),
        io.Mask.Input("mask", optional=True, tooltip=face.MASK),
        # optional and last, so that older graphs, which do not have them, run and keep the values of their widgets
        convert.widget(
            TalkSettings,
            "strength",
            tooltip="Strength of the networks of stage 2 (motion-VAE, generator): 0 = warp and rules alone, "
            "1 = as trained.",
            optional=True,
        ),
        convert.widget(TalkSettings, "force", tooltip=face.FORCE, optional=True),
        *encoder_inputs("encoder_hub_id", optional=True),
        convert.widget(
            TalkSettings,
            "face_amplitude",
            tooltip="How far brows, cheeks and lids move; 0 leaves them to the network of the lips.",
            optional=True,
        ),
    ]


def start(
    portrait: Tensor,
    audio: Input.Audio,
    motion: str,
    amplitude: float,
    lip_strength: float,
    fps: float,
    seed: int,
    face_index: int,
    model: Models | None = None,
    head_pose: HeadMotion | None = None,
    mask: Tensor | None = None,
    strength: float = 1.0,
    force: bool = False,
    encoder: str = WHISPER,
    encoder_hub_id: str = "",
    face_amplitude: float = 1.0,
) -> TalkStream:
    """The stream of frames for the inputs of `talk_inputs`; of the IMAGE [B, H, W, C] the first picture is used."""
    models, picture = model or embedded_models(), convert.one_picture(portrait)
    convert.note_absent_networks(models, strength)
    box, index = convert.face_choice(models, picture, mask, face_index, TalkSettings().threshold, force)
    settings = TalkSettings(
        fps=fps,
        seed=seed,
        pose=motion,
        pose_amplitude=amplitude,
        face_amplitude=face_amplitude,
        encoder=encoder_source(encoder, encoder_hub_id),
        articulation=ArticulationSettings(lip_strength=lip_strength),
        strength=strength,
        face_index=index,
        box=box,
        force=force,
    )
    return talk(picture, convert.sound(audio), settings, models=models, pose=head_pose)


class TalkingHead(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_TalkingHead",
            display_name="Talking Head (lip sync, avatar)",
            category="VividTalk",
            description="Makes the portrait speak, lip-synced to the audio: every stage in one node, at the portrait's "
            "own size. Animates a portrait as a talking avatar, or dubs it with other speech.",
            **convert.search_words(*WORDS, "avatar", "digital human"),
            inputs=talk_inputs(),
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Float.Output(display_name="fps"),
                io.Video.Output(display_name="video"),
            ],
        )

    @classmethod
    @running.node
    def execute(cls, portrait: Tensor, audio: Input.Audio, **choices: Any) -> io.NodeOutput:
        stream = start(portrait, audio, **choices)
        images = convert.collect(stream, stream.frame_count, convert.progress())
        return io.NodeOutput(images, audio, stream.fps, convert.video(images, stream.fps, audio))


class TalkingHeadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_TalkingHeadVideo",
            display_name="Talking Head (long video)",
            category="VividTalk",
            description="Talking Head for speech of any length: frames are written into a video file at once. "
            "Lip sync for long audio, talking avatar.",
            **convert.search_words(*WORDS, "avatar", "long audio"),
            inputs=talk_inputs(),
            outputs=[io.Video.Output(display_name="video")],
        )

    @classmethod
    @running.node
    def execute(cls, portrait: Tensor, audio: Input.Audio, **choices: Any) -> io.NodeOutput:
        return io.NodeOutput(convert.written(start(portrait, audio, **choices), audio))


class MakeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_MakeVideo",
            display_name="Make Video",
            category="VividTalk",
            description="Joins frames and sound to a VIDEO, which is marked as generated in its metadata. An odd last "
            "row or column is left out.",
            inputs=[
                io.Image.Input("images", tooltip="The frames, from Paste Back."),
                convert.widget(TalkSettings, "fps", tooltip="Frames per second, from Paste Back."),
                io.Audio.Input("audio", optional=True, tooltip="The sound of the video."),
            ],
            outputs=[io.Video.Output(display_name="video")],
        )

    @classmethod
    @running.node
    def execute(cls, images: Tensor, fps: float, audio: Input.Audio | None = None) -> io.NodeOutput:
        return io.NodeOutput(convert.video(images, fps, audio))
