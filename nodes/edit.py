"""Edits of motion: each takes and returns the same type, so that they chain."""

from __future__ import annotations

from comfy_api.latest import io

from ..vividtalk_core.motion import edit as groups
from ..vividtalk_core.motion.resample import smooth_pose
from ..vividtalk_core.structures import Expression, HeadMotion
from . import convert, running, sockets

CATEGORY = "VividTalk/edit"


def gain(name: str, tooltip: str, low: float = 0.0, high: float = 3.0, default: float = 1.0) -> io.Float.Input:
    """The widget of a factor."""
    return io.Float.Input(name, default=default, min=low, max=high, step=0.05, tooltip=tooltip)


class ScaleExpression(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_ScaleExpression",
            display_name="Scale Expression (emotion)",
            category=CATEGORY,
            description="Makes parts of the face move more or less: mouth, eyelids (blinks), brows. Weakens or "
            "strengthens an emotion. 1 keeps the motion, 0 stops it.",
            **convert.search_words("emotion", "expression editor", "exaggerate", "blink", "mouth", "gaze", "brows"),
            inputs=[
                sockets.Expression.Input("expression", tooltip="The motion to edit."),
                gain("jaw", "Opening and shifting of the jaw."),
                gain("lips", "Lip shapes and lip offsets, tongue."),
                gain("cheeks", "Cheeks and nose."),
                gain("eyelids", "Blinks, squints and wide eyes."),
                gain("gaze", "Where the eyes look."),
                gain("brows", "Eyebrows."),
            ],
            outputs=[sockets.Expression.Output(display_name="expression")],
        )

    @classmethod
    @running.node
    def execute(cls, expression: Expression, **gains: float) -> io.NodeOutput:
        return io.NodeOutput(groups.scale_groups(expression, gains))


class MixExpression(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_MixExpression",
            display_name="Mix Expression",
            category=CATEGORY,
            description="Blends two motions part by part, e.g. the lips of the speech with the brows of a video. "
            "0 takes the first, 1 the second.",
            **convert.search_words("emotion", "expression editor", "blend expressions", "retarget"),
            inputs=[
                sockets.Expression.Input("first", tooltip="Taken where the weight is 0."),
                sockets.Expression.Input("second", tooltip="Taken where the weight is 1; as many frames as the first."),
                *(gain(name, f"Weight of the second motion's {name}.", 0.0, 1.0, 0.5) for name in groups.GROUPS),
            ],
            outputs=[sockets.Expression.Output(display_name="expression")],
        )

    @classmethod
    @running.node
    def execute(cls, first: Expression, second: Expression, **weights: float) -> io.NodeOutput:
        return io.NodeOutput(groups.mix_groups(first, second, weights))


class SmoothExpression(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_SmoothExpression",
            display_name="Smooth Expression",
            category=CATEGORY,
            description="Averages the curves over time: less jitter of a tracked video, calmer speech.",
            inputs=[
                sockets.Expression.Input("expression", tooltip="The motion to edit."),
                gain("width", "Seconds to average over (standard deviation). 0 changes nothing.", 0.0, 2.0, 0.05),
            ],
            outputs=[sockets.Expression.Output(display_name="expression")],
        )

    @classmethod
    @running.node
    def execute(cls, expression: Expression, width: float) -> io.NodeOutput:
        return io.NodeOutput(groups.smooth_all(expression, width))


class ScalePose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_ScalePose",
            display_name="Scale Pose",
            category=CATEGORY,
            description="Makes the head move more or less. 1 keeps the motion, 0 stops it, below 0 mirrors it.",
            inputs=[
                sockets.HeadPose.Input("head_pose", tooltip="The head motion to edit."),
                gain("pitch", "Nodding.", -3.0),
                gain("yaw", "Turning left and right.", -3.0),
                gain("roll", "Tilting to a shoulder.", -3.0),
                gain("shift", "Moving sideways, up or down, and nearer or farther.", -3.0),
            ],
            outputs=[sockets.HeadPose.Output(display_name="head_pose")],
        )

    @classmethod
    @running.node
    def execute(cls, head_pose: HeadMotion, pitch: float, yaw: float, roll: float, shift: float) -> io.NodeOutput:
        return io.NodeOutput(groups.scale_angles(head_pose, pitch, yaw, roll, shift))


class MixPose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_MixPose",
            display_name="Mix Pose",
            category=CATEGORY,
            description="Blends two head motions of the same length.",
            inputs=[
                sockets.HeadPose.Input("first", tooltip="Taken where the weight is 0."),
                sockets.HeadPose.Input("second", tooltip="Taken where the weight is 1; as many frames as the first."),
                gain("weight", "0 takes the first, 1 the second.", 0.0, 1.0, 0.5),
            ],
            outputs=[sockets.HeadPose.Output(display_name="head_pose")],
        )

    @classmethod
    @running.node
    def execute(cls, first: HeadMotion, second: HeadMotion, weight: float) -> io.NodeOutput:
        return io.NodeOutput(groups.mix_poses(first, second, weight))


class SmoothPose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_SmoothPose",
            display_name="Smooth Pose",
            category=CATEGORY,
            description="Averages the head motion over time.",
            inputs=[
                sockets.HeadPose.Input("head_pose", tooltip="The head motion to edit."),
                gain("width", "Seconds to average over (standard deviation). 0 changes nothing.", 0.0, 2.0, 0.1),
            ],
            outputs=[sockets.HeadPose.Output(display_name="head_pose")],
        )

    @classmethod
    @running.node
    def execute(cls, head_pose: HeadMotion, width: float) -> io.NodeOutput:
        return io.NodeOutput(smooth_pose(head_pose, width))
