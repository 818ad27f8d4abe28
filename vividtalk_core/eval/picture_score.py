"""Figures of the pictures of a video, watched once more beside the real one, a frame at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from ..critics.face_embedder import FaceEmbedder, csim
from ..pixels import to_float
from .footage import Footage
from .lip_score import known
from .motion import BackgroundMotion, brightness, flicker, startup_jitter
from .pictures import face_oval, mouth_box, psnr, ssim
from .sharpness import cpbd

PICTURES = 50  # frames, spread over the clip, whose pictures are compared: enough for a mean


@dataclass(frozen=True, slots=True)
class PictureScore:
    """Pictures of the video; None where there is nothing to compare with."""

    cpbd: float | None  # share of edges that look sharp, of the face crop
    flicker: float | None  # 0..255, mean second difference of brightness in the face
    background_motion: float | None  # of the change in the face, about 0 is wanted
    startup_jitter: float | None  # of the tremble later on, about 1 is wanted
    face_psnr: float | None  # dB inside the face oval
    mouth_psnr: float | None  # dB in the mouth box
    face_ssim: float | None  # inside the face oval
    csim: float | None  # mean cosine with the real face, by the embedder


def score_pictures(
    generated: Footage,
    points: Tensor,
    reference: Footage | None = None,
    real_points: Tensor | None = None,
    embedder: FaceEmbedder | None = None,
) -> PictureScore:
    """Compare pictures where the real face is: PSNR and SSIM mean something only if both heads move alike.

    Args:
        generated: the video to judge.
        points: [T, 478, 2] px, its landmarks; T frames are looked at.
        reference: the real video.
        real_points: [T, 478, 2] px, its landmarks.
        embedder: for CSIM.
    """
    means, background, count = _Means(embedder), BackgroundMotion(points), len(points)
    looked_at = set(torch.linspace(0, count - 1, min(count, PICTURES)).round().long().tolist())
    pairs = None if reference is None else iter(reference.frames())
    blocks = []
    for index, frame in enumerate(islice(generated.frames(), count)):
        made, wanted = to_float(frame), None if pairs is None else to_float(next(pairs))
        background.add(made)
        blocks.append(brightness(made, points))
        if index in looked_at:
            means.add("cpbd", cpbd(made))
            if wanted is not None:
                means.compare(made, wanted, points[index], real_points[index])
    compared = {name: means.of(name) for name in ("cpbd", "face_psnr", "mouth_psnr", "face_ssim", "csim")}
    return PictureScore(
        flicker=known(flicker(torch.stack(blocks))),
        background_motion=known(background.ratio()),
        startup_jitter=known(startup_jitter(points, generated.fps)),
        **compared,
    )


class _Means:
    """Means over the pictures of a clip."""

    def __init__(self, embedder: FaceEmbedder | None) -> None:
        self.embedder = embedder
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        if known(value) is not None:
            self.values.setdefault(name, []).append(value)

    def of(self, name: str) -> float | None:
        values = self.values.get(name)
        return sum(values) / len(values) if values else None

    def compare(self, made: Tensor, wanted: Tensor, made_points: Tensor, points: Tensor) -> None:
        """One generated picture [3, H, W] with the real one, brought to its size."""
        size = made.shape[1:]
        if wanted.shape[1:] != size:
            points = points * torch.tensor((size[1] / wanted.shape[2], size[0] / wanted.shape[1]))
            wanted = F.interpolate(wanted[None], size=size, mode="bilinear", antialias=True)[0]
        oval, mouth = face_oval(points, *size), mouth_box(points, *size)
        self.add("face_psnr", psnr(made[None], wanted[None], oval))
        self.add("mouth_psnr", psnr(made[None], wanted[None], mouth))
        self.add("face_ssim", ssim(made[None], wanted[None], oval))
        if self.embedder is not None:
            vectors = self.embedder.embed(made, made_points), self.embedder.embed(wanted, points)
            self.add("csim", csim(*(v[None] for v in vectors)))
