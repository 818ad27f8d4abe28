"""The sockets of the nodes; the comment behind each names the class of vividtalk_core that it carries."""

from comfy_api.latest import io

Models = io.Custom("VIVIDTALK_MODEL")  # pipeline.Models
Face = io.Custom("VIVIDTALK_FACE")  # structures.FaceFit
AudioFeatures = io.Custom("VIVIDTALK_AUDIO_FEATURES")  # structures.AudioFeatures
Expression = io.Custom("VIVIDTALK_EXPRESSION")  # structures.Expression
HeadPose = io.Custom("VIVIDTALK_HEAD_POSE")  # structures.HeadMotion, motion on top of the portrait's own pose
Mesh = io.Custom("VIVIDTALK_MESH")  # structures.MeshSequence, camera space
Ncc = io.Custom("VIVIDTALK_NCC")  # structures.NccRender
Motion = io.Custom("VIVIDTALK_MOTION")  # structures.DenseMotion
Frames = io.Custom("VIVIDTALK_FRAMES")  # structures.GeneratedFrames
