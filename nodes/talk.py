"""The whole chain in one node, as frames or as a video of any length."""

from __future__ import annotations

import os
import secrets

import folder_paths
from comfy_api.latest import Input, InputImpl, io
from torch import Tensor

from ..vividtalk_core.pipeline import Models, TalkSettings, TalkStream, talk
from ..vividtalk_core.structures import HeadMotion
from ..vividtalk_core.video.writer import write_video
from . import convert, sockets


def talk_inputs() -> list[io.Input]:
    """What both nodes ask for."""
    return [
        io.Image.Input("portrait", tooltip="One picture with a face: photo, painting or drawing, any size."),
        io.Audio.Input("audio", tooltip="What is said."),
        io.Combo.Input(
            "motion",
            options=["codebook", "idle", "still"],
            default="codebook",
            tooltip="How the head moves: as learned from people who talk, swaying a little, or not at all. A linked "
            "head_pose wins.",
        ),
        io.Float.Input("amplitude", default=1.0, min=0.0, max=3.0, step=0.05, tooltip="How far the head moves."),
        io.Float.Input(
            "lip_strength", default=1.0, min=0.0, max=3.0, step=0.05, tooltip="How much the lips articulate."
        ),
        io.Float.Input("fps", default=25.0, min=5.0, max=120.0, step=0.001, tooltip="Frames per second of the video."),
        io.Int.Input("seed", default=0, min=0, max=2**63 - 1, tooltip="When it blinks and how the head moves."),
        io.Int.Input("face_index", default=0, min=0, max=99, tooltip="Which face, counted from the largest (0)."),
        sockets.Models.Input(
            "model", optional=True, tooltip="From Load Models; the weights inside the pack if nothing is linked."
        ),
        sockets.HeadPose.Input(
            "head_pose", optional=True, tooltip="Head motion of your own; it is fitted to the length."
        ),
        io.Mask.Input("mask", optional=True, tooltip="Marks the face by hand, where none is found."),
        # optional and last, so that older graphs, which do not have it, run and keep the values of their widgets
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip="How much the networks of stage 2 (motion-VAE and generator) change: 0 = warp and rules alone, "
            "1 = as trained.",
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
) -> TalkStream:
    """The stream of frames that the inputs of `talk_inputs` ask for: IMAGE [B, H, W, C], of which the first counts."""
    settings = TalkSettings(
        fps=fps,
        seed=seed,
        pose=motion,
        pose_amplitude=amplitude,
        articulation=convert.articulation(lip_strength),
        strength=strength,
        face_index=face_index,
        box=convert.mask_box(mask, portrait),
    )
    return talk(convert.to_core(portrait[:1]), convert.sound(audio), settings, models=model, pose=head_pose)


class TalkingHead(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_TalkingHead",
            display_name="Talking Head",
            category="VividTalk",
            description="Makes the portrait speak: every stage in one node, at the portrait's own size.",
            inputs=talk_inputs(),
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Float.Output(display_name="fps"),
                io.Video.Output(display_name="video"),
            ],
        )

    @classmethod
    def execute(cls, portrait: Tensor, audio: Input.Audio, **choices: object) -> io.NodeOutput:
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
            description="Talking Head for speech of any length: frames go straight into a video file, not into memory.",
            inputs=talk_inputs(),
            outputs=[io.Video.Output(display_name="video")],
        )

    @classmethod
    def execute(cls, portrait: Tensor, audio: Input.Audio, **choices: object) -> io.NodeOutput:
        stream = start(portrait, audio, **choices)
        file = os.path.join(folder_paths.get_temp_directory(), f"VividTalk_{secrets.token_hex(8)}.mp4")
        write_video(file, stream, convert.sound(audio), convert.progress())
        return io.NodeOutput(InputImpl.VideoFromFile(file))


class MakeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_MakeVideo",
            display_name="Make Video",
            category="VividTalk",
            description="Joins frames and sound to a VIDEO. An odd last row or column is left out.",
            inputs=[
                io.Image.Input("images", tooltip="The frames, from Paste Back."),
                io.Float.Input(
                    "fps", default=25.0, min=1.0, max=240.0, step=0.001, tooltip="Frames per second, from Paste Back."
                ),
                io.Audio.Input("audio", optional=True, tooltip="What is said."),
            ],
            outputs=[io.Video.Output(display_name="video")],
        )

    @classmethod
    def execute(cls, images: Tensor, fps: float, audio: Input.Audio | None = None) -> io.NodeOutput:
        return io.NodeOutput(convert.video(images, fps, audio))
