"""Training of the pose sampler (phase 2): L_map = ‖P − P̂‖² + ‖Ẑ − sg(Z_q)‖², and the likelihood of the codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...audio_to_mesh.pose_codebook import HeadPoseVqVae, HeadPoseVqVaeConfig
from ...audio_to_mesh.pose_sampler import PoseSampler, PoseSamplerConfig
from ...errors import DatasetError, SettingsError
from ...hub import load_module, save_module
from ..dataset.motion_shard import load_shards
from ..dataset.pose_clips import PoseAugmentation, PoseClip, clip_weights, draw_window, pose_clips
from ..losses.motion import masked_mean

# Less than for the codebook: enlarged much, a head would stay where codes end, and a sampler would learn to be stuck.
AUGMENTATION = PoseAugmentation(smallest=0.6, largest=1.15, uneven=1.35)


@dataclass(frozen=True, slots=True)
class PoseSettings:
    """What a pose sampler is and how it learns; `train pose` makes an option of every field."""

    codebook: str = ""  # weights of `train pose-codebook`
    bands: int = 0  # groups of mel bands that are heard besides the loudness; they tell voices apart, not heads
    ahead: int = 11  # frames heard after a code's beginning
    audio: int = 24  # width of A
    style: int = 8  # width of z_style
    memory: int = 64  # width of the recurrent state
    gain: float = 1.45  # of what is decoded; sampled motion wanders less widely than the clips it was learned from
    dropout: float = 0.45  # of what enters the memory and of what leaves it
    window: int = 320  # frames of a training example: long enough to see heads come back from where they turned
    least_gain: float = 0.5  # heads that move less than this share of the average are not enlarged to it
    least_s: float = 2.0  # of a clip
    balance: float = 0.5  # exponent of a speaker's frames in the chance to be drawn; 0 = all speakers alike
    liveliness: float = 2.0  # exponent with which heads that hardly move are drawn less
    style_drop: float = 0.5  # share of examples without a style
    style_noise: float = 0.3  # standard deviations added to α: few speakers would be learned by heart
    audio_drop: float = 0.2  # share of examples that hear silence
    audio_noise: float = 0.05  # standard deviation added to what is heard, which is 0..1
    code_noise: float = 0.1  # share of past codes that are another, near one, as in sampling
    position: float = 0.1  # weight of ‖P − P̂‖², P̂ = D(q(Ẑ)): small, for what cannot be known is not averaged
    latent: float = 0.1  # weight of ‖Ẑ − sg(Z_q)‖²
    code: float = 1.0  # weight of −log softmax(−‖Ẑ − z_k‖²/τ) of the true codes
    seed: int = 0  # of the initial weights


class PoseTask:
    """Windows of speech with head motion, L_map, and the likelihood of unseen speakers' codes."""

    def __init__(
        self,
        train: Sequence[PoseClip],
        validation: Sequence[PoseClip],
        codebook: HeadPoseVqVae,
        settings: PoseSettings,
    ) -> None:
        if not train or not validation:
            raise DatasetError(
                f"a pose sampler needs speech with head motion of at least {settings.least_s:g} s for training and "
                f"validation; got {len(train)} and {len(validation)} clips."
            )
        self.train, self.validation, self.settings = train, validation, settings
        self.sampling_weights = clip_weights(train, settings.balance, settings.liveliness)
        torch.manual_seed(settings.seed)
        self.module = PoseSampler(sampler_config(codebook.config, settings, len(train[0].id_coefficients)))
        self.module.codebook.load_state_dict(codebook.state_dict())
        self.module.codebook.requires_grad_(False)
        self.codebook = codebook.eval()
        self.module.map.set_spread(self.codebook.codebook.vectors)

    @torch.no_grad()
    def _codes(self, pose: Tensor) -> Tensor:
        return self.codebook.to(pose.device).encode(pose)

    def batch(self, generator: Generator, size: int) -> dict[str, Tensor]:
        """`size` windows: pose [B, T, 6], features [B, T, 320], inside [B, T], α [B, I] and what is kept of them."""
        settings = self.settings
        chosen = torch.multinomial(self.sampling_weights, size, replacement=True, generator=generator).tolist()
        clips = [self.train[i] for i in chosen]
        rows = [draw_window(clip, settings.window, AUGMENTATION, generator) for clip in clips]
        identity = torch.stack([clip.id_coefficients for clip in clips])
        codes = -(-settings.window // self.module.config.stride)
        return {
            "pose": torch.stack([row[0] for row in rows]),
            "features": torch.stack([row[1] for row in rows]),
            "inside": torch.stack([row[2] for row in rows]),
            "identity": identity + settings.style_noise * torch.randn(identity.shape, generator=generator),
            "style_kept": (torch.rand(size, 1, generator=generator) >= settings.style_drop).float(),
            "audio_kept": (torch.rand(size, 1, 1, generator=generator) >= settings.audio_drop).float(),
            "noise": torch.rand(size, codes, generator=generator),
            "neighbour": torch.randint(1, 6, (size, codes), generator=generator),
        }

    def losses(self, module: PoseSampler, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """L_map and the likelihood of the codes."""
        settings, pose = self.settings, batch["pose"]
        module.codebook.eval()
        loudness = module.audio.loudness_features(batch["features"]) * batch["audio_kept"]
        loudness = loudness + settings.audio_noise * torch.randn_like(loudness)
        style = module.style(batch["identity"]) * batch["style_kept"]
        codes = self._codes(pose)
        past = self._disturb(codes, batch)
        latents, logits = module(loudness, style, pose[:, 0], codes, past)
        inside = batch["inside"][:, :: module.config.stride]
        book = module.codebook.codebook
        wanted = torch.stack([book.vectors[g][codes[..., g]] for g in range(codes.shape[-1])], 2)
        found = latents.sum(2)
        quantised = found + (book.lookup(book.nearest(found)) - found).detach()
        made = module.codebook.decode_latents(quantised)[:, : pose.shape[1]]
        likelihood = F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="none").view(codes.shape)
        return {
            "position": settings.position * masked_mean((made - pose).square(), batch["inside"]),
            "latent": settings.latent * masked_mean((latents - wanted).square().flatten(2), inside),
            "code": settings.code * masked_mean(likelihood, inside),
        }

    def _disturb(self, codes: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Codes [B, N, G] of which some are one of their five nearest neighbours: sampling errs, too."""
        book = self.codebook.codebook
        wrong = batch["noise"] < self.settings.code_noise
        near = []
        for level in range(codes.shape[-1]):
            order = book.distances(book.vectors[level], level).argsort(1)[:, 1:6]  # [K, 5]
            near.append(order[codes[..., level], batch["neighbour"].clamp(max=order.shape[1]) - 1])
        return torch.where(wrong[..., None], torch.stack(near, -1), codes)

    def evaluate(self, module: PoseSampler) -> dict[str, float]:
        """Nats per code of the validation clips, as they are and without what is heard; the first is the score."""
        totals = torch.zeros(3)
        device = module.map.log_spread.device
        for clip in self.validation:
            pose, features = clip.pose[None].to(device), clip.features[None].to(device)
            codes = self._codes(pose)
            style = module.style(clip.id_coefficients[None].to(device))
            loudness = module.audio.loudness_features(features)
            for row, audible in enumerate((loudness, torch.zeros_like(loudness))):
                _, logits = module(audible, style, pose[:, 0], codes, codes)
                totals[row] += F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="sum").cpu()
            totals[2] += codes.shape[1]
        return {"score": float(totals[0] / totals[2]), "deaf": float(totals[1] / totals[2])}

    def save(self, path: Path, module: PoseSampler) -> None:
        """Write the sampler with its codebook, as inference loads it."""
        save_module(path, module, module.config, torch.float16)


def sampler_config(codebook: HeadPoseVqVaeConfig, settings: PoseSettings, components: int) -> PoseSamplerConfig:
    """The config that the settings ask for, on top of a codebook's."""
    own = {name: getattr(settings, name) for name in ("bands", "ahead", "audio", "style", "memory", "gain", "dropout")}
    return PoseSamplerConfig(**dataclasses.asdict(codebook), **own, identity_components=components)


def task(data: Path, settings: PoseSettings) -> PoseTask:
    """The task of `train pose`: the prepared folder's clips that have sound, and the weights of phase 1."""
    if not settings.codebook:
        raise SettingsError("train pose needs the weights of train pose-codebook: --codebook OUT/best.safetensors")
    codebook = load_module(HeadPoseVqVae, HeadPoseVqVaeConfig, settings.codebook)
    splits = (load_shards(data, split) for split in ("train", "validation"))
    clips = [
        pose_clips(shards, codebook.config.scales, settings.least_gain, settings.least_s, sound=True)
        for shards in splits
    ]
    return PoseTask(*clips, codebook, settings)
