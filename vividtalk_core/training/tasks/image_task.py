"""What the trainings of motion-VAE and generator share: image pairs, the distance of faces, evaluation and pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Generator, Tensor, nn

from ...critics.perceptual import load_perceptual
from ..augment.image import PictureAugmentation
from ..dataset.image_pairs import FACE_WINDOW, Batch, PairData, by_frame, cut, image_metrics, pixel_weights, windows
from ..dataset.image_shard import RUN
from ..loop.image_grid import picture_grid
from ..loop.settings import check_counts, check_weights
from ..losses.image import l1, perceptual

ModuleKind = TypeVar("ModuleKind", bound=nn.Module)

# Three of a backbone's stages: deeper ones recognise what is in a picture, and hardly where its edges lie.
STAGES = 3

SHOWN = 6  # people in the sheet of pictures


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """The settings that both tasks have."""

    start: str = ""  # initial weights; "" = a network that changes nothing
    l1: float = 20.0
    mouth: float = 4.0  # weight of mouth pixels, 1 = as the rest of the face
    eyes: float = 2.0  # weight of eye pixels
    perceptual: float = 2.0
    perceptual_weights: str = ""  # file of VGG-19 (torchvision's names); "" = EfficientNet-lite0 of its package
    balance: float = 0.5  # exponent of a person's number of pairs in its sampling probability
    augment: bool = True
    portraits: int = 32  # of evaluation
    seed: int = 0  # of initial weights

    def __post_init__(self) -> None:
        check_counts(self, "portraits")
        check_weights(self, "l1", "mouth", "eyes", "perceptual")


class ImageTask(ABC, Generic[ModuleKind]):
    """Image pairs, the perceptual distance, and metrics on held-out people.

    Args:
        data: of `load_data`.
        settings: weights of the losses.
    """

    module: ModuleKind

    def __init__(self, data: PairData, settings: ImageSettings) -> None:
        self.data, self.shared = data, settings
        self.network = load_perceptual(settings.perceptual_weights or None, stages=STAGES)

    def batch(self, generator: Generator, size: int) -> Batch:
        """`size` runs of two frames, tensors [B, R, ...]."""
        return self.data.batch(generator, size)

    @abstractmethod
    def versions(self, module: ModuleKind, frames: Batch) -> dict[str, Tensor]:
        """Pictures [N, 3, 256, 256] to evaluate, by the prefix of their metrics; "" is what the module makes."""

    @abstractmethod
    def columns(self, module: ModuleKind, frames: Batch) -> tuple[Tensor, ...]:
        """What the sheet of pictures shows side by side, [N, 3, H, W] each."""

    def pixel_weights(self, frames: Batch) -> Tensor:
        """[N, 1, 256, 256] weight of each pixel in L1."""
        return pixel_weights(frames, self.shared.mouth, self.shared.eyes)

    def distance(self, frames: Batch, predicted: Tensor, face: Tensor, target: Tensor) -> Tensor:
        """[] perceptual distance of pictures [N, 3, 256, 256] from the real ones.

        Args:
            frames: of `by_frame`.
            predicted: whole pictures, for tasks that compare more than the face.
            face: [N, 3, 128, 128] the face windows of `predicted`.
            target: [N, 3, 128, 128] the face windows of the real frames.
        """
        return perceptual(self.network.to(face.device), face, target)

    @torch.no_grad()
    def evaluate(self, module: ModuleKind) -> dict[str, float]:
        """PSNR in dB, perceptual distance and L1 on held-out people, of every version."""
        rows = []
        for batch in self.data.held_out(self.shared.portraits):
            frames = by_frame(batch)
            rows.append(self._metrics(frames, self.versions(module, frames)))
        metrics = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        # The two terms that compare with the real frame, as the losses weight them. Regularisers and an adversarial
        # term would favour a network that changes less, or one that its own discriminator happens to accept.
        return metrics | {"score": metrics["l1"] + metrics["perceptual"]}

    def _metrics(self, frames: Batch, pictures: dict[str, Tensor]) -> dict[str, float]:
        """Metrics of pictures [N, 3, 256, 256] by the prefix of their names."""
        corners = windows(frames, FACE_WINDOW)
        metrics: dict[str, float] = {}
        target, weight = cut(frames["target"], corners, FACE_WINDOW), self.pixel_weights(frames)
        for name, predicted in pictures.items():
            metrics |= {name + key: value for key, value in image_metrics(predicted, frames).items()}
            distance = self.distance(frames, predicted, cut(predicted, corners, FACE_WINDOW), target)
            metrics[f"{name}perceptual"] = self.shared.perceptual * float(distance)
            metrics[f"{name}l1"] = self.shared.l1 * float(l1(predicted, frames["target"], weight))
        return metrics

    @torch.no_grad()
    def pictures(self, module: ModuleKind) -> Tensor:
        """`columns` of held-out people, a row each: [3, H, W]."""
        frames = by_frame(next(iter(self.data.held_out(SHOWN, SHOWN))))
        columns = self.columns(module, frames)
        # one frame of each run: the other one looks the same
        rows = range(0, len(frames["target"]), RUN)
        return picture_grid([[column[n].clamp(0, 1).float() for column in columns] for n in rows])


def load_data(data: Path, settings: ImageSettings) -> PairData:
    """The pairs of a prepared folder; DatasetError if a split has none."""
    return PairData(data, settings.balance, PictureAugmentation() if settings.augment else None)
