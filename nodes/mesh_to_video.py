"""Stage 2 of the paper: driven mesh → NCC and projected texture → dense motion → frames → the portrait talks."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..vividtalk_core.mesh_to_video.dense_motion import estimate_motion
from ..vividtalk_core.mesh_to_video.generator import compose, generate_frames, painted_alpha
from ..vividtalk_core.mesh_to_video.ncc import render_ncc
from ..vividtalk_core.mesh_to_video.paste import paste_back
from ..vividtalk_core.mesh_to_video.preview import draw_flow
from ..vividtalk_core.mesh_to_video.source_view import view_source
from ..vividtalk_core.pipeline import Models, embedded_models
from ..vividtalk_core.structures import DenseMotion, FaceFit, GeneratedFrames, MeshSequence, NccRender
from . import convert, sockets


def network_inputs(strength: str) -> list[io.Input]:
    """What a node with a network asks for beside its own inputs; older graphs give neither.

    Args:
        strength: the tooltip of the widget.
    """
    return [
        io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.05, optional=True, tooltip=strength),
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
            ],
            outputs=[
                sockets.Ncc.Output(display_name="ncc"),
                io.Image.Output(display_name="ncc_image"),
                io.Image.Output(display_name="projected_texture"),
            ],
        )

    @classmethod
    def execute(cls, face: FaceFit, mesh: MeshSequence) -> io.NodeOutput:
        render = render_ncc(view_source(face), mesh, convert.progress())
        return io.NodeOutput(render, convert.to_comfy(render.ncc), convert.to_comfy(render.projected_texture))


class EstimateMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_DenseMotion",
            display_name="Dense Motion",
            category="VividTalk/mesh to video",
            description="Where each pixel comes from in the portrait, and what the portrait does not show.",
            inputs=[
                sockets.Face.Input("face", tooltip="From Fit Face."),
                sockets.Ncc.Input("ncc", tooltip="From Render NCC."),
                *network_inputs(
                    "How far the motion-VAE refines the motion: 0 = what the two meshes alone say, 1 = as trained."
                ),
            ],
            outputs=[
                sockets.Motion.Output(display_name="motion"),
                io.Image.Output(display_name="flow"),
                io.Mask.Output(display_name="occlusion"),
            ],
        )

    @classmethod
    def execute(
        cls, face: FaceFit, ncc: NccRender, strength: float = 1.0, model: Models | None = None
    ) -> io.NodeOutput:
        convert.check_same_face(face, ncc)
        network = (model or embedded_models()).mesh_to_video.motion if strength > 0 else None
        motion = estimate_motion(ncc, network, strength, convert.progress())
        return io.NodeOutput(motion, convert.to_comfy(draw_flow(motion)), convert.to_mask(motion.occlusion))


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
                    "How much of the generator's corrections is laid on: 0 = none, mouth and lashes are painted by "
                    "rules alone; 1 = as trained."
                ),
            ],
            outputs=[
                sockets.Frames.Output(display_name="frames"),
                io.Image.Output(display_name="preview"),
                io.Mask.Output(display_name="alpha"),
            ],
        )

    @classmethod
    def execute(
        cls,
        face: FaceFit,
        ncc: NccRender,
        motion: DenseMotion,
        strength: float = 1.0,
        model: Models | None = None,
    ) -> io.NodeOutput:
        convert.check_same_face(face, ncc)
        network = (model or embedded_models()).mesh_to_video.generator if strength > 0 else None
        frames = generate_frames(ncc, motion, network, strength, convert.progress())
        return io.NodeOutput(frames, convert.to_comfy(compose(face, frames)), convert.to_mask(painted_alpha(frames)))


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
    def execute(cls, portrait: Tensor, face: FaceFit, frames: GeneratedFrames) -> io.NodeOutput:
        images = paste_back(convert.to_core(portrait[:1]), face, frames, convert.progress())
        return io.NodeOutput(convert.to_comfy(images), frames.fps)
