"""Training of the motion-VAE (paper, §3.3): the warped portrait is compared with the real frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...filters import ramp
from ...hub import load_module, save_module
from ...mesh_to_video.gate import change_gate
from ...mesh_to_video.motion_vae import MotionVae, MotionVaeConfig, MotionVaeOutput, combine
from ...structures import CROP
from ..dataset.image_pairs import FACE_WINDOW, Batch, PairData, by_frame, compose_base, cut, textures, windows
from ..dataset.image_shard import RUN
from ..loop.settings import TrainSettings, check_weights
from ..losses.image import kl, l1
from .image_task import ImageSettings, ImageTask, load_data

TRAINING = TrainSettings(
    steps=4000, batch=6, learning_rate=5e-4, warmup=100, ema=0.99, evaluate_every=200, patience=0, log_every=25
)

# mean absolute difference of colour after the warp: below the first the portrait shows the pixel, above the second not
SHOWN_ERROR = (0.05, 0.15)


@dataclass(frozen=True, slots=True)
class MotionSettings(ImageSettings):
    """Weights of the losses; `train motion` makes an option of every field."""

    anchored: bool = True  # a residual on the closed form; off: the paper's own form
    kl: float = 1e-4
    smooth: float = 0.2  # of the residual's slope, px per px
    occlusion: float = 0.1

    def __post_init__(self) -> None:
        ImageSettings.__post_init__(self)
        check_weights(self, "kl", "smooth", "occlusion")


class MotionTask(ImageTask[MotionVae]):
    """Image pairs, the losses, and metrics on held-out people."""

    def __init__(self, data: PairData, settings: MotionSettings) -> None:
        super().__init__(data, settings)
        self.settings, self.config = settings, MotionVaeConfig(anchored=settings.anchored)
        torch.manual_seed(settings.seed)
        self.module = MotionVae(self.config)
        if settings.start:
            self.module.load_state_dict(load_module(MotionVae, MotionVaeConfig, settings.start).state_dict())

    def losses(self, module: MotionVae, batch: Batch) -> dict[str, Tensor]:
        """Image terms on the warped and painted portrait [N, 3, 256, 256], and regularisers of motion and latent."""
        # neighbouring frames are almost the same: one frame of each run is enough
        frames, settings = {name: values[::RUN] for name, values in by_frame(batch).items()}, self.settings
        output, flow, occlusion = predict(module, frames)
        predicted = compose_base(frames, flow)
        corners = windows(frames, FACE_WINDOW)
        face, target = (cut(image, corners, FACE_WINDOW) for image in (predicted, frames["target"]))
        return {
            "l1": settings.l1 * l1(predicted, frames["target"], self.pixel_weights(frames)),
            "perceptual": settings.perceptual * self.distance(frames, predicted, face, target),
            "kl": settings.kl * kl(output.mean.float(), output.log_variance.float()),
            "smooth": settings.smooth * slope(output.flow.float()) * (CROP / 2),
            "occlusion": settings.occlusion * self._occlusion_loss(frames, flow, occlusion),
        }

    def _occlusion_loss(self, frames: Batch, flow: Tensor, occlusion: Tensor) -> Tensor:
        """[] cross-entropy of the occlusion map [N, 1, H, W] with the pixels that the warp explains, on the head."""
        # The target of the occlusion map only: the motion has losses of its own, and must not move to make this one
        # easy.
        with torch.no_grad():
            error = (compose_base(frames, flow) - frames["target"]).abs().mean(1, keepdim=True)
            # Smoothed over 5 px, because single pixels agree by chance and noise makes others differ.
            shown = 1 - ramp(F.avg_pool2d(error, 5, 1, 2), *SHOWN_ERROR)
        terms = F.binary_cross_entropy(occlusion.float().clamp(1e-4, 1 - 1e-4), shown, reduction="none")
        return l1(terms, torch.zeros_like(terms), frames["follow"])

    def versions(self, module: MotionVae, frames: Batch) -> dict[str, Tensor]:
        """The frames [N, 3, 256, 256] with the refined motion, and those of the closed form."""
        flow = predict(module, frames)[1]
        return {"": compose_base(frames, flow), "closed_": compose_base(frames, frames["flow"])}

    def columns(self, module: MotionVae, frames: Batch) -> tuple[Tensor, ...]:
        """Portrait, real frame, closed form, refined, residual motion and occlusion, [N, 3, 256, 256] each."""
        output, flow, occlusion = predict(module, frames)
        # Grey is no residual; black and white are ±4 px.
        shift = output.flow.movedim(-1, 1) * (CROP / 8) + 0.5
        return (
            frames["source"],
            frames["target"],
            compose_base(frames, frames["flow"]),
            compose_base(frames, flow),
            torch.cat((shift, torch.full_like(occlusion, 0.5)), 1),
            occlusion.expand(-1, 3, -1, -1),
        )

    def save(self, path: Path, module: MotionVae) -> None:
        """Write the motion-VAE in half precision."""
        save_module(path, module, self.config, torch.float16)


def predict(module: MotionVae, frames: Batch) -> tuple[MotionVaeOutput, Tensor, Tensor]:
    """The output of the motion-VAE, the flow [N, 256, 256, 2] and the occlusion [N, 1, 256, 256] of `by_frame`."""
    flow, occlusion = frames["flow"], frames["occlusion"]
    output = module(*textures(frames), flow, occlusion)
    gate = change_gate(flow, frames["follow"])
    if not module.config.anchored:
        # The paper's own form has no closed form to build on: motion starts from none, and nothing is occluded.
        flow, occlusion = torch.zeros_like(flow), torch.ones_like(occlusion)
    return output, *combine(output, flow, occlusion, gate)


def slope(flow: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring vectors of a flow [N, H, W, 2], in its unit."""
    return (flow.diff(dim=1).abs().mean() + flow.diff(dim=2).abs().mean()) / 2


def task(data: Path, settings: MotionSettings) -> MotionTask:
    """The task of `train motion` on a prepared folder with pairs."""
    return MotionTask(load_data(data, settings), settings)
