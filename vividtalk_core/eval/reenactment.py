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

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio_to_mesh.pose import relative_to_first
from ..face.landmarks import region_of_landmarks
from ..face.topology import FACE_OVAL, OUTER_LIPS
from ..face.track import track_video
from ..pipeline import Models, TalkSettings, drive, load_models
from ..structures import CROP, Crop
from ..video.paste import crop_portrait
from ..video.reader import read_video

MOUTH_MARGIN = 0.35  # of the lips' size, added on each side of the mouth box


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
        regions = (_oval(points), _mouth(points))
        scores = [_psnr(picture, wanted, region) for picture in (made, reference) for region in regions]
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


def _oval(points: Tensor) -> Tensor:
    """[256, 256] bool inside the face oval of landmarks [478, 2] px of the crop."""
    mask = np.zeros((CROP, CROP), np.uint8)
    cv2.fillPoly(mask, [points[list(FACE_OVAL)].numpy().round().astype(np.int32)], 1)
    return torch.from_numpy(mask) > 0


def _mouth(points: Tensor) -> Tensor:
    """[256, 256] bool inside the mouth box."""
    lips = points[list(OUTER_LIPS)]
    low, high = lips.amin(0), lips.amax(0)
    margin = (high - low).amax() * MOUTH_MARGIN / 2
    left, top, right, bottom = torch.cat((low - margin, high + margin)).round().long().clamp(0, CROP).tolist()
    mask = torch.zeros(CROP, CROP, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def _psnr(made: Tensor, wanted: Tensor, where: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures [1, 3, H, W] inside a mask [H, W]."""
    error = ((made - wanted) ** 2)[:, :, where].mean().clamp(min=1e-10)
    return float(-10 * torch.log10(error))


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
