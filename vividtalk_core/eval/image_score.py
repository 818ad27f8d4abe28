"""Metrics of the images of a video, which is read once more beside the reference, one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, repeat

import torch
import torch.nn.functional as F
from torch import Tensor

from ..critics.face_embedder import FaceEmbedder, csim
from ..pixels import to_float
from .footage import Footage
from .image_metrics import face_oval, mouth_box, psnr, ssim
from .lip_score import none_if_nan
from .motion import BackgroundMotion, brightness, flicker, startup_jitter
from .sharpness import cpbd

# Frames, spread over the clip, that are compared one by one: enough for a stable mean.
COMPARED = 50


@dataclass(frozen=True, slots=True)
class ImageScore:
    """Images of the video; None where there is nothing to compare with."""

    cpbd: float | None  # share of edges that look sharp, in the whole frame
    flicker: float | None  # 0..255, mean second difference of brightness in the face
    background_motion: float | None  # of the change in the face, about 0 is best
    startup_jitter: float | None  # jitter at the start over the jitter later on, about 1 is best
    face_psnr: float | None  # dB inside the face oval
    mouth_psnr: float | None  # dB in the mouth box
    face_ssim: float | None  # inside the face oval
    csim: float | None  # mean cosine with the face of the reference, by the embedder


def score_images(
    generated: Footage,
    points: Tensor,
    reference: Footage | None = None,
    reference_points: Tensor | None = None,
    embedder: FaceEmbedder | None = None,
) -> ImageScore:
    """Compare images where the face of the reference is: PSNR and SSIM need two heads that move in the same way.

    Args:
        generated: the video to evaluate.
        points: [T, 478, 2] px, its landmarks; its first T frames are used.
        reference: the real video; needs its landmarks.
        reference_points: [T, 478, 2] px.
        embedder: for CSIM.
    """
    means, background, count = _Means(embedder), BackgroundMotion(points), len(points)
    compared = spread_frames(count, COMPARED)
    references = repeat(None) if reference is None else iter(reference.frames())
    blocks = []
    for index, (frame, real) in enumerate(zip(islice(generated.frames(), count), references, strict=False)):
        image = to_float(frame)
        # In every frame, while the comparison takes some: background and flicker are about changes from one frame to
        # the next.
        background.add(image)
        blocks.append(brightness(image, points))
        if index not in compared:
            continue
        means.add("cpbd", cpbd(image))
        if real is not None and reference_points is not None:
            means.compare(image, to_float(real), points[index], reference_points[index])
    return ImageScore(
        cpbd=means.of("cpbd"),
        flicker=none_if_nan(flicker(torch.stack(blocks))),
        background_motion=none_if_nan(background.ratio()),
        startup_jitter=none_if_nan(startup_jitter(points, generated.fps)),
        face_psnr=means.of("face_psnr"),
        mouth_psnr=means.of("mouth_psnr"),
        face_ssim=means.of("face_ssim"),
        csim=means.of("csim"),
    )


def spread_frames(count: int, most: int) -> set[int]:
    """Numbers of at most `most` of `count` frames, spread evenly from the first to the last."""
    return set(torch.linspace(0, count - 1, min(count, most)).round().long().tolist())


class _Means:
    """Means over the images of a clip."""

    def __init__(self, embedder: FaceEmbedder | None) -> None:
        self.embedder = embedder
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        if none_if_nan(value) is not None:
            self.values.setdefault(name, []).append(value)

    def of(self, name: str) -> float | None:
        values = self.values.get(name)
        return sum(values) / len(values) if values else None

    def compare(self, image: Tensor, target: Tensor, points: Tensor, target_points: Tensor) -> None:
        """One generated image [3, H, W] with the target [3, H', W'], brought to its size; landmarks [478, 2] px."""
        size = (image.shape[1], image.shape[2])
        # The reference is resized, so that the generated image is compared as it is.
        if target.shape[1:] != image.shape[1:]:
            scale = (size[1] / target.shape[2], size[0] / target.shape[1])
            target_points = target_points * torch.tensor(scale)
            target = F.interpolate(target[None], size=size, mode="bilinear", antialias=True)[0]
        oval, mouth = face_oval(target_points, *size), mouth_box(target_points, *size)
        self.add("face_psnr", psnr(image[None], target[None], oval))
        self.add("mouth_psnr", psnr(image[None], target[None], mouth))
        self.add("face_ssim", ssim(image[None], target[None], oval))
        if self.embedder is not None:
            ours, theirs = self.embedder.embed(image, points), self.embedder.embed(target, target_points)
            self.add("csim", csim(ours[None], theirs[None]))
