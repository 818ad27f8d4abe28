"""H.264 and AAC in an mp4, written completely or not at all, encoded while the next frames are computed."""

from __future__ import annotations

import math
import os
import queue
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from types import TracebackType
from typing import Protocol

import av
import numpy as np
import numpy.typing as npt
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from ..errors import MediaError, OutputError, SettingsError
from ..files import check_writable, whole_file
from ..progress import Progress
from ..structures import Audio
from ..time_grid import check_fps
from .stream import chunk_frames

AUDIO_RATE = 48_000  # Hz, supported by every player
AUDIO_BITS = 96_000  # bits/s of each channel
MACROBLOCK = 16  # px, the side of a block of H.264
# x264's mb-tree reads memory beyond a row of blocks, whatever is there, unless the row is a multiple of this.
MB_TREE_BLOCKS = 8
BT709 = 1  # FFmpeg's number of the primaries, the transfer and the matrix
# Frames per second of which television uses 1/1.001 too, e.g. 29.97.
NTSC = (24, 30, 48, 60, 120)
QUEUE = 8  # frames that may wait for the encoder; fewer large ones
# How often a full queue is checked for an encoder that has failed.
POLL_S = 0.1
# Comment in the file's metadata that marks a synthetic video.
SYNTHETIC = "AI-generated talking head, VividTalk"

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]


def video_rate(fps: float) -> Fraction:
    """Frames per second as an exact fraction: 29.97 becomes 30000/1001, 25 stays 25."""
    fps = check_fps(fps)
    ntsc = Fraction(math.ceil(fps) * 1000, 1001)
    named = math.ceil(fps) in NTSC and abs(fps - ntsc) < 0.005
    return ntsc if named else Fraction(fps).limit_denominator(1001)


class FrameStream(Protocol):
    """Frames that are computed as they are read: a `TalkStream`, or any other object with these properties."""

    @property
    def fps(self) -> float:
        """Frames per second."""

    @property
    def height(self) -> int:
        """Px."""

    @property
    def width(self) -> int:
        """Px."""

    @property
    def frame_count(self) -> int:
        """Number of frames."""

    def __iter__(self) -> Iterator[Tensor]:
        """Chunks of frames [t, 3, H, W] in 0..1."""


