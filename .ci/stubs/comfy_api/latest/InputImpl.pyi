import io
from typing import Any

from .Input import Video, VideoComponents
from .Types import VideoCodec, VideoContainer

class VideoFromComponents(Video):
    def __init__(self, components: VideoComponents) -> None: ...
    def save_to(
        self,
        path: str | io.BytesIO,
        format: VideoContainer = ...,
        codec: VideoCodec = ...,
        metadata: dict[str, Any] | None = ...,
        **newer: Any,
    ) -> None: ...

class VideoFromFile(Video):
    def __init__(self, file: str | io.BytesIO) -> None: ...
    def save_to(
        self,
        path: str | io.BytesIO,
        format: VideoContainer = ...,
        codec: VideoCodec = ...,
        metadata: dict[str, Any] | None = ...,
        **newer: Any,
    ) -> None: ...
