"""Self-reenactment: a clip's own tracked motion on its first frame, compared with the clip.

It separates the renderer from the audio: whatever is lost here, no better lip curve brings back. Run as
`python -m vividtalk_core.eval.reenactment VIDEO [VIDEO ...]`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio_to_mesh.pose import relative_to_first
from ..face.landmarks import region_of_landmarks
from ..face.track import track_video
from ..pipeline import Models, TalkSettings, drive, load_models
from ..structures import CROP, Crop
from ..video.paste import crop_portrait
from ..video.reader import read_video
from .pictures import face_oval, mouth_box, psnr


@dataclass(frozen=True, slots=True)
class Reenactment:
    """Means over the frames of one clip; the static row is the first frame shown for all."""

    frames: int
    face_psnr: float  # dB inside the face oval, 256 crop
    mouth_psnr: float  # dB in the mouth box, 256 crop
    static_face_psnr: float  # dB
    static_mouth_psnr: float  # dB
    misregistration_px: float  # px of the 256 crop: tracked landmarks of the result against the clip's


def self_reenactment(models: Models, frames: list[Tensor], fps: float) -> Reenactment:
    """Measure one clip.

    Args:
        models: from `load_models`.
        frames: T frames [3, H, W] uint8.
        fps: frames per second.
    """
    track = track_video(models.face, frames, fps)
    first = frames[0][None].float() / 255
    stream = drive(models, first, track.expression, relative_to_first(track.pose), TalkSettings(fps=fps))
    crop, scale = stream.face.crop, CROP / stream.face.crop.size
    origin = torch.tensor((crop.left, crop.top))
    rows, reference = [], _small(first, crop)
    for generated, real, landmarks in zip(_flatten(stream), frames, track.landmarks_2d, strict=True):
        wanted, made = _small(real[None].float() / 255, crop), _small(generated[None], crop)
        points = (landmarks[:, :2] - origin) * scale
        regions = (face_oval(points, CROP, CROP), mouth_box(points, CROP, CROP))
        scores = [psnr(picture, wanted, region) for picture in (made, reference) for region in regions]
        rows.append([*scores, _misregistration(models, made, points)])
    means = np.mean(rows[1:], axis=0).tolist()  # the first frame is the portrait itself
    return Reenactment(len(rows) - 1, *means)


def _flatten(stream: Iterator[Tensor]) -> Iterator[Tensor]:
    """Single frames [3, H, W] of chunks [t, 3, H, W]."""
    for chunk in stream:
        yield from chunk


def _small(image: Tensor, crop: Crop) -> Tensor:
    """[1, 3, 256, 256] the crop of a picture [1, 3, H, W]."""
    return F.interpolate(crop_portrait(image, crop), size=(CROP, CROP), mode="bilinear", antialias=True)


def _misregistration(models: Models, made: Tensor, points: Tensor) -> float:
    """Mean distance in px of the crop between the landmarks found in [1, 3, 256, 256] and those expected [478, 2]."""
    padded = torch.cat((points, torch.zeros(len(points), 1)), 1)
    found, _ = models.face.landmarker.landmarks(made, region_of_landmarks(padded[None]))
    return float((found[0, :468, :2] - points[:468]).norm(dim=-1).mean())


def main() -> None:
    """Print one JSON line per clip."""
    models = load_models()
    for name in sys.argv[1:]:
        clip = read_video(Path(name))
        result = self_reenactment(models, list(clip.frames), clip.fps)
        sys.stdout.write(json.dumps({"clip": Path(name).name, **asdict(result)}) + "\n")


if __name__ == "__main__":
    main()
