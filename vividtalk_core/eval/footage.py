"""Videos that can be read more than once, from files or from memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..audio.waveform import read_audio
from ..structures import Audio
from ..video.reader import read_video


@dataclass(frozen=True, eq=False, slots=True)
class Footage:
    """A video and its sound."""

    frames: Callable[[], Iterable[Tensor]]  # of [3, H, W], uint8 or 0..1; each call starts at the first frame
    fps: float  # frames per second
    audio: Audio | None = None  # waveform [C, N] that starts with the first frame, and its rate in Hz


def read_footage(
    path: str | os.PathLike[str], fps: float | None = None, audio: str | os.PathLike[str] | None = None
) -> Footage:
    """A video file, decoded anew each time its frames are asked for.

    Args:
        path: any video.
        fps: frames per second to resample to; None keeps the video's own rate.
        audio: a sound file in place of the video's own sound.

    Raises:
        MissingFileError: one of the files does not exist.
        MediaError: the video or the sound cannot be decoded.
    """
    clip = read_video(path, fps)
    sound = clip.audio if audio is None else read_audio(Path(audio))
    # A function instead of a list of frames: a long video does not fit into memory, and metrics read it more than
    # once.
    return Footage(lambda: read_video(path, clip.fps, with_audio=False).frames, clip.fps, sound)
