"""Training of the generator (paper, §3.3): perceptual, feature-matching and adversarial losses on its frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...critics.discriminator import DiscriminatorConfig, MultiScaleDiscriminator, frozen
from ...head.topology import OUTER_LIPS
from ...hub import load_module, save_module
from ...mesh_to_video.gate import change_gate
from ...mesh_to_video.generator import smooth_change
from ...mesh_to_video.generator_network import FrameGenerator, FrameGeneratorConfig
from ...mesh_to_video.motion_vae import MotionVae, MotionVaeConfig
from ..dataset.image_pairs import FACE_WINDOW, MOUTH_WINDOW, Batch, PairData, by_frame, compose_base, cut, windows
from ..dataset.image_shard import RUN
from ..loop.settings import TrainSettings, check_weights
from ..losses.image import (
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    l1,
    perceptual,
    region_weights,
    temporal_warping,
)
from .image_task import ImageSettings, ImageTask, load_data
from .motion_vae import predict

TRAINING = TrainSettings(
    steps=3000, batch=4, learning_rate=5e-4, warmup=100, ema=0.995, evaluate_every=200, patience=0, log_every=25
)


@dataclass(frozen=True, slots=True)
class GeneratorSettings(ImageSettings):
    """Weights of the losses; `train generator` makes an option of every field."""

    motion: str = ""  # weights of the motion-VAE whose frames are refined; "" = the closed form
    mouth: float = 8.0  # weight of mouth pixels, 1 = as the rest of the face
    eyes: float = 4.0  # weight of eye pixels
    perceptual: float = 2.0  # of the face, and the same for the mouth at twice the size
    feature_matching: float = 2.0
    adversarial: float = 0.1
    temporal: float = 4.0
    alpha: float = 0.01  # of changes outside of mouth and eyes

    def __post_init__(self) -> None:
        ImageSettings.__post_init__(self)
        check_weights(self, "feature_matching", "adversarial", "temporal", "alpha")


class GeneratorTraining(nn.Module):
    """The generator with the discriminator that it is trained against, and the motion-VAE that is not trained."""

    def __init__(self, config: FrameGeneratorConfig, motion: MotionVae | None) -> None:
        super().__init__()
        self.generator = FrameGenerator(config)
        self.discriminator = MultiScaleDiscriminator(DiscriminatorConfig())
        self.motion = None if motion is None else motion.requires_grad_(False)


class GeneratorTask(ImageTask[GeneratorTraining]):
    """Image pairs, the losses, and metrics on held-out people."""

    def __init__(self, data: PairData, settings: GeneratorSettings, motion: MotionVae | None) -> None:
        super().__init__(data, settings)
        self.settings, self.config = settings, FrameGeneratorConfig()
        torch.manual_seed(settings.seed)
        self.module = GeneratorTraining(self.config, motion)
        if settings.start:
            known = load_module(FrameGenerator, FrameGeneratorConfig, settings.start)
            self.module.generator.load_state_dict(known.state_dict())

    def losses(self, module: GeneratorTraining, batch: Batch) -> dict[str, Tensor]:
        """The terms of generator and discriminator on frames [N, 3, 256, 256]; each term trains only one of them."""
        frames, settings = by_frame(batch), self.settings
        predicted, alpha = generate(module.generator, module.motion, frames)[:2]
        target = frames["target"]
        mouth, eyes = region_weights(frames["points"], predicted.shape[-1])
        corners = windows(frames, FACE_WINDOW)
        real, fake = (cut(picture, corners, FACE_WINDOW) for picture in (target, predicted))
        # The discriminator's own loss must not train the generator: it sees frames without their gradient. For the
        # generator's terms it is frozen instead.
        real_output, fake_output = module.discriminator(real), module.discriminator(fake.detach())
        frozen_output = frozen(module.discriminator, fake)
        pair = _in_runs(predicted), _in_runs(target)
        return {
            "l1": settings.l1 * l1(predicted, target, self.pixel_weights(frames)),
            "perceptual": settings.perceptual * self.distance(frames, predicted, fake, real),
            "feature_matching": settings.feature_matching * feature_matching(real_output, frozen_output),
            "adversarial": settings.adversarial * hinge_generator(frozen_output),
            "discriminator": hinge_discriminator(real_output, fake_output),
            # Compared with the change of the real pair: a penalty on any change would forbid blinks and highlights.
            "temporal": settings.temporal * temporal_warping(*pair, batch["step"], batch["step_mask"]),
            # Away from mouth and eyes, and where nothing had to be filled in, the warped portrait is right already.
            "alpha": settings.alpha * (alpha * (1 - mouth.maximum(eyes)) * frames["occlusion"]).mean(),
        }

    def distance(self, frames: Batch, predicted: Tensor, face: Tensor, target: Tensor) -> Tensor:
        """[] perceptual distance of face windows [N, 3, 128, 128], and of the mouth at twice its size."""
        network, around = self.network.to(predicted.device), windows(frames, MOUTH_WINDOW, OUTER_LIPS)
        # enlarged, because the first layer of EfficientNet-lite0 halves the size, and lips are only a few pixels high
        mouth, target_mouth = (
            F.interpolate(cut(image, around, MOUTH_WINDOW), scale_factor=2.0, mode="bilinear", align_corners=False)
            for image in (predicted, frames["target"])
        )
        return perceptual(network, face, target) + perceptual(network, mouth, target_mouth, scales=(1.0,))

    def versions(self, module: GeneratorTraining, frames: Batch) -> dict[str, Tensor]:
        """The generated frames [N, 3, 256, 256], those before the refinement, and those of the closed form."""
        predicted, _, base = generate(module.generator, module.motion, frames)
        return {"": predicted, "base_": base, "closed_": compose_base(frames, frames["flow"])}

    def columns(self, module: GeneratorTraining, frames: Batch) -> tuple[Tensor, ...]:
        """Portrait, real frame, closed form, refined motion, generated and changes, [N, 3, 256, 256] each."""
        predicted, alpha, base = generate(module.generator, module.motion, frames)
        closed = compose_base(frames, frames["flow"])
        return frames["source"], frames["target"], closed, base, predicted, alpha.expand(-1, 3, -1, -1)

    def save(self, path: Path, module: GeneratorTraining) -> None:
        """Write the generator alone, in half precision."""
        save_module(path, module.generator, self.config, torch.float16)


def generate(generator: FrameGenerator, motion: MotionVae | None, frames: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Frames [N, 3, 256, 256], the gated alpha [N, 1, 256, 256] and the frames before, of `by_frame`."""
    with torch.no_grad():
        flow, occlusion = frames["flow"], frames["occlusion"]
        if motion is not None:
            # Without the noise that a VAE adds in training.
            motion.eval()
            _, flow, occlusion = predict(motion, frames)
        base = compose_base(frames, flow)
        painted = frames["paint"][:, 3:]
        gate = change_gate(flow, frames["follow"], painted)
    # The frames of a run share their portrait: it is encoded once.
    features = generator.encode_source(frames["source"][::RUN]).repeat_interleave(RUN, 0)
    color, alpha = generator(features, base, painted, frames["ncc"], frames["mask"], flow, occlusion)
    alpha = alpha.float() * gate
    return base + alpha * (smooth_change(base, color.float()) - base), alpha, base


def _in_runs(frames: Tensor) -> Tensor:
    """[B·R, 3, H, W] to [B, R, 3, H, W]."""
    return frames.reshape(-1, RUN, *frames.shape[1:])


def task(data: Path, settings: GeneratorSettings) -> GeneratorTask:
    """The task of `train generator` on a prepared folder with pairs."""
    motion = load_module(MotionVae, MotionVaeConfig, settings.motion) if settings.motion else None
    return GeneratorTask(load_data(data, settings), settings, motion)
