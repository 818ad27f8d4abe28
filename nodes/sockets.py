"""What flows between the nodes: each socket carries the frozen dataclass of vividtalk_core named behind it."""

from comfy_api.latest import io

Models = io.Custom("VIVIDTALK_MODEL")  # pipeline.Models, on the device that nodes/models.py chose
Face = io.Custom("VIVIDTALK_FACE")  # structures.FaceFit
AudioFeatures = io.Custom("VIVIDTALK_AUDIO_FEATURES")  # structures.AudioFeatures
Expression = io.Custom("VIVIDTALK_EXPRESSION")  # structures.Expression
HeadPose = io.Custom("VIVIDTALK_HEAD_POSE")  # structures.HeadPose, motion on top of the portrait's own pose
Mesh = io.Custom("VIVIDTALK_MESH")  # structures.MeshSequence, camera space
Ncc = io.Custom("VIVIDTALK_NCC")  # structures.NccRender
Motion = io.Custom("VIVIDTALK_MOTION")  # structures.DenseMotion
Frames = io.Custom("VIVIDTALK_FRAMES")  # structures.GeneratedFrames
