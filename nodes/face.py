"""Portrait → 3DMM."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..vividtalk_core.face.fit import fit_face
from ..vividtalk_core.head.drive import face_mesh
from ..vividtalk_core.mesh_to_video.preview import draw_landmarks, draw_mesh
from ..vividtalk_core.pipeline import Models
from ..vividtalk_core.settings import TalkSettings
from ..vividtalk_core.structures import FaceFit
from . import convert, running, sockets

VIEWS = {
    "landmarks": lambda face: convert.to_comfy(draw_landmarks(face)),
    "mesh": lambda face: convert.to_comfy(draw_mesh(face, face_mesh(face))),
    "face mask": lambda face: convert.mask_to_comfy(face.face_mask),
    "person mask": lambda face: convert.mask_to_comfy(face.person_mask),
    "crop": lambda face: convert.to_comfy(face.image),
}
PORTRAIT = "One picture with a face: photo, painting or drawing, any size."
MASK = (
    "Marks the face, where detection fails or several faces are close together. The mask of a cut-out picture "
    "(transparent background) also works."
)
FORCE = "Use what the mask or the detector gives although the landmark network doubts that it is a face."


class FitFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_FitFace",
            display_name="Fit Face (3DMM)",
            category="VividTalk/face",
            description="Finds a face in the portrait and fits the 3-D morphable head (3DMM) to it.",
            **convert.search_words(
                "3DMM", "FaceVerse", "FLAME", "face reconstruction", "face landmarks", "face detection"
            ),
            inputs=[
                sockets.Models.Input("model", tooltip="From Load Models."),
                io.Image.Input("portrait", tooltip=PORTRAIT),
                convert.widget(TalkSettings, "face_index"),
                convert.widget(
                    TalkSettings,
                    "threshold",
                    tooltip="Lowest score of the face detector. Lower it for paintings and drawings.",
                    low=0.05,
                    high=0.99,
                ),
                io.Mask.Input("mask", optional=True, tooltip=MASK),
                # optional and last, so that older graphs, which do not have it, keep the values of their widgets
                convert.widget(TalkSettings, "force", tooltip=FORCE, optional=True),
            ],
            outputs=[sockets.Face.Output(display_name="face")],
        )

    @classmethod
    @running.node
    def execute(
        cls,
        model: Models,
        portrait: Tensor,
        face_index: int,
        threshold: float,
        mask: Tensor | None = None,
        force: bool = False,
    ) -> io.NodeOutput:
        picture = convert.one_picture(portrait)
        box, index = convert.face_choice(model, picture, mask, face_index, threshold, force)
        return io.NodeOutput(fit_face(model.face, picture, index, box, threshold, force))


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
    @running.node
    def execute(cls, face: FaceFit, view: str) -> io.NodeOutput:
        return io.NodeOutput(VIEWS[view](face))
