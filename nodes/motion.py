"""Motion from and to the outside: driving videos and curve files."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import Input, io, ui
from torch import Tensor

from ..vividtalk_core.face.track import track_video
from ..vividtalk_core.motion.files import fill_in, read_curves, write_curves
from ..vividtalk_core.motion.head_pose import relative_to_frame
from ..vividtalk_core.motion.plot import draw_curves
from ..vividtalk_core.pipeline import Models
from ..vividtalk_core.structures import Expression, HeadMotion
from . import convert, sockets

FORMATS = ("npz", "csv", "json")


def motion_files() -> list[str]:
    """Names of the curve files in ComfyUI's input folder."""
    names = os.listdir(folder_paths.get_input_directory())
    return sorted(name for name in names if name.rpartition(".")[2].lower() in FORMATS)


class TrackVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_TrackVideo",
            display_name="Track Video",
            category="VividTalk/motion",
            description="Reads the expression and the head motion of the face in a video. The motion is relative to "
            "the first frame.",
            inputs=[
                sockets.Models.Input("model", tooltip="From Load Models."),
                io.Video.Input("video", optional=True, tooltip="The driving video: one face, at its full frame rate."),
                io.Image.Input("frames", optional=True, tooltip="Or its frames, if there is no VIDEO."),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=240.0,
                    step=0.001,
                    tooltip="Frames per second of 'frames'. A VIDEO brings its own.",
                ),
            ],
            outputs=[
                sockets.Expression.Output(display_name="expression"),
                sockets.HeadPose.Output(display_name="head_pose"),
                io.Image.Output(display_name="curves"),
            ],
        )

    @classmethod
    def execute(
        cls, model: Models, fps: float, video: Input.Video | None = None, frames: Tensor | None = None
    ) -> io.NodeOutput:
        images, rate = convert.driving_frames(video, frames, fps)
        track = track_video(model.face, convert.to_core(images), rate, convert.progress())
        pose = relative_to_frame(track.pose)
        return io.NodeOutput(track.expression, pose, convert.to_comfy(draw_curves(track.expression, pose)))


class PreviewMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_PreviewMotion",
            display_name="Preview Motion",
            category="VividTalk/motion",
            description="Plots the main curves over time: mouth, brows, blinks and the angles of the head.",
            inputs=[
                sockets.Expression.Input("expression", tooltip="The curves to plot."),
                sockets.HeadPose.Input("head_pose", optional=True, tooltip="Head motion to plot below them."),
            ],
            outputs=[io.Image.Output(display_name="curves")],
        )

    @classmethod
    def execute(cls, expression: Expression, head_pose: HeadMotion | None = None) -> io.NodeOutput:
        return io.NodeOutput(convert.to_comfy(draw_curves(expression, head_pose)))


class LoadMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_LoadMotion",
            display_name="Load Motion",
            category="VividTalk/motion",
            description="Reads expression and head motion from a curve file in ComfyUI's input folder: .npz as Save "
            "Motion and `vividtalk track` write it, .json, or .csv of Live Link Face. What the file lacks is still.",
            inputs=[
                sockets.Models.Input("model", tooltip="From Load Models: the head that the lip offsets belong to."),
                io.Combo.Input("file", options=motion_files(), tooltip="A .npz, .json or .csv in the input folder."),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=240.0,
                    step=0.001,
                    tooltip="Frames per second of a file that does not say its own.",
                ),
            ],
            outputs=[
                sockets.Expression.Output(display_name="expression"),
                sockets.HeadPose.Output(display_name="head_pose"),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, model: Models | None, file: str, fps: float) -> float:
        return os.path.getmtime(folder_paths.get_annotated_filepath(file))

    @classmethod
    def execute(cls, model: Models, file: str, fps: float) -> io.NodeOutput:
        lips = len(model.face.head.lip_vertices)
        return io.NodeOutput(*fill_in(read_curves(folder_paths.get_annotated_filepath(file), lips, fps), lips))


class SaveMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_SaveMotion",
            display_name="Save Motion",
            category="VividTalk/motion",
            description="Writes expression and head motion to ComfyUI's output folder, to edit or to use elsewhere.",
            inputs=[
                sockets.Expression.Input("expression", tooltip="The curves to write."),
                sockets.HeadPose.Input("head_pose", tooltip="The head motion to write, as long as the expression."),
                io.String.Input("filename_prefix", default="motion/VividTalk", tooltip="Folder and beginning of name."),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="npz",
                    tooltip="npz and json keep everything; csv is Live Link Face: no lip offsets.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, expression: Expression, head_pose: HeadMotion, filename_prefix: str, format: str) -> io.NodeOutput:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        file = f"{name}_{counter:05}_.{format}"
        write_curves(os.path.join(folder, file), expression, head_pose)
        return io.NodeOutput(ui=ui.PreviewText(os.path.join(subfolder, file)))
