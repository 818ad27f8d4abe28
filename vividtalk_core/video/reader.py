"""Pictures and videos from files: upright sRGB, at a constant frame rate, one frame in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..audio.waveform import read_audio
from ..errors import MediaError, SettingsError
from ..files import existing_file
from ..settings import FPS
from ..structures import Audio

if TYPE_CHECKING:
    import av

# Video of this height and more that names no colour matrix is BT.709, smaller is BT.601.
HD_HEIGHT = 720  # px
ITU709, ITU601 = 1, 5  # swscale's numbers of the colour matrices
# FFmpeg's tag of a frame → swscale's number.
MATRICES = {1: ITU709, 4: 4, 5: ITU601, 6: ITU601, 7: 7, 9: 9, 10: 9}


@dataclass(frozen=True, eq=False, slots=True)
class VideoClip:
    """A video that is read frame by frame."""

    fps: float  # frames per second, constant
    frames: Iterator[Tensor]  # of [3, H, W] uint8 RGB; can be iterated once
    audio: Audio | None  # it starts with the first frame
    frame_count: int  # how many `frames` gives
    height: int  # px
    width: int  # px


@dataclass(frozen=True, slots=True)
class _Timeline:
    """When frames are shown; a file with an uneven rate is resampled to an even one by its timestamps."""

    start: float  # seconds, the first frame
    fps: float
    frame_count: int

    def slot(self, seconds: float) -> int:
        """The number of the frame that begins at a time."""
        return round((seconds - self.start) * self.fps)


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """A picture file as [1, 3, H, W] RGB in 0..1.

    The EXIF orientation is applied, transparency is laid over white, 16-bit, greyscale and CMYK files are converted.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the file is not a picture.
    """
    path = existing_file(path, "picture")
    data = np.fromfile(path, np.uint8)  # imread cannot open every file name on Windows
    image = _decode_image(data) if data.size else None
    if image is None:
        raise MediaError(f"'{path}' is not a picture that can be read ({data.size} bytes): try PNG, JPEG or WebP")
    full = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    image = np.atleast_3d(image).astype(np.float32) / full
    if image.shape[2] == 4:
        alpha = image[..., 3:]
        image = image[..., :3] * alpha + (1 - alpha)
    rgb = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())
    # TIFF and EXR may hold floating-point values beyond 1, and NaN
    return rgb.nan_to_num(0).clamp(0, 1).expand(1, 3, -1, -1).contiguous()


def _decode_image(data: npt.NDArray[np.uint8]) -> npt.NDArray[Any] | None:
    """[H, W] or [H, W, 3 or 4] BGR of any number type, or None."""
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype.kind == "f" or (image.ndim == 3 and image.shape[2] == 4):
            return image
        # decoded again, because these flags apply the EXIF orientation and the first ones do not
        return cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        return None


def read_video(path: str | os.PathLike[str], fps: float | None = None, with_audio: bool = True) -> VideoClip:
    """Open a video: its upright frames at a constant rate and its sound, if it has any.

    Args:
        path: any container and codec that FFmpeg reads.
        fps: frames per second to resample to by time; None keeps the file's own rate.
        with_audio: read the sound too.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the file is not a video, is a single picture, or holds no frame that can be decoded.
        SettingsError: `fps` is out of range.
    """
    import av

    path = existing_file(path, "video")
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            timeline = _timeline(container, stream, fps, path)
            has_audio = with_audio and bool(container.streams.audio)
            origin = (container.start_time or 0) / av.time_base
        # one frame is decoded at once: a damaged file is reported here, and rotation and aspect decide the size
        first = next(_frames(path, timeline))
    except av.error.FFmpegError as error:
        raise MediaError(f"'{path}' cannot be read as a video ({error.strerror})") from error
    audio = _audio_from(path, timeline.start - origin) if has_audio else None
    frames = _frames(path, timeline)
    return VideoClip(timeline.fps, frames, audio, timeline.frame_count, first.shape[1], first.shape[2])


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first video track that is no cover picture."""
    from av.stream import Disposition

    # FFmpeg reads pictures by demuxers with these names
    if container.format.name.endswith("_pipe") or container.format.name == "image2":
        raise MediaError(f"'{path}' is a single picture, a video is needed")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise MediaError(f"'{path}' has no video track")
    return streams[0]


