"""Frames in chunks: memory does not grow with the length of a video, and the result does not depend on the chunk."""

from __future__ import annotations

from collections.abc import Iterator

CHUNK_PIXELS = 1 << 22  # of the frames that are held at once: eight of 724², one of 2048² and more


def chunk_frames(most: int, height: int, width: int) -> int:
    """How many frames of this size (px) may be held at once, at most `most` and at least one."""
    return max(1, min(most, CHUNK_PIXELS // (height * width)))


def frame_ranges(frames: int, chunk: int) -> Iterator[slice]:
    """Slices of at most `chunk` frames that cover 0..frames once, in order.

    Args:
        frames: length of the video.
        chunk: frames that are held at once: it changes memory and speed, nothing else.
    """
    if frames < 0:
        raise ValueError(f"the number of frames must not be negative; got {frames}")
    if chunk < 1:
        raise ValueError(f"a chunk must hold at least 1 frame; got {chunk}")
    for start in range(0, frames, chunk):
        yield slice(start, min(start + chunk, frames))
