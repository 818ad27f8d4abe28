"""Frames in chunks: memory does not depend on the length, and the result does not depend on the chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

Progress = Callable[[int, int, Tensor | None], None]  # done, total, preview [3, H, W] or None; may raise to cancel


def frame_ranges(frames: int, chunk: int) -> Iterator[slice]:
    """Slices of at most `chunk` frames that cover 0..frames once, in order."""
    if frames < 0:
        raise ValueError(f"the number of frames must not be negative; got {frames}")
    if chunk < 1:
        raise ValueError(f"a chunk must hold at least 1 frame; got {chunk}")
    for start in range(0, frames, chunk):
        yield slice(start, min(start + chunk, frames))


def stream_frames(
    render: Callable[[slice], Tensor], frames: int, chunk: int, progress: Progress | None = None
) -> Iterator[Tensor]:
    """Render a video piece by piece, each piece when it is asked for.

    Args:
        render: makes the frames of a range, [t, 3, H, W]; each frame must depend on its own index only.
        frames: length of the video.
        chunk: frames that are rendered at once; it changes memory and speed, not the result.
        progress: called after each piece with its last frame as the preview; what it raises ends the stream.

    Yields:
        [t, 3, H, W], t = `chunk` for all pieces but the last.
    """
    for part in frame_ranges(frames, chunk):
        piece = render(part)
        if len(piece) != part.stop - part.start:
            raise ValueError(f"frames {part.start} to {part.stop} were asked for; got {len(piece)}")
        if progress is not None:
            progress(part.stop, frames, piece[-1])
        yield piece
