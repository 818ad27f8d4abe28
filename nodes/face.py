"""Portrait → 3DMM."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..vividtalk_core.face.fit import fit_face
from ..vividtalk_core.head.drive import face_mesh
from ..vividtalk_core.mesh_to_video.preview import draw_landmarks, draw_mesh
from ..vividtalk_core.pipeline import Models
from ..vividtalk_core.structures import FaceFit
from . import convert, sockets

VIEWS = {
    "landmarks": lambda face: convert.to_comfy(draw_landmarks(face)),
    "mesh": lambda face: convert.to_comfy(draw_mesh(face, face_mesh(face))),
    "face mask": lambda face: convert.mask_to_comfy(face.face_mask),
    "person mask": lambda face: convert.mask_to_comfy(face.person_mask),
    "crop": lambda face: convert.to_comfy(face.image),
}


class FitFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_FitFace",
            display_name="Fit Face (3DMM)",
            category="VividTalk/face",
            description="Finds a face in the portrait and fits the 3-D morphable head to it.",
            inputs=[
                sockets.Models.Input("model", tooltip="From Load Models."),
                io.Image.Input("portrait", tooltip="One picture with a face: photo, painting or drawing, any size."),
                io.Int.Input(
                    "face_index", default=0, min=0, max=99, tooltip="Which face, counted from the largest (0)."
                ),
                io.Float.Input(
                    "threshold", default=0.5, min=0.05, max=0.99, step=0.05,
                    tooltip="How sure the detector must be. Lower it for paintings and drawings.",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Marks the face by hand, where detection fails or several faces are close together.",
                ),
            ],
            outputs=[sockets.Face.Output(display_name="face")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Models, portrait: Tensor, face_index: int, threshold: float, mask: Tensor | None = None
    ) -> io.NodeOutput:
        box = convert.mask_box(mask, portrait)
        return io.NodeOutput(fit_face(model.face, convert.to_core(portrait[:1]), face_index, box, threshold))


class PreviewFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_PreviewFace",
            display_name="Preview Face",
            category="VividTalk/face",
            description="Draws what was fitted on the 256 px crop: landmarks, mesh or masks.",
            inputs=[
                sockets.Face.Input("face", tooltip="From Fit Face."),
                io.Combo.Input("view", options=list(VIEWS), default="mesh", tooltip="What to draw."),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, face: FaceFit, view: str) -> io.NodeOutput:
        return io.NodeOutput(VIEWS[view](face))