def _timeline(
    container: av.container.InputContainer, stream: av.VideoStream, fps: float | None, path: Path
) -> _Timeline:
    """Read the timestamps of all packets, without decoding them."""
    stamps = [p.dts if p.pts is None else p.pts for p in container.demux(stream) if p.size and not p.is_discard]
    known = np.array([s for s in stamps if s is not None], np.float64)
    if not len(known) or stream.time_base is None:
        raise MediaError(f"'{path}' holds no video frames")
    times = np.sort(known) * float(stream.time_base)
    fps = fps or _frame_rate(times, stream, float(stream.time_base))
    if not FPS[0] <= fps <= FPS[1]:
        raise SettingsError(f"fps must be between {FPS[0]:g} and {FPS[1]:g}; got {fps:g}")
    return _Timeline(float(times[0]), float(fps), round((times[-1] - times[0]) * fps) + 1)


def _frame_rate(times: npt.NDArray[np.float64], stream: av.VideoStream, tick_s: float) -> float:
    """Frames per second by the median distance of timestamps [T]; the exact rate in the file's header if it fits."""
    named = [float(rate) for rate in (stream.average_rate, stream.base_rate) if rate]
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return next((rate for rate in named if FPS[0] <= rate <= FPS[1]), 25.0)
    # the median, because it does not change when single frames were dropped or doubled
    gap = float(np.median(gaps))
    # timestamps are whole ticks, and the rate in a header may be rounded
    tolerance = max(tick_s, gap / 200)
    fitting = [rate for rate in named if abs(1 / rate - gap) <= tolerance]
    return float(np.clip(fitting[0] if fitting else 1 / gap, *FPS))


def _frames(path: Path, timeline: _Timeline) -> Iterator[Tensor]:
    """Exactly `frame_count` frames [3, H, W] uint8, at each time the last picture that has begun."""
    import av

    slot, due = 0, None
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            stream.thread_type = "AUTO"
            aspect = stream.sample_aspect_ratio or 1
            for frame in container.decode(stream):
                arrival = timeline.slot(frame.time) if frame.time is not None else slot + (due is not None)
                while due is not None and slot < min(arrival, timeline.frame_count):
                    yield _to_tensor(due, aspect)
                    slot += 1
                due = frame
    except av.error.FFmpegError as error:
        raise MediaError(f"'{path}' is damaged at frame {slot} of {timeline.frame_count} ({error.strerror})") from error
    if due is None:
        raise MediaError(f"'{path}' holds no video frame that can be decoded")
    for _ in range(slot, timeline.frame_count):
        yield _to_tensor(due, aspect)


def _to_tensor(frame: av.VideoFrame, aspect: Fraction | int) -> Tensor:
    """[3, H, W] uint8 RGB, upright, with square pixels where `aspect` is that of the file's."""
    matrix = MATRICES.get(frame.colorspace, ITU709 if frame.height >= HD_HEIGHT else ITU601)
    rgb = frame.to_ndarray(
        format="rgb24",
        width=round(frame.width * aspect),
        src_colorspace=matrix,
        # RGB has no matrix, but PyAV 14 converts only if the two differ
        dst_colorspace=ITU601 if matrix == ITU709 else ITU709,
    )
    rgb = np.rot90(rgb, round(frame.rotation / 90))
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


def _audio_from(path: Path, start_s: float) -> Audio:
    """The sound [C, N] from `start_s` seconds into the file, where its first frame is shown, and its rate."""
    waveform, rate = read_audio(path)
    return Audio(waveform[:, max(0, round(start_s * rate)) :], rate)
