"""Metrics as nodes: the functions of vividtalk_core.eval, applied to the values of a graph."""

from __future__ import annotations

import json
from dataclasses import asdict

import torch
from comfy_api.latest import Input, io

from ..vividtalk_core.errors import MediaError, MismatchError
from ..vividtalk_core.eval.evaluators import Evaluators
from ..vividtalk_core.eval.footage import Footage
from ..vividtalk_core.eval.head_motion import beat_alignment, diversity, energy_below
from ..vividtalk_core.eval.lip_score import score_lips
from ..vividtalk_core.eval.protocols.folder import flat
from ..vividtalk_core.eval.protocols.video import evaluate, lips_of
from ..vividtalk_core.eval.sync import load_sync_expert, sync_score
from ..vividtalk_core.face.track import track_video
from ..vividtalk_core.head.mouth_shape import lip_curves
from ..vividtalk_core.pipeline import Models
from ..vividtalk_core.structures import AudioFeatures, Expression, HeadMotion
from . import convert, running, sockets

CATEGORY = "VividTalk/evaluate"
MODEL = "From Load Models: the tracker for the faces in the videos."
UNKNOWN = float("nan")  # of a FLOAT output for what could not be measured


def footage(video: Input.Video) -> Footage:
    """A VIDEO in the form that the metrics read."""
    parts = video.get_components()
    sound = None if parts.audio is None else convert.sound(parts.audio)
    return Footage(lambda: iter(convert.to_core(parts.images)), float(parts.frame_rate), sound)


def number(value: float | None) -> float:
    """A FLOAT output; NaN for what could not be measured."""
    return UNKNOWN if value is None else float(value)


class LipSyncScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_LipSyncScore",
            display_name="Evaluate: Sync (LSE)",
            category=CATEGORY,
            description="LSE-C and LSE-D of a talking video by the sync expert inside the pack, and how late the lips "
            "are. Compare its values with each other only, not with those of SyncNet.",
            inputs=[
                sockets.Models.Input("model", tooltip=MODEL),
                io.Video.Input("video", tooltip="One talking face, with its sound; 1.8 seconds or more."),
            ],
            outputs=[
                io.Float.Output(display_name="lse_c", tooltip="Confidence, higher is better."),
                io.Float.Output(display_name="lse_d", tooltip="Distance 0..2, lower is better."),
                io.Int.Output(display_name="offset", tooltip="Frames at 25 fps by which the lips come late."),
            ],
        )

    @classmethod
    @running.node
    def execute(cls, model: Models, video: Input.Video) -> io.NodeOutput:
        clip = footage(video)
        if clip.audio is None:
            raise MediaError("The video has no sound track to compare the lips with: link a video with sound.")
        track = track_video(model.face, clip.frames(), clip.fps, convert.progress())
        score = sync_score(load_sync_expert(), *clip.audio, lips_of(track.landmarks_2d), clip.fps)
        return io.NodeOutput(score.lse_c, score.lse_d, score.offset)


class LipMotionCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_LipMotionCompare",
            display_name="Evaluate: Lip Motion",
            category=CATEGORY,
            description="Compares the lips of two motions, e.g. generated and tracked from the real video of the same "
            "speech: opening and width of the mouth on the same head.",
            inputs=[
                sockets.Models.Input("model", tooltip="From Load Models: the motions are compared on its head."),
                sockets.Expression.Input("generated", tooltip="The motion to evaluate."),
                sockets.Expression.Input("reference", tooltip="The real motion, at the same frame rate."),
            ],
            outputs=[
                io.Float.Output(display_name="aperture_correlation", tooltip="1 is best."),
                io.Float.Output(display_name="width_correlation", tooltip="1 is best."),
                io.Float.Output(display_name="amplitude_ratio", tooltip="0.8–1.2 is good."),
                io.Float.Output(display_name="velocity_ratio", tooltip="0.8–1.2 is good."),
                io.Int.Output(display_name="offset", tooltip="Frames by which the generated lips come late."),
            ],
        )

    @classmethod
    @running.node
    def execute(cls, model: Models, generated: Expression, reference: Expression) -> io.NodeOutput:
        if abs(generated.fps - reference.fps) > 0.01:
            raise MismatchError(
                f"The motions run at {generated.fps:g} and {reference.fps:g} fps: they must be the same."
            )
        count = min(generated.frame_count, reference.frame_count)
        predicted, target = (torch.stack(lip_curves(e, model.face.head), -1)[:count] for e in (generated, reference))
        score = score_lips(predicted, target, generated.fps)
        return io.NodeOutput(
            score.aperture_correlation,
            score.width_correlation,
            score.amplitude_ratio,
            score.velocity_ratio,
            score.offset_frames or 0,
        )


class HeadMotionScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_HeadMotionScore",
            display_name="Evaluate: Head Motion",
            category=CATEGORY,
            description="How much and how smoothly a head moves, and whether it follows the speech. Compare with the "
            "motion of a real speaker.",
            inputs=[
                sockets.HeadPose.Input("head_pose", tooltip="The motion to evaluate."),
                sockets.AudioFeatures.Input(
                    "audio_features", optional=True, tooltip="The speech, from Encode Audio, for beat_alignment."
                ),
            ],
            outputs=[
                io.Float.Output(display_name="diversity", tooltip="Degrees, standard deviation of the angles."),
                io.Float.Output(display_name="energy_below_3hz", tooltip="0..1, near 1 for natural motion."),
                io.Float.Output(display_name="beat_alignment", tooltip="0..1; NaN without speech."),
            ],
        )

    @classmethod
    @running.node
    def execute(cls, head_pose: HeadMotion, audio_features: AudioFeatures | None = None) -> io.NodeOutput:
        beats = None if audio_features is None else beat_alignment(head_pose, audio_features.mel)
        return io.NodeOutput(diversity(head_pose), energy_below(head_pose), number(beats))


class VideoCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_VideoCompare",
            display_name="Evaluate: Video",
            category=CATEGORY,
            description="Every metric of a generated video against the real one: sync, lips, head motion, pictures.",
            inputs=[
                sockets.Models.Input("model", tooltip=MODEL),
                io.Video.Input("generated", tooltip="The video to evaluate, with its sound."),
                io.Video.Input("reference", tooltip="The real video of the same speech, at the same frame rate."),
            ],
            outputs=[
                io.Float.Output(display_name="face_psnr", tooltip="dB inside the face."),
                io.Float.Output(display_name="mouth_psnr", tooltip="dB around the mouth."),
                io.Float.Output(display_name="face_ssim", tooltip="Structural similarity inside the face, 1 is equal."),
                io.Float.Output(
                    display_name="mouth_distance",
                    tooltip="Mean distance of the lip landmarks, in distances between the eyes.",
                ),
                io.String.Output(display_name="report", tooltip="All metrics, as JSON."),
            ],
        )

    @classmethod
    @running.node
    def execute(cls, model: Models, generated: Input.Video, reference: Input.Video) -> io.NodeOutput:
        evaluators = Evaluators(model.face, load_sync_expert())
        result = evaluate(evaluators, footage(generated), footage(reference), progress=convert.progress())
        images = asdict(result.images)
        values = [number(images[name]) for name in ("face_psnr", "mouth_psnr", "face_ssim")]
        return io.NodeOutput(*values, number(result.mouth_distance), json.dumps(flat(result), indent=2))
