"""Training of the generator (paper, §3.3): perceptual, feature-matching and adversarial losses on its frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ...critics.discriminator import DiscriminatorConfig, MultiScaleDiscriminator, frozen
from ...critics.perceptual import load_perceptual
from ...head.topology import OUTER_LIPS
from ...hub import load_module, save_module
from ...mesh_to_video.gate import change_gate
from ...mesh_to_video.generator_network import FrameGenerator, FrameGeneratorConfig
from ...mesh_to_video.motion_vae import MotionVae, MotionVaeConfig
from ..augment.image import PictureAugmentation
from ..dataset.image_pairs import (
    FACE_WINDOW,
    MOUTH_WINDOW,
    Batch,
    PairData,
    by_frame,
    compose_base,
    cut,
    image_metrics,
    pixel_weights,
    windows,
)
from ..dataset.image_shard import RUN
from ..loop.image_grid import picture_grid
from ..loop.settings import TrainSettings
from ..losses.image import (
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    l1,
    perceptual,
    region_weights,
    temporal_warping,
)
from .motion_vae import predict

TRAINING = TrainSettings(
    steps=3000, batch=4, learning_rate=5e-4, warmup=100, ema=0.995, evaluate_every=200, patience=0, log_every=25
)


@dataclass(frozen=True, slots=True)
class GeneratorSettings:
    """Weights of the losses; `train generator` makes an option of every field."""

    motion: str = ""  # weights of the motion-VAE whose frames are refined; "" = the closed form
    start: str = ""  # initial weights; "" = a network that changes nothing
    l1: float = 20.0
    mouth: float = 8.0  # weight of mouth pixels, 1 = as the rest of the face
    eyes: float = 4.0  # weight of eye pixels
    inside: float = 0.1  # share of that weight in the interior of the mouth
    perceptual: float = 2.0  # of the face, and the same for the mouth at twice the size
    perceptual_weights: str = ""  # file of VGG-19 (torchvision's names); "" = EfficientNet-lite0 of its package
    feature_matching: float = 2.0
    adversarial: float = 0.1
    temporal: float = 4.0
    alpha: float = 0.01  # of changes outside of mouth and eyes
    balance: float = 0.5  # exponent of a person's number of pairs in its sampling probability
    augment: bool = True
    portraits: int = 32  # of evaluation
    seed: int = 0  # of initial weights


class GeneratorTraining(nn.Module):
    """The generator with the discriminator that it is trained against, and the motion-VAE that is not trained."""

    def __init__(self, config: FrameGeneratorConfig, motion: MotionVae | None) -> None:
        super().__init__()
        self.generator = FrameGenerator(config)
        self.discriminator = MultiScaleDiscriminator(DiscriminatorConfig())
        self.motion = None if motion is None else motion.requires_grad_(False)


class GeneratorTask:
    """Image pairs, the losses, and metrics on held-out people."""

    def __init__(self, data: PairData, settings: GeneratorSettings, motion: MotionVae | None) -> None:
        self.data, self.settings = data, settings
        self.config = FrameGeneratorConfig()
        torch.manual_seed(settings.seed)
        self.module = GeneratorTraining(self.config, motion)
        if settings.start:
            known = load_module(FrameGenerator, FrameGeneratorConfig, settings.start)
            self.module.generator.load_state_dict(known.state_dict())
        self.network = load_perceptual(settings.perceptual_weights or None, stages=3)

    def batch(self, generator: Generator, size: int) -> Batch:
        """`size` runs of two frames."""
        return self.data.batch(generator, size)

    def losses(self, module: GeneratorTraining, batch: Batch) -> dict[str, Tensor]:
        """The terms of generator and discriminator on frames [N, 3, 256, 256]; each term trains only one of them."""
        frames, settings = by_frame(batch), self.settings
        predicted, alpha = generate(module, frames)[:2]
        target = frames["target"]
        mouth, eyes = region_weights(frames["points"], predicted.shape[-1])
        corners = windows(frames, FACE_WINDOW)
        real, fake = (cut(picture, corners, FACE_WINDOW) for picture in (target, predicted))
        real_output, fake_output = module.discriminator(real), module.discriminator(fake.detach())
        frozen_output = frozen(module.discriminator, fake)
        pair = _in_runs(predicted), _in_runs(target)
        return {
            "l1": settings.l1 * l1(predicted, target, self._weight(frames)),
            "perceptual": settings.perceptual * self._perceptual(frames, predicted, fake, real),
            "feature_matching": settings.feature_matching * feature_matching(real_output, frozen_output),
            "adversarial": settings.adversarial * hinge_generator(frozen_output),
            "discriminator": hinge_discriminator(real_output, fake_output),
            "temporal": settings.temporal * temporal_warping(*pair, batch["step"], batch["step_mask"]),
            "alpha": settings.alpha * (alpha * (1 - mouth.maximum(eyes)) * frames["occlusion"]).mean(),
        }

    def _weight(self, frames: Batch) -> Tensor:
        """[N, 1, 256, 256] of each pixel in L1."""
        settings = self.settings
        # teeth and tongue cannot be predicted from the inputs, and L1 would give their mean colour, which is brown
        share = 1 - (1 - settings.inside) * frames["paint"][:, 3:]
        return pixel_weights(frames, settings.mouth, settings.eyes) * share

    def _perceptual(self, frames: Batch, predicted: Tensor, fake: Tensor, real: Tensor) -> Tensor:
        """[] perceptual distance of face windows [N, 3, 128, 128], and of the mouth at twice its size."""
        network, around = self.network.to(predicted.device), windows(frames, MOUTH_WINDOW, OUTER_LIPS)
        mouth, target = (
            F.interpolate(cut(image, around, MOUTH_WINDOW), scale_factor=2.0, mode="bilinear", align_corners=False)
            for image in (predicted, frames["target"])
        )
        return perceptual(network, fake, real) + perceptual(network, mouth, target, scales=(1.0,))

    @torch.no_grad()
    def evaluate(self, module: GeneratorTraining) -> dict[str, float]:
        """PSNR in dB, perceptual distance and L1 on held-out people, beside those before the refinement."""
        rows = []
        for batch in self.data.held_out(self.settings.portraits):
            frames = by_frame(batch)
            predicted, _, base = generate(module, frames)
            closed = compose_base(frames, frames["flow"])
            rows.append(self._metrics(frames, {"": predicted, "base_": base, "closed_": closed}))
        metrics = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return metrics | {"score": metrics["l1"] + metrics["perceptual"]}

    def _metrics(self, frames: Batch, pictures: dict[str, Tensor]) -> dict[str, float]:
        """Metrics of pictures [N, 3, 256, 256] by the prefix of their names."""
        corners = windows(frames, FACE_WINDOW)
        metrics: dict[str, float] = {}
        real = cut(frames["target"], corners, FACE_WINDOW)
        weight = self._weight(frames)
        for name, predicted in pictures.items():
            metrics |= {name + key: value for key, value in image_metrics(predicted, frames).items()}
            distance = self._perceptual(frames, predicted, cut(predicted, corners, FACE_WINDOW), real)
            metrics[f"{name}perceptual"] = self.settings.perceptual * float(distance)
            metrics[f"{name}l1"] = self.settings.l1 * float(l1(predicted, frames["target"], weight))
        return metrics

    @torch.no_grad()
    def pictures(self, module: GeneratorTraining) -> Tensor:
        """Portrait, real frame, closed form, refined motion, generated and changes, of held-out people: [3, H, W]."""
        frames = by_frame(next(iter(self.data.held_out(6, 6))))
        predicted, alpha, base = generate(module, frames)
        closed = compose_base(frames, frames["flow"])
        columns = (frames["source"], frames["target"], closed, base, predicted, alpha.expand(-1, 3, -1, -1))
        return picture_grid(
            [[column[n].clamp(0, 1).float() for column in columns] for n in range(0, len(predicted), 2)]
        )

    def save(self, path: Path, module: GeneratorTraining) -> None:
        """Write the generator alone, in half precision."""
        save_module(path, module.generator, self.config, torch.float16)


def generate(module: GeneratorTraining, frames: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Frames [N, 3, 256, 256], the gated alpha [N, 1, 256, 256] and the frames before, of `by_frame`."""
    with torch.no_grad():
        flow, occlusion = frames["flow"], frames["occlusion"]
        if module.motion is not None:
            module.motion.eval()  # without the noise of its own training
            _, flow, occlusion = predict(module.motion, frames)
        base = compose_base(frames, flow)
        painted = frames["paint"][:, 3:]
        gate = change_gate(flow, frames["follow"], painted)
    features = module.generator.encode_source(frames["source"][::RUN]).repeat_interleave(RUN, 0)
    color, alpha = module.generator(features, base, painted, frames["ncc"], frames["mask"], flow, occlusion)
    alpha = alpha.float() * gate
    return base + alpha * (color.float() - base), alpha, base


def _in_runs(frames: Tensor) -> Tensor:
    """[B·R, 3, H, W] to [B, R, 3, H, W]."""
    return frames.reshape(-1, RUN, *frames.shape[1:])


def task(data: Path, settings: GeneratorSettings) -> GeneratorTask:
    """The task of `train generator` on a prepared folder with pairs."""
    motion = load_module(MotionVae, MotionVaeConfig, settings.motion) if settings.motion else None
    augmentation = PictureAugmentation() if settings.augment else None
    return GeneratorTask(PairData(data, settings.balance, augmentation), settings, motion)
