"""Stage 1 of the paper: audio → expression and head pose → driven mesh."""

from __future__ import annotations

from comfy_api.latest import Input, io

from ..vividtalk_core.audio.encoder import encode_audio
from ..vividtalk_core.audio_to_mesh.choose import choose_expression
from ..vividtalk_core.head.drive import drive_mesh
from ..vividtalk_core.mesh_to_video.preview import draw_mesh
from ..vividtalk_core.pipeline import Models, embedded_models
from ..vividtalk_core.settings import ArticulationSettings, TalkSettings
from ..vividtalk_core.structures import AudioFeatures, Expression, FaceFit, HeadMotion, MeshSequence
from . import convert, models, running, sockets


class EncodeAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_EncodeAudio",
            display_name="Encode Audio (speech, Whisper, wav2vec2)",
            category="VividTalk/audio to mesh",
            description="Turns speech into features: states of Whisper or another speech encoder, and the log-mel.",
            **convert.search_words(
                "speech", "wav2vec", "wav2vec2", "HuBERT", "whisper", "mel spectrogram", "audio driven"
            ),
            inputs=[
                io.Audio.Input("audio", tooltip="Speech of any rate, channels and length."),
                convert.widget(TalkSettings, "fps", tooltip="Frames per second of the video that is made."),
                *models.encoder_inputs("hub_id"),
            ],
            outputs=[sockets.AudioFeatures.Output(display_name="audio_features")],
        )

    @classmethod
    @running.node
    def execute(cls, audio: Input.Audio, fps: float, encoder: str, hub_id: str = "") -> io.NodeOutput:
        waveform, sample_rate = convert.sound(audio)
        return io.NodeOutput(encode_audio(waveform, sample_rate, fps, models.encoder_source(encoder, hub_id)))


class GenerateExpression(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_GenerateExpression",
            display_name="Generate Expression (mouth, blinks)",
            category="VividTalk/audio to mesh",
            description="Makes lip and face motion for the speech: 52 named curves, lip vertex offsets, blinks.",
            **convert.search_words(
                "lip sync", "audio driven", "speech to face", "mouth", "blink", "blendshapes", "ARKit"
            ),
            inputs=[
                sockets.Face.Input("face", tooltip="From Fit Face: the face that is animated."),
                sockets.AudioFeatures.Input("audio_features", tooltip="From Encode Audio."),
                convert.widget(ArticulationSettings, "lip_strength"),
                convert.widget(ArticulationSettings, "jaw_gain"),
                convert.widget(TalkSettings, "blinks"),
                convert.widget(
                    TalkSettings,
                    "seed",
                    tooltip="Random seed of blinks and small movements; the same seed repeats them.",
                ),
                convert.widget(ArticulationSettings, "lip_gain"),
                convert.widget(
                    ArticulationSettings,
                    "smoothing_s",
                    name="smoothing",
                    tooltip="Seconds over which motion is averaged; above 0.05 the lips no longer meet on p, b and m.",
                ),
                convert.widget(TalkSettings, "mode"),
                sockets.Models.Input(
                    "model",
                    optional=True,
                    tooltip="From Load Models; the weights inside the pack if nothing is linked.",
                ),
                sockets.Expression.Input(
                    "upper_face",
                    optional=True,
                    tooltip="Brows, cheeks, lids and gaze, instead of those that follow from the sound: from Sample "
                    "Head Pose, or from Track Video with blinks off.",
                ),
            ],
            outputs=[sockets.Expression.Output(display_name="expression")],
        )

    @classmethod
    @running.node
    def execute(
        cls,
        face: FaceFit,
        audio_features: AudioFeatures,
        lip_strength: float,
        jaw_gain: float,
        blinks: bool,
        seed: int,
        lip_gain: float,
        smoothing: float,
        mode: str,
        model: Models | None = None,
        upper_face: Expression | None = None,
    ) -> io.NodeOutput:
        gains = ArticulationSettings(lip_strength, jaw_gain, lip_gain, smoothing_s=smoothing)
        networks = (model or embedded_models()).audio_to_mesh
        return io.NodeOutput(choose_expression(networks, mode, audio_features, face, gains, seed, blinks, upper_face))


class DriveMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_DriveMesh",
            display_name="Drive Mesh",
            category="VividTalk/audio to mesh",
            description="Moves the portrait's 3-D head (3DMM) with expression and head pose: one mesh per frame.",
            **convert.search_words("3DMM", "face mesh", "face animation"),
            inputs=[
                sockets.Face.Input("face", tooltip="From Fit Face."),
                sockets.Expression.Input("expression", tooltip="From Generate Expression, Track Video or Load Motion."),
                sockets.HeadPose.Input(
                    "head_pose", tooltip="From any head pose node; as many frames as the expression."
                ),
            ],
            outputs=[sockets.Mesh.Output(display_name="mesh")],
        )

    @classmethod
    @running.node
    def execute(cls, face: FaceFit, expression: Expression, head_pose: HeadMotion) -> io.NodeOutput:
        return io.NodeOutput(drive_mesh(face, expression, head_pose))


class PreviewMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_PreviewMesh",
            display_name="Preview Mesh",
            category="VividTalk/audio to mesh",
            description="Draws the driven mesh over the 256 px crop, one image per frame.",
            inputs=[
                sockets.Face.Input("face", tooltip="From Fit Face."),
                sockets.Mesh.Input("mesh", tooltip="From Drive Mesh."),
                convert.preview_every(),
            ],
            outputs=[io.Image.Output(display_name="images")],
        )

    @classmethod
    @running.node
    def execute(cls, face: FaceFit, mesh: MeshSequence, preview_every: int = 1) -> io.NodeOutput:
        return io.NodeOutput(convert.to_comfy(draw_mesh(face, mesh.frames(slice(None, None, preview_every)))))
