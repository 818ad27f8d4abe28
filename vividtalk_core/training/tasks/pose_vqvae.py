"""Training of the pose codebook (phase 1): L_rec = ‖P − P̂‖² + ‖sg(E(P)) − z_q‖² + ‖sg(z_q) − E(P)‖²."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ...audio_to_mesh.pose_codebook import HEAD, HeadPoseVqVae, HeadPoseVqVaeConfig
from ...errors import DatasetError, SettingsError
from ...eval.head_motion import perplexity, reconstruction_rms
from ...hub import save_module
from ..dataset.motion_shard import load_shards
from ..dataset.pose_clips import PoseAugmentation, PoseClip, clip_weights, draw_window, pose_clips
from ..loop.settings import check_counts, check_weights


@dataclass(frozen=True, slots=True)
class PoseCodebookSettings:
    """Size and losses of a pose codebook; `train pose-codebook` makes an option of every field."""

    stride: int = 4  # frames per code
    codes: int = 64  # K of each level
    common_levels: int = 1  # of all of z, before those of its parts
    levels: int = 2  # of the first part of z, the head
    face_levels: int = 1  # of the second part, the upper face
    latent: int = 16  # width of the first part of z
    face_latent: int = 8  # width of the second part
    width: int = 64  # of the hidden layers
    window: int = 96  # frames of a training example
    least_gain: float = 0.5  # lower bound of the amplitude by which a clip is normalised, as a share of the average
    least_s: float = 1.0  # of a clip
    balance: float = 0.5  # exponent of a speaker's frames in its sampling probability; 0 = all speakers alike
    liveliness: float = (
        2.0  # exponent of the amplitude in the sampling probability of heads that move less than the average
    )
    position: float = 1.0  # weight of ‖P − P̂‖²
    velocity: float = 10.0  # weight of the same for differences of neighbouring frames
    acceleration: float = 50.0  # weight of the same for second differences: no kinks where one code follows another
    commitment: float = 0.25  # weight of ‖sg(z_q) − E(P)‖²; ‖sg(E(P)) − z_q‖² is minimised by the moving averages
    translation: float = 0.5  # weight of a translation relative to an angle
    face: float = 0.5  # weight of a curve of the upper face relative to an angle
    seed: int = 0  # of the initial weights

    def __post_init__(self) -> None:
        check_counts(self, "stride", "levels", "face_levels", "latent", "face_latent", "width", "window")
        check_weights(
            self, "common_levels", "position", "velocity", "acceleration", "commitment", "translation", "face"
        )
        # a single code holds no choice, and has no neighbour that the sampler could confuse it with
        if self.codes < 2:
            raise SettingsError(f"codes must be at least 2; got {self.codes}")
        if not self.least_gain > 0:
            raise SettingsError(f"least_gain must be above 0; got {self.least_gain}")


class PoseCodebookTask:
    """Windows of head motion, L_rec, and the error on held-out speakers."""

    def __init__(
        self, train: Sequence[PoseClip], validation: Sequence[PoseClip], settings: PoseCodebookSettings
    ) -> None:
        if not train or not validation:
            raise DatasetError(
                f"a pose codebook needs clips with head motion of at least {settings.least_s:g} s for training and "
                f"validation; got {len(train)} and {len(validation)}."
            )
        self.train, self.validation, self.settings = train, validation, settings
        self.sampling_weights = clip_weights(train, settings.balance, settings.liveliness)
        torch.manual_seed(settings.seed)
        self.module = HeadPoseVqVae(codebook_config(settings))
        # depth is the noisiest channel of a tracker, and the least visible one
        shift, face = settings.translation, settings.face
        self.weights = torch.tensor((1.0, 1.0, 1.0, shift, shift, shift / 3, face, face, face))

    def batch(self, generator: Generator, size: int) -> dict[str, Tensor]:
        """`size` windows: pose [B, T, C]."""
        chosen = torch.multinomial(self.sampling_weights, size, replacement=True, generator=generator).tolist()
        rows = [draw_window(self.train[i], self.settings.window, PoseAugmentation(), generator) for i in chosen]
        return {"pose": torch.stack([row[0] for row in rows])}

    def losses(self, module: HeadPoseVqVae, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """L_rec of the poses [B, T, C], and the same for velocity and acceleration."""
        settings, pose = self.settings, batch["pose"]
        predicted, latents, quantised, _ = module(pose)
        weights = self.weights.to(pose)
        # Differences of order 0, 1 and 2: an error of position that changes from frame to frame is seen as shaking.
        errors = [((predicted.diff(n, 1) - pose.diff(n, 1)).square() * weights).mean() for n in range(3)]
        return {
            "position": settings.position * errors[0],
            "velocity": settings.velocity * errors[1],
            "acceleration": settings.acceleration * errors[2],
            # Towards the codes and not away from them: the codes themselves follow by moving averages, without a
            # gradient.
            "commitment": settings.commitment * F.mse_loss(latents, quantised.detach()),
        }

    def evaluate(self, module: HeadPoseVqVae) -> dict[str, float]:
        """Reconstruction in degrees over all validation frames, and how evenly the codes are used."""
        codes, errors = reconstruct(module, self.validation)
        used = {
            f"perplexity_{g}": perplexity(torch.cat(codes)[:, g], module.config.codes) for g in range(len(codes[0].T))
        }
        error = torch.cat(errors)
        rms = reconstruction_rms(error)
        brows = float(error[:, HEAD].square().mean().sqrt())
        # in units of an average speaker, so that angles and brows can be added
        score = rms / math.degrees(module.config.scales[0]) + brows / module.config.scales[HEAD]
        return {"rms_deg": rms, "brow_rms_iod": brows, "score": score} | used

    def save(self, path: Path, module: nn.Module) -> None:
        """Write the codebook with its config."""
        save_module(path, module, module.config)


def reconstruct(book: HeadPoseVqVae, clips: Sequence[PoseClip]) -> tuple[list[Tensor], list[Tensor]]:
    """Codes [N, G] of each clip, and the error of decoding them [T, C], rad, model units and IOD."""
    device, scales = book.codebook.vectors.device, torch.tensor(book.config.scales)
    codes = [book.encode(clip.pose[None].to(device))[0] for clip in clips]
    predicted = [book.decode(chosen)[: len(clip.pose)].cpu() for clip, chosen in zip(clips, codes, strict=True)]
    return codes, [(m - clip.pose) * scales * clip.gains for clip, m in zip(clips, predicted, strict=True)]


def codebook_config(settings: PoseCodebookSettings) -> HeadPoseVqVaeConfig:
    """The config that the settings ask for."""
    names = ("stride", "codes", "common_levels", "levels", "face_levels", "latent", "face_latent", "width")
    return HeadPoseVqVaeConfig(**{name: getattr(settings, name) for name in names})


def task(data: Path, settings: PoseCodebookSettings) -> PoseCodebookTask:
    """The task of `train pose-codebook`: the prepared folder's clips with head motion, with sound or without."""
    scales = codebook_config(settings).scales
    train, validation = (
        pose_clips(load_shards(data, split), scales, settings.least_gain, settings.least_s)
        for split in ("train", "validation")
    )
    return PoseCodebookTask(train, validation, settings)
