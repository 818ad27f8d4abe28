"""Motion from and to the outside: driving videos and curve files."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import Input, io, ui
from torch import Tensor

from ..vividtalk_core.errors import MissingFileError
from ..vividtalk_core.face.track import track_video
from ..vividtalk_core.motion.files import fill_in, read_curves, write_curves
from ..vividtalk_core.motion.head_pose import relative_to_frame
from ..vividtalk_core.motion.plot import draw_curves
from ..vividtalk_core.pipeline import Models
from ..vividtalk_core.structures import Expression, HeadMotion
from . import convert, running, sockets

FORMATS = ("npz", "csv", "json")
FILE = "A .npz, .json or .csv in the input folder or a folder below it, or one that Save Motion wrote ([output])."


def motion_files() -> list[str]:
    """The curve files below ComfyUI's input folder, then those below its output folder as "NAME [output]"."""
    own = list(_files_below(folder_paths.get_input_directory()))
    return [*own, *(f"{name} [output]" for name in _files_below(folder_paths.get_output_directory()))]


def _files_below(root: str) -> list[str]:
    """Sorted names of the curve files below a folder, relative to it and with "/", those in subfolders last."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(folder, name) for name in names if name.rpartition(".")[2].lower() in FORMATS]
    return sorted((os.path.relpath(path, root).replace(os.sep, "/") for path in found), key=lambda n: (n.count("/"), n))


def motion_path(file: str) -> str:
    """The path of a name that `motion_files` lists.

    Raises:
        MissingFileError: there is no such file, or it lies outside of ComfyUI's folders.
    """
    name, root = folder_paths.annotated_filepath(file)
    root = os.path.abspath(root or folder_paths.get_input_directory())
    path = os.path.abspath(os.path.join(root, name.strip()))
    # os.path.join follows ".." and absolute names out of the folder
    if not path.startswith(root + os.sep) or not os.path.isfile(path):
        raise MissingFileError(
            f"There is no motion file '{file}' in ComfyUI's input or output folder: choose another 'file'."
        )
    return path


class TrackVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_TrackVideo",
            display_name="Track Video",
            category="VividTalk/motion",
            description="Reads the expression and the head motion of the face in a video. The motion is relative to "
            "the first frame.",
            **convert.search_words("motion capture", "expression", "blink", "driving video", "reenactment", "retarget"),
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
    @running.node
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
    @running.node
    def execute(cls, expression: Expression, head_pose: HeadMotion | None = None) -> io.NodeOutput:
        return io.NodeOutput(convert.to_comfy(draw_curves(expression, head_pose)))


class LoadMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_LoadMotion",
            display_name="Load Motion",
            category="VividTalk/motion",
            description="Reads expression and head motion from a curve file in ComfyUI's input or output folder: .npz "
            "as Save Motion and `vividtalk track` write it, .json, or .csv of Live Link Face. What the file lacks "
            "does not move.",
            **convert.search_words("Live Link Face", "ARKit curves", "blendshapes", "expression", "motion capture"),
            inputs=[
                sockets.Models.Input("model", tooltip="From Load Models: the head that the lip offsets belong to."),
                io.Combo.Input("file", options=motion_files(), tooltip=FILE),
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
    def validate_inputs(cls, file: str | None) -> bool | str:
        if file is not None:  # None: it comes by a link and is checked in execute
            try:
                motion_path(file)
            except MissingFileError as error:
                return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model: Models | None, file: str | None, fps: float) -> str:
        # a linked input arrives as None; a change of the node before it makes this one run again
        if file is None:
            return ""
        # ComfyUI runs a node again only if this text changes: a file that was edited is then read again
        found = os.stat(motion_path(file))
        return f"{found.st_mtime_ns} {found.st_size}"

    @classmethod
    @running.node
    def execute(cls, model: Models, file: str, fps: float) -> io.NodeOutput:
        lips = len(model.face.head.lip_vertices)
        return io.NodeOutput(*fill_in(read_curves(motion_path(file), lips, fps), lips))


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
                sockets.HeadPose.Input(
                    "head_pose", tooltip="The head motion to write; as many frames as the expression."
                ),
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
    @running.node
    def execute(cls, expression: Expression, head_pose: HeadMotion, filename_prefix: str, format: str) -> io.NodeOutput:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        file = f"{name}_{counter:05}_.{format}"
        write_curves(os.path.join(folder, file), expression, head_pose)
        return io.NodeOutput(ui=ui.PreviewText(os.path.join(subfolder, file)))
