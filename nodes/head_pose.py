"""Sources of head motion. They share one socket, so that any of them can drive the mesh."""

from __future__ import annotations

from comfy_api.latest import io

from ..vividtalk_core.audio_to_mesh.pose_sampler import sample_head_and_face
from ..vividtalk_core.motion.head_pose import fit_to_length, idle_pose, still_pose
from ..vividtalk_core.pipeline import Models, embedded_models
from ..vividtalk_core.settings import TalkSettings
from ..vividtalk_core.structures import AudioFeatures, Expression, FaceFit, HeadMotion
from . import convert, running, sockets

TIMING = "The expression that the head pose is used with: it gives the number of frames and the fps."


class StillPose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_StillPose",
            display_name="Still Pose",
            category="VividTalk/head pose",
            description="The head stays as it is in the portrait.",
            inputs=[sockets.Expression.Input("expression", tooltip=TIMING)],
            outputs=[sockets.HeadPose.Output(display_name="head_pose")],
        )

    @classmethod
    @running.node
    def execute(cls, expression: Expression) -> io.NodeOutput:
        return io.NodeOutput(still_pose(expression.frame_count, expression.fps))


class IdlePose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_IdlePose",
            display_name="Idle Pose",
            category="VividTalk/head pose",
            description="A small, smooth sway of the head, as of a person who stands and talks.",
            inputs=[
                sockets.Expression.Input("expression", tooltip=TIMING),
                convert.widget(
                    TalkSettings, "seed", tooltip="Another seed gives another sway; the same seed repeats it."
                ),
                convert.widget(
                    TalkSettings, "pose_amplitude", name="amplitude", tooltip="How far the head moves; 0 is still."
                ),
                sockets.AudioFeatures.Input(
                    "audio_features", optional=True, tooltip="Speech, from Encode Audio: the head nods on its accents."
                ),
            ],
            outputs=[sockets.HeadPose.Output(display_name="head_pose")],
        )

    @classmethod
    @running.node
    def execute(
        cls, expression: Expression, seed: int, amplitude: float, audio_features: AudioFeatures | None = None
    ) -> io.NodeOutput:
        frames = expression.frame_count
        return io.NodeOutput(idle_pose(frames, expression.fps, seed, amplitude, audio_features))


class SampleHeadPose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_SampleHeadPose",
            display_name="Sample Head Pose",
            category="VividTalk/head pose",
            description="Makes motion of the head and of brows, cheeks, lids and gaze for the speech, learned from "
            "people who talk: a network samples codes of motion one after the other, and they are decoded.",
            **convert.search_words("head motion", "head movement", "codebook", "VQ-VAE", "brows", "gaze"),
            inputs=[
                sockets.AudioFeatures.Input(
                    "audio_features", tooltip="From Encode Audio: the speech, the number of frames and the fps."
                ),
                convert.widget(
                    TalkSettings,
                    "pose_temperature",
                    name="temperature",
                    tooltip="How varied the motion is: 1 as real speakers, 0 always the most likely code.",
                ),
                convert.widget(
                    TalkSettings, "pose_amplitude", name="amplitude", tooltip="How far the head moves; 0 is still."
                ),
                convert.widget(
                    TalkSettings, "seed", tooltip="Another seed gives other motion; the same seed repeats it."
                ),
                sockets.Face.Input(
                    "face",
                    optional=True,
                    tooltip="From Fit Face: its shape decides the style of motion; without it the style is average.",
                ),
                sockets.HeadPose.Input(
                    "start_pose",
                    optional=True,
                    tooltip="The motion begins at the last frame of this one, so that clips can continue; otherwise at "
                    "the portrait's own pose.",
                ),
                sockets.Models.Input(
                    "model",
                    optional=True,
                    tooltip="From Load Models; the weights inside the pack if nothing is linked.",
                ),
                # optional and last, so that older graphs, which do not have it, run
                convert.widget(
                    TalkSettings,
                    "face_amplitude",
                    tooltip="How far brows, cheeks and lids move in 'upper_face'; 0 is still.",
                    optional=True,
                ),
            ],
            outputs=[
                sockets.HeadPose.Output(display_name="head_pose"),
                sockets.Expression.Output(display_name="upper_face"),
            ],
        )

    @classmethod
    @running.node
    def execute(
        cls,
        audio_features: AudioFeatures,
        temperature: float,
        amplitude: float,
        seed: int,
        face: FaceFit | None = None,
        start_pose: HeadMotion | None = None,
        model: Models | None = None,
        face_amplitude: float = 1.0,
    ) -> io.NodeOutput:
        sampler = (model or embedded_models()).audio_to_mesh.pose
        style = None if face is None else face.id_coefficients
        drawn = sample_head_and_face(
            sampler,
            audio_features,
            temperature,
            amplitude,
            seed,
            start_pose,
            style,
            face_amplitude=face_amplitude,
        )
        return io.NodeOutput(drawn.pose, drawn.face)


class VideoPose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_VideoPose",
            display_name="Video Pose (fit to length)",
            category="VividTalk/head pose",
            description="Takes the head motion of a video or a file and fits it to the length and fps of the speech.",
            inputs=[
                sockets.HeadPose.Input("head_pose", tooltip="From Track Video or Load Motion."),
                sockets.Expression.Input("expression", tooltip=TIMING),
            ],
            outputs=[sockets.HeadPose.Output(display_name="head_pose")],
        )

    @classmethod
    @running.node
    def execute(cls, head_pose: HeadMotion, expression: Expression) -> io.NodeOutput:
        return io.NodeOutput(fit_to_length(head_pose, expression.frame_count, expression.fps))
