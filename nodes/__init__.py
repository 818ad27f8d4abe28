"""The nodes of the pack, in the order of the paper's pipeline."""

from comfy_api.latest import ComfyExtension, io

from . import audio_to_mesh, demo, edit, evaluate, face, head_pose, mesh_to_video, models, motion, talk


class VividTalk(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        models.register_folder()
        demo.place_demo_files()
        return [
            talk.TalkingHead,
            talk.TalkingHeadVideo,
            models.LoadModels,
            face.FitFace,
            face.PreviewFace,
            audio_to_mesh.EncodeAudio,
            audio_to_mesh.GenerateExpression,
            head_pose.SampleHeadPose,
            head_pose.StillPose,
            head_pose.IdlePose,
            head_pose.VideoPose,
            motion.TrackVideo,
            motion.LoadMotion,
            motion.SaveMotion,
            motion.PreviewMotion,
            edit.ScaleExpression,
            edit.MixExpression,
            edit.SmoothExpression,
            edit.ScalePose,
            edit.MixPose,
            edit.SmoothPose,
            audio_to_mesh.DriveMesh,
            audio_to_mesh.PreviewMesh,
            mesh_to_video.RenderNcc,
            mesh_to_video.EstimateMotion,
            mesh_to_video.GenerateFrames,
            mesh_to_video.PasteBack,
            mesh_to_video.RenderVideo,
            talk.MakeVideo,
            evaluate.LipSyncScore,
            evaluate.LipMotionCompare,
            evaluate.HeadMotionScore,
            evaluate.VideoCompare,
        ]
