"""Training of the motion-VAE (paper, §3.3): the warped portrait is compared with the real frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...critics.perceptual import load_perceptual
from ...filters import ramp
from ...hub import load_module, save_module
from ...mesh_to_video.gate import change_gate
from ...mesh_to_video.motion_vae import MotionVae, MotionVaeConfig, MotionVaeOutput, combine
from ...structures import CROP
from ..augment.image import PictureAugmentation
from ..dataset.image_pairs import (
    FACE_WINDOW,
    Batch,
    PairData,
    by_frame,
    compose_base,
    cut,
    image_metrics,
    pixel_weights,
    textures,
)
from ..dataset.image_pairs import windows as windows_of
from ..dataset.image_shard import RUN
from ..loop.image_grid import picture_grid
from ..loop.settings import TrainSettings
from ..losses.image import kl, l1, perceptual

TRAINING = TrainSettings(
    steps=4000, batch=6, learning_rate=5e-4, warmup=100, ema=0.99, evaluate_every=200, patience=0, log_every=25
)

# mean absolute difference of colour after the warp: below the first the portrait shows the pixel, above the second not
SHOWN_ERROR = (0.05, 0.15)


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """Weights of the losses; `train motion` makes an option of every field."""

    anchored: bool = True  # a residual on the closed form; off: the paper's own form
    start: str = ""  # initial weights; "" = a network that changes nothing
    l1: float = 20.0
    mouth: float = 4.0  # weight of mouth pixels, 1 = as the rest of the face
    eyes: float = 2.0  # weight of eye pixels
    perceptual: float = 2.0
    perceptual_weights: str = ""  # file of VGG-19 (torchvision's names); "" = EfficientNet-lite0 of its package
    kl: float = 1e-4
    smooth: float = 0.2  # of the residual's slope, px per px
    occlusion: float = 0.1
    balance: float = 0.5  # exponent of a person's number of pairs in its sampling probability
    augment: bool = True
    portraits: int = 32  # of evaluation
    seed: int = 0  # of initial weights


class MotionTask:
    """Image pairs, the losses, and metrics on held-out people."""

    def __init__(self, data: PairData, settings: MotionSettings) -> None:
        self.data, self.settings = data, settings
        self.config = MotionVaeConfig(anchored=settings.anchored)
        torch.manual_seed(settings.seed)
        self.module = MotionVae(self.config)
        if settings.start:
            self.module.load_state_dict(load_module(MotionVae, MotionVaeConfig, settings.start).state_dict())
        self.network = load_perceptual(settings.perceptual_weights or None, stages=3)

    def batch(self, generator: Generator, size: int) -> Batch:
        """`size` runs of two frames."""
        return self.data.batch(generator, size)

    def losses(self, module: MotionVae, batch: Batch) -> dict[str, Tensor]:
        """Image terms on the warped and painted portrait [N, 3, 256, 256], and regularisers of motion and latent."""
        # neighbouring frames are almost the same: one frame of each run is enough
        frames, settings = {name: values[::RUN] for name, values in by_frame(batch).items()}, self.settings
        output, flow, occlusion = predict(module, frames)
        predicted = compose_base(frames, flow)
        corners = windows_of(frames, FACE_WINDOW)
        window, target = (cut(image, corners, FACE_WINDOW) for image in (predicted, frames["target"]))
        network = self.network.to(predicted.device)
        return {
            "l1": settings.l1 * l1(predicted, frames["target"], pixel_weights(frames, settings.mouth, settings.eyes)),
            "perceptual": settings.perceptual * perceptual(network, window, target),
            "kl": settings.kl * kl(output.mean.float(), output.log_variance.float()),
            "smooth": settings.smooth * slope(output.flow.float()) * (CROP / 2),
            "occlusion": settings.occlusion * self._occlusion_loss(frames, flow, occlusion),
        }

    def _occlusion_loss(self, frames: Batch, flow: Tensor, occlusion: Tensor) -> Tensor:
        """[] cross-entropy of the occlusion map [N, 1, H, W] with the pixels that the warp explains, on the head."""
        with torch.no_grad():
            error = (compose_base(frames, flow) - frames["target"]).abs().mean(1, keepdim=True)
            shown = 1 - ramp(F.avg_pool2d(error, 5, 1, 2), *SHOWN_ERROR)
        terms = F.binary_cross_entropy(occlusion.float().clamp(1e-4, 1 - 1e-4), shown, reduction="none")
        return l1(terms, torch.zeros_like(terms), frames["follow"])

    @torch.no_grad()
    def evaluate(self, module: MotionVae) -> dict[str, float]:
        """PSNR in dB, perceptual distance and L1 on held-out people, beside those of the closed form."""
        rows = []
        for batch in self.data.held_out(self.settings.portraits):
            frames = by_frame(batch)
            flow = predict(module, frames)[1]
            pictures = {"": compose_base(frames, flow), "closed_": compose_base(frames, frames["flow"])}
            rows.append(self._metrics(frames, pictures))
        metrics = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return metrics | {"score": metrics["l1"] + metrics["perceptual"]}

    def _metrics(self, frames: Batch, pictures: dict[str, Tensor]) -> dict[str, float]:
        """Metrics of pictures [N, 3, 256, 256] by the prefix of their names."""
        corners = windows_of(frames, FACE_WINDOW)
        metrics: dict[str, float] = {}
        target = cut(frames["target"], corners, FACE_WINDOW)
        weight = pixel_weights(frames, self.settings.mouth, self.settings.eyes)
        for name, predicted in pictures.items():
            metrics |= {name + key: value for key, value in image_metrics(predicted, frames).items()}
            part = cut(predicted, corners, FACE_WINDOW)
            metrics[f"{name}perceptual"] = self.settings.perceptual * float(perceptual(self.network, part, target))
            metrics[f"{name}l1"] = self.settings.l1 * float(l1(predicted, frames["target"], weight))
        return metrics

    @torch.no_grad()
    def pictures(self, module: MotionVae) -> Tensor:
        """Portrait, real frame, closed form, refined, residual motion and occlusion of held-out people: [3, H, W]."""
        frames = by_frame(next(iter(self.data.held_out(6, 6))))
        output, flow, occlusion = predict(module, frames)
        shift = output.flow.movedim(-1, 1) * (CROP / 8) + 0.5  # ±4 px
        columns = (
            frames["source"],
            frames["target"],
            compose_base(frames, frames["flow"]),
            compose_base(frames, flow),
            torch.cat((shift, torch.full_like(occlusion, 0.5)), 1),
            occlusion.expand(-1, 3, -1, -1),
        )
        return picture_grid([[column[n].clamp(0, 1).float() for column in columns] for n in range(0, len(flow), 2)])

    def save(self, path: Path, module: MotionVae) -> None:
        """Write the motion-VAE in half precision."""
        save_module(path, module, self.config, torch.float16)


def predict(module: MotionVae, frames: Batch) -> tuple[MotionVaeOutput, Tensor, Tensor]:
    """The output of the motion-VAE, the flow [N, 256, 256, 2] and the occlusion [N, 1, 256, 256] of `by_frame`."""
    flow, occlusion = frames["flow"], frames["occlusion"]
    output = module(*textures(frames), flow, occlusion)
    gate = change_gate(flow, frames["follow"])
    if not module.config.anchored:
        flow, occlusion = torch.zeros_like(flow), torch.ones_like(occlusion)
    return output, *combine(output, flow, occlusion, gate)


def slope(flow: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring vectors of a flow [N, H, W, 2], in its unit."""
    return (flow.diff(dim=1).abs().mean() + flow.diff(dim=2).abs().mean()) / 2


def task(data: Path, settings: MotionSettings) -> MotionTask:
    """The task of `train motion` on a prepared folder with pairs."""
    augmentation = PictureAugmentation() if settings.augment else None
    return MotionTask(PairData(data, settings.balance, augmentation), settings)
