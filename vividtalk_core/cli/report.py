"""What a run cost, as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import whole_file
from ..pipeline import TalkStream

STAGES = ("load", "fit", "audio", "expression", "pose", "mesh", "render", "motion", "generate", "paste", "encode")


def make_report(stream: TalkStream, size: tuple[int, int], total_s: float, weights: str) -> dict[str, Any]:
    """The metrics of one video.

    Args:
        stream: what was rendered.
        size: width and height of the video in px.
        total_s: seconds from the first file that was read to the finished video.
        weights: what the models were loaded from.

    Returns:
        frames, fps, size [width, height], seconds per stage and total, ms_per_frame (all but load and fit, over the
        frames), peak_rss_mb, face_box [left, top, right, bottom] px of the video, weights.
    """
    # every stage, also one that did not run, so that reports have the same keys
    seconds = {stage: stream.timer.seconds.get(stage, 0.0) for stage in STAGES}
    # loading and fitting take the same time for a video of any length
    per_frame = 1000 * (total_s - seconds["load"] - seconds["fit"]) / stream.frame_count
    return {
        "frames": stream.frame_count,
        "fps": stream.fps,
        "size": list(size),
        "seconds": {stage: round(s, 4) for stage, s in (seconds | {"total": total_s}).items()},
        "ms_per_frame": round(per_frame, 3),
        "peak_rss_mb": peak_rss_mb(),
        "face_box": face_box(stream),
        "weights": weights,
    }


def face_box(stream: TalkStream) -> list[float]:
    """Left, top, right, bottom of the fitted landmarks in px of the portrait that was given to the pipeline."""
    crop, points = stream.face.crop, stream.face.landmarks[:, :2]
    # landmarks are in px of the 256 crop, the report in px of the video
    scale = crop.size / stream.face.image.shape[-1]
    corners = [*(points.amin(0) * scale).tolist(), *(points.amax(0) * scale).tolist()]
    return [round(c + o, 2) for c, o in zip(corners, (crop.left, crop.top) * 2, strict=True)]


def peak_rss_mb() -> float | None:
    """The most memory this process has held, in MB of 2²⁰ bytes; None where the system does not report it."""
    status = Path("/proc/self/status")
    # not getrusage where there is /proc: a child inherits its parent's peak there
    if status.is_file():
        lines = (line.split() for line in status.read_text().splitlines())
        return next((round(int(parts[1]) / 1024, 1) for parts in lines if parts and parts[0] == "VmHWM:"), None)
    try:
        import resource
    except ImportError:
        return None
    # ru_maxrss is in bytes on macOS and in KiB elsewhere
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def write_json(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
