from fractions import Fraction
from typing import TypedDict

from torch import Tensor

class Audio(TypedDict):
    waveform: Tensor
    sample_rate: int

class VideoComponents:
    images: Tensor
    audio: Audio | None
    frame_rate: Fraction
    def __init__(self, *, images: Tensor, frame_rate: Fraction, audio: Audio | None = None) -> None: ...

class Video:
    def get_components(self) -> VideoComponents: ...
