from enum import Enum

from .Input import VideoComponents as VideoComponents

class VideoContainer(str, Enum):
    AUTO = "auto"
    MP4 = "mp4"

class VideoCodec(str, Enum):
    AUTO = "auto"
    H264 = "h264"
