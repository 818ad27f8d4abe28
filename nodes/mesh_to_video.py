"""Stage 2 of the paper: driven mesh → NCC and projected texture → dense motion → frames → talking portrait."""

from __future__ import annotations

from comfy_api.latest import Input, io
from torch import Tensor

from ..vividtalk_core.head.drive import check_match
from ..vividtalk_core.mesh_to_video.dense_motion import estimate_motion
from ..vividtalk_core.mesh_to_video.generator import compose, generate_frames, painted_alpha
from ..vividtalk_core.mesh_to_video.ncc import render_ncc
from ..vividtalk_core.mesh_to_video.paste import paste_back
from ..vividtalk_core.mesh_to_video.preview import draw_flow
from ..vividtalk_core.mesh_to_video.source_view import view_source
from ..vividtalk_core.pipeline import Models, TalkStream, embedded_models
from ..vividtalk_core.settings import TalkSettings
from ..vividtalk_core.structures import (
    DenseMotion,
    Expression,
    FaceFit,
    GeneratedFrames,
    HeadMotion,
    MeshSequence,
    NccRender,
)
from ..vividtalk_core.threads import by_chunks, default_workers, in_order
from ..vividtalk_core.timing import StageTimer
from ..vividtalk_core.video.stream import chunk_frames, frame_ranges
from . import convert, running, sockets


def network_inputs(strength: str) -> list[io.Input]:
    """The inputs that each node with a network has; graphs of older versions lack both.

    Args:
        strength: the tooltip of the widget.
    """
    return [
        convert.widget(TalkSettings, "strength", tooltip=strength, optional=True),
        sockets.Models.Input(
            "model", optional=True, tooltip="From Load Models; the weights inside the pack if nothing is linked."
        ),
    ]


class RenderNcc(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_RenderNCC",
            display_name="Render NCC",
            category="VividTalk/mesh to video",
            description="Renders the driven mesh as normalised coordinate code and projects the portrait onto it.",
            inputs=[
                sockets.Face.Input("face", tooltip="From Fit Face."),
                sockets.Mesh.Input("mesh", tooltip="From Drive Mesh."),
                convert.preview_every(),
            ],
            outputs=[
                sockets.Ncc.Output(display_name="ncc"),
                io.Image.Output(display_name="ncc_image"),
                io.Image.Output(display_name="projected_texture"),
            ],
        )

    @classmethod
    @running.node
    def execute(cls, face: FaceFit, mesh: MeshSequence, preview_every: int = 1) -> io.NodeOutput:
        view = view_source(face)
        render = by_chunks(
            lambda part: render_ncc(view, mesh.frames(part)), mesh.frame_count, NccRender.joined, convert.progress()
        )
        shown = render.frames(slice(None, None, preview_every))
        return io.NodeOutput(render, convert.to_comfy(shown.ncc), convert.to_comfy(shown.projected_texture))


class EstimateMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_DenseMotion",
            display_name="Dense Motion",
            category="VividTalk/mesh to video",
            description="For each pixel its place in the portrait, and whether the portrait shows it.",
            inputs=[
                sockets.Face.Input("face", tooltip="From Fit Face."),
                sockets.Ncc.Input("ncc", tooltip="From Render NCC."),
                *network_inputs(
                    "How much the motion-VAE refines the motion: 0 = that of the two meshes alone, 1 = as trained."
                ),
                convert.preview_every(),
            ],
            outputs=[
                sockets.Motion.Output(display_name="motion"),
                io.Image.Output(display_name="flow"),
                io.Mask.Output(display_name="occlusion"),
            ],
        )

    @classmethod
    @running.node
    def execute(
        cls,
        face: FaceFit,
        ncc: NccRender,
        strength: float = 1.0,
        model: Models | None = None,
        preview_every: int = 1,
    ) -> io.NodeOutput:
        convert.check_same_face(face, ncc)
        models = model or embedded_models()
        convert.note_absent_networks(models, strength, "motion")
        # at 0 the network is not even loaded
        network = models.mesh_to_video.motion if strength > 0 else None
        motion = by_chunks(
            lambda part: estimate_motion(ncc.frames(part), network, strength),
            ncc.frame_count,
            DenseMotion.joined,
            convert.progress(),
        )
        shown = motion.frames(slice(None, None, preview_every))
        return io.NodeOutput(motion, convert.to_comfy(draw_flow(shown)), convert.to_mask(shown.occlusion))


class GenerateFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_GenerateFrames",
            display_name="Generate Frames",
            category="VividTalk/mesh to video",
            description="Paints what the portrait does not show, such as the inside of the mouth, and corrects what a "
            "warp cannot; previews at 256 px.",
            inputs=[
                sockets.Face.Input("face", tooltip="From Fit Face."),
                sockets.Ncc.Input("ncc", tooltip="From Render NCC."),
                sockets.Motion.Input("motion", tooltip="From Dense Motion."),
                *network_inputs(
                    "How much of the generator's correction is applied: 0 = none, mouth and lashes are painted by "
                    "rules alone; 1 = as trained."
                ),
                convert.preview_every(),
            ],
            outputs=[
                sockets.Frames.Output(display_name="frames"),
                io.Image.Output(display_name="preview"),
                io.Mask.Output(display_name="alpha"),
            ],
        )

    @classmethod
    @running.node
    def execute(
        cls,
        face: FaceFit,
        ncc: NccRender,
        motion: DenseMotion,
        strength: float = 1.0,
        model: Models | None = None,
        preview_every: int = 1,
    ) -> io.NodeOutput:
        convert.check_same_face(face, ncc)
        models = model or embedded_models()
        convert.note_absent_networks(models, strength, "generator")
        network = models.mesh_to_video.generator if strength > 0 else None
        frames = by_chunks(
            lambda part: generate_frames(ncc.frames(part), motion.frames(part), network, strength),
            ncc.frame_count,
            GeneratedFrames.joined,
            convert.progress(),
        )
        shown = frames.frames(slice(None, None, preview_every))
        return io.NodeOutput(frames, convert.to_comfy(compose(face, shown)), convert.to_mask(painted_alpha(shown)))


class PasteBack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_PasteBack",
            display_name="Paste Back",
            category="VividTalk/mesh to video",
            description="Applies the motion to the portrait at its own size. Pixels that do not move stay as they are.",
            inputs=[
                io.Image.Input("portrait", tooltip="The portrait that the face was fitted on."),
                sockets.Face.Input("face", tooltip="From Fit Face."),
                sockets.Frames.Input("frames", tooltip="From Generate Frames."),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Float.Output(display_name="fps"),
            ],
        )

    @classmethod
    @running.node
    def execute(cls, portrait: Tensor, face: FaceFit, frames: GeneratedFrames) -> io.NodeOutput:
        picture, total = convert.one_picture(portrait), frames.frame_count
        parts = frame_ranges(total, chunk_frames(TalkSettings().chunk, *picture.shape[2:]))
        chunks = in_order(lambda part: paste_back(picture, face, frames.frames(part)), parts, default_workers())
        return io.NodeOutput(convert.collect(chunks, total, convert.progress()), frames.fps)


class RenderVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_RenderVideo",
            display_name="Render Video (stage 2, long)",
            category="VividTalk/mesh to video",
            description="The second stage in one node, for speech of any length: mesh, NCC, dense motion, frames and "
            "paste back. A few frames at a time are written into a video file: memory does not grow with the length.",
            **convert.search_words("long video", "stream", "mesh to video"),
            inputs=[
                io.Image.Input("portrait", tooltip="The portrait that the face was fitted on."),
                sockets.Face.Input("face", tooltip="From Fit Face."),
                sockets.Expression.Input("expression", tooltip="From Generate Expression, Track Video or Load Motion."),
                sockets.HeadPose.Input(
                    "head_pose", tooltip="From any head pose node; as many frames as the expression."
                ),
                io.Audio.Input("audio", optional=True, tooltip="The sound of the video."),
                *network_inputs(
                    "Strength of the networks (motion-VAE and generator): 0 = warp and rules alone, 1 = as trained."
                ),
            ],
            outputs=[io.Video.Output(display_name="video")],
        )

    @classmethod
    @running.node
    def execute(
        cls,
        portrait: Tensor,
        face: FaceFit,
        expression: Expression,
        head_pose: HeadMotion,
        audio: Input.Audio | None = None,
        strength: float = 1.0,
        model: Models | None = None,
    ) -> io.NodeOutput:
        models, picture, settings = (
            model or embedded_models(),
            convert.one_picture(portrait),
            TalkSettings(strength=strength),
        )
        check_match(face, expression, head_pose)
        convert.note_absent_networks(models, strength)
        stream = TalkStream(picture, face, expression, head_pose, models, settings, StageTimer())
        return io.NodeOutput(convert.written(stream, audio))