def write_video(
    path: str | os.PathLike[str],
    stream: FrameStream,
    audio: Audio | tuple[Tensor, int] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a stream of frames and its sound as an mp4, completely or not at all, one chunk in memory at a time.

    Args:
        path: of the .mp4 file.
        stream: chunks [t, 3, H, W] in 0..1, e.g. the `TalkStream` of `talk`.
        audio: the sound of the video, waveform [C, N] and rate in Hz, from `read_audio`.
        progress: called after each chunk with the last of its frames.

    Raises:
        OutputError: the file cannot be written there.
        SettingsError: size or frame rate of the stream are out of range.
        MediaError: the sound is not [C, N].
    """
    done = 0
    with VideoWriter(path, stream.fps, stream.height, stream.width, audio) as writer:
        for chunk in stream:
            writer.write(chunk)
            done += len(chunk)
            if progress:
                progress(done, stream.frame_count, chunk[-1])


class VideoWriter:
    """Writes frames as they come: `with VideoWriter(...) as writer: writer.write(frames)`.

    The file gets its name when the block ends without an exception; otherwise nothing remains of it. It is encoded in
    a thread of its own behind a short queue, so memory does not grow with the length.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float,
        height: int,
        width: int,
        audio: Audio | tuple[Tensor, int] | None = None,
        crf: int = 18,
    ) -> None:
        """Check everything that can be checked before the first frame exists.

        Args:
            path: of the .mp4 file.
            fps: frames per second, 1 to 120.
            height: of the frames that will come, px; an odd last row is dropped, because 4:2:0 video has even sizes.
            width: of the frames that will come, px; an odd last column is dropped.
            audio: waveform [C, N] and its rate in Hz; cut or filled with silence to the length of the frames.
            crf: x264's quality, 0 (lossless) to 51.

        Raises:
            OutputError: the file cannot be written there.
            SettingsError: frame size, frame rate or crf are out of range.
            MediaError: the sound is not [C, N].
        """
        if min(height, width) < 16:
            raise SettingsError(f"a video must be at least 16 × 16 px; got {width} × {height}")
        if not 0 <= crf <= 51:
            raise SettingsError(f"crf must be between 0 and 51; got {crf}")
        self.path = check_writable(path, (".mp4",))
        self.rate = video_rate(fps)
        self.frame_count = 0
        self._shape = (3, height, width)
        sound = None if audio is None else Audio.of(audio)
        self._audio = None if sound is None else _mono_or_stereo(sound.waveform)
        self._audio_rate = 0 if sound is None else int(sound.sample_rate)
        self._crf = crf
        self._queue: queue.Queue[Pixels | None] = queue.Queue(chunk_frames(QUEUE, height, width))
        self._encoded: Future[None] = Future()
        self._session = self._open()

    def __enter__(self) -> VideoWriter:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    def write(self, frames: Tensor) -> None:
        """Queue frames [T, 3, H, W], float in 0..1 or uint8; waits while the encoder is behind."""
        if tuple(frames.shape[1:]) != self._shape:
            raise ValueError(f"frames must be [T, {', '.join(map(str, self._shape))}]; got {list(frames.shape)}")
        _, height, width = self._shape
        for frame in frames[..., : height // 2 * 2, : width // 2 * 2]:
            # 0.5 is added, because the conversion to uint8 cuts off
            if frame.is_floating_point():
                frame = frame.clamp(0, 1).mul_(255).add_(0.5)
            self._put(frame.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy())
            self.frame_count += 1

    @contextmanager
    def _open(self) -> Iterator[None]:
        # the index is moved to the front, so that a browser can play the file before it has all of it
        options = {"movflags": "+faststart"}
        try:
            with (
                whole_file(self.path) as part,
                av.open(str(part), "w", format="mp4", options=options) as container,
                ThreadPoolExecutor(1, "video-writer") as pool,
            ):
                container.metadata["comment"] = SYNTHETIC
                self._encoded = pool.submit(self._encode, container)
                try:
                    yield
                    if not self.frame_count:
                        raise OutputError(f"'{self.path}' was not written: no frames came")
                except BaseException:
                    self._cancel()
                    raise
                self._put(None)
                self._encoded.result()
        except av.error.FFmpegError as error:
            raise OutputError(f"cannot write '{self.path}': {error.strerror}") from error

    def _put(self, frame: Pixels | None) -> None:
        """Queue a frame [H, W, 3], or None for the end; raises what the encoder has raised."""
        while True:
            if self._encoded.done():
                self._encoded.result()  # before the end it can only have failed: this raises its error
            try:
                # with a timeout: an encoder that has failed would never empty a full queue
                self._queue.put(frame, timeout=POLL_S)
                return
            except queue.Full:
                continue

    def _cancel(self) -> None:
        """Let the encoder end at once, without the frames that wait in the queue."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put(None)

    def _encode(self, container: av.container.OutputContainer) -> None:
        """Encode all frames of the queue until None; runs in a thread of its own."""
        picture = self._picture_stream(container)
        sound = None if self._audio is None else _Sound(container, self._audio, self._audio_rate)
        count = 0
        while (pixels := self._queue.get()) is not None:
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = count, 1 / self.rate
            count += 1
            container.mux(picture.encode(frame))
            if sound:
                sound.encode(count / self.rate)
        container.mux(picture.encode(None))
        if sound:
            sound.flush()

    def _picture_stream(self, container: av.container.OutputContainer) -> av.VideoStream:
        _, height, width = self._shape
        # veryfast: it encodes 145 frames of 512² in a second on two cores, more than are generated
        options = {"crf": str(self._crf), "preset": "veryfast"}
        if math.ceil(width // 2 * 2 / MACROBLOCK) % MB_TREE_BLOCKS:
            # otherwise two writes of the same frames would differ; the file is up to twice as large without
            options["mbtree"] = "0"
        stream = container.add_stream("libx264", self.rate, options=options)
        # 4:2:0 has one colour sample for 2 × 2 px: an odd last row or column cannot be written
        stream.height, stream.width, stream.pix_fmt = height // 2 * 2, width // 2 * 2, "yuv420p"
        codec = stream.codec_context
        # named in the file, because players take an unnamed small video for BT.601, and its colours would change
        codec.color_primaries = codec.color_trc = codec.colorspace = BT709
        codec.color_range = ColorRange.MPEG
        return stream


class _Sound:
    """The sound track; the codec itself resamples and cuts to its own frame length."""

    def __init__(self, container: av.container.OutputContainer, waveform: Samples, rate: int) -> None:
        """Add a track for a waveform [C, N] of `rate` Hz, C = 1 or 2."""
        self.layout = "stereo" if len(waveform) == 2 else "mono"
        self.waveform, self.rate, self.container = waveform, rate, container
        self.stream = container.add_stream("aac", AUDIO_RATE, layout=self.layout)
        self.stream.bit_rate = AUDIO_BITS * len(waveform)
        self.position = 0  # samples that are encoded

    def encode(self, until_s: Fraction) -> None:
        """Encode up to a time; silence where the waveform has ended."""
        end = round(until_s * self.rate)
        samples = self.waveform[:, self.position : end]  # [C, N]
        samples = np.pad(samples, ((0, 0), (0, end - self.position - samples.shape[1])))
        frame = av.AudioFrame.from_ndarray(samples, "fltp", self.layout)
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self.position, Fraction(1, self.rate)
        self.container.mux(self.stream.encode(frame))
        self.position = end

    def flush(self) -> None:
        """Write the samples that the codec still holds."""
        self.container.mux(self.stream.encode(None))


def _mono_or_stereo(waveform: Tensor) -> Samples:
    """[C, N] float32 in −1..1, C = 1 or 2: more than two channels are averaged."""
    if waveform.ndim != 2:
        raise MediaError(f"the sound must be [C, N]; got {list(waveform.shape)}")
    waveform = waveform if len(waveform) <= 2 else waveform.mean(0, keepdim=True)
    samples: Samples = waveform.float().nan_to_num(0).clamp(-1, 1).cpu().contiguous().numpy()
    return samples
