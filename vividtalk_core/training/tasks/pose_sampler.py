"""Training of the pose sampler (phase 2): L_map = ‖P − P̂‖² + ‖Ẑ − sg(Z_q)‖², and the likelihood of the codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...audio.mel import BANDS
from ...audio_to_mesh.pose_codebook import HeadPoseVqVae, HeadPoseVqVaeConfig
from ...audio_to_mesh.pose_sampler import PoseSampler, PoseSamplerConfig
from ...errors import DatasetError, SettingsError
from ...hub import load_module, save_module
from ..dataset.motion_shard import load_shards
from ..dataset.pose_clips import PoseAugmentation, PoseClip, clip_weights, draw_window, pose_clips
from ..loop.settings import check_counts, check_shares, check_weights
from ..losses.motion import masked_mean

# Weaker than for the codebook: strongly enlarged motion leaves the range of the codes, and the sampler would learn to
# stay at its ends.
AUGMENTATION = PoseAugmentation(smallest=0.6, largest=1.15, uneven=1.35)


@dataclass(frozen=True, slots=True)
class PoseSettings:
    """Size and losses of a pose sampler; `train pose` makes an option of every field."""

    codebook: str = ""  # weights of `train pose-codebook`
    bands: int = 0  # groups of mel bands used beside the loudness; they describe the voice more than the head motion
    ahead: int = 11  # frames of sound used after a code's beginning
    audio: int = 24  # width of A
    style: int = 8  # width of z_style
    memory: int = 64  # width of the recurrent state
    gain: float = 1.45  # of the decoded motion; sampled motion has a smaller amplitude than the training clips
    face_gain: float = 1.7  # the same for the upper face
    dropout: float = 0.45  # of input and output of the recurrent state
    window: int = 320  # frames of a training example: long enough for heads to turn and return
    least_gain: float = 0.5  # lower bound of the amplitude by which a clip is normalised, as a share of the average
    least_s: float = 2.0  # of a clip
    balance: float = 0.5  # exponent of a speaker's frames in its sampling probability; 0 = all speakers alike
    liveliness: float = (
        2.0  # exponent of the amplitude in the sampling probability of heads that move less than the average
    )
    style_drop: float = 0.5  # share of examples without a style
    style_noise: float = 0.3  # standard deviation of noise added to α, because the speakers are few
    audio_drop: float = 0.2  # share of examples whose sound is replaced by silence
    audio_noise: float = 0.05  # standard deviation of noise added to the audio input, which is 0..1
    code_noise: float = 0.1  # share of past codes that are replaced by a neighbour, as errors of sampling would
    # weight of ‖P − P̂‖², P̂ = D(q(Ẑ)); small, because it pulls motion that the sound does not determine to its mean
    position: float = 0.1  # weight of ‖P − P̂‖²
    latent: float = 0.1  # weight of ‖Ẑ − sg(Z_q)‖²
    code: float = 1.0  # weight of −log softmax(−‖Ẑ − z_k‖²/τ) of the true codes
    seed: int = 0  # of the initial weights

    def __post_init__(self) -> None:
        check_counts(self, "audio", "style", "memory", "window")
        check_weights(
            self, "bands", "ahead", "gain", "face_gain", "style_noise", "audio_noise", "position", "latent", "code"
        )
        check_shares(self, "dropout", below=True)
        check_shares(self, "style_drop", "audio_drop", "code_noise")
        # a group holds equally many bands of the mel
        if self.bands and BANDS % self.bands:
            raise SettingsError(f"bands must be 0 or a divisor of {BANDS}, the bands of the mel; got {self.bands}")
        if not self.least_gain > 0:
            raise SettingsError(f"least_gain must be above 0; got {self.least_gain}")


class PoseTask:
    """Windows of speech with head motion, L_map, and the likelihood of the codes of held-out speakers."""

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
        # Phase 2 learns to choose codes; codes that moved meanwhile would be another target at every step.
        self.module.codebook.requires_grad_(False)
        self.codebook = codebook.eval()
        self.module.map.set_spread(self.codebook.codebook.vectors)

    @torch.no_grad()
    def _codes(self, pose: Tensor) -> Tensor:
        """Codes [B, N, G] of poses [B, T, C]."""
        return self.codebook.to(pose.device).encode(pose)

    def batch(self, generator: Generator, size: int) -> dict[str, Tensor]:
        """`size` windows: pose [B, T, C], features [B, T, 320], inside [B, T], α [B, I] and what is kept of them."""
        settings = self.settings
        chosen = torch.multinomial(self.sampling_weights, size, replacement=True, generator=generator).tolist()
        clips = [self.train[i] for i in chosen]
        rows = [draw_window(clip, settings.window, AUGMENTATION, generator) for clip in clips]
        identity = torch.stack([clip.id_coefficients for clip in clips])
        codes = -(-settings.window // self.module.config.stride)
        return {
            "pose": torch.stack([row[0] for row in rows]),
            "features": torch.stack([_features(row[1]) for row in rows]),
            "inside": torch.stack([row[2] for row in rows]),
            "identity": identity + settings.style_noise * torch.randn(identity.shape, generator=generator),
            "style_kept": (torch.rand(size, 1, generator=generator) >= settings.style_drop).float(),
            "audio_kept": (torch.rand(size, 1, 1, generator=generator) >= settings.audio_drop).float(),
            "noise": torch.rand(size, codes, generator=generator),
            "neighbour": torch.randint(1, 6, (size, codes), generator=generator),
        }

    def losses(self, module: PoseSampler, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """L_map of the poses [B, T, C] and the likelihood of the codes [B, N, G]."""
        settings, pose = self.settings, batch["pose"]
        # The trainer puts the whole module into training mode, in which a codebook follows its inputs.
        module.codebook.eval()
        loudness = module.audio.loudness_features(batch["features"]) * batch["audio_kept"]
        # On the features and not on the sound: they are 0..1, so that one number fits loud and quiet clips.
        loudness = loudness + settings.audio_noise * torch.randn_like(loudness)
        style = module.style(batch["identity"]) * batch["style_kept"]
        codes = self._codes(pose)
        past = self._disturb(codes, batch)
        latents, logits = module(loudness, style, pose[:, 0], codes, past)
        inside = batch["inside"][:, :: module.config.stride]
        book = module.codebook.codebook
        target = torch.stack([book.vectors[g][codes[..., g]] for g in range(codes.shape[-1])], 2)
        summed = latents.sum(2)
        # Straight-through (van den Oord et al. 2017): the decoder gets codes, and the gradient reaches the latents
        # unchanged.
        quantised = summed + (book.lookup(book.nearest(summed)) - summed).detach()
        predicted = module.codebook.decode_latents(quantised)[:, : pose.shape[1]]
        likelihood = F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="none").view(codes.shape)
        return {
            "position": settings.position * masked_mean((predicted - pose).square(), batch["inside"]),
            "latent": settings.latent * masked_mean((latents - target).square().flatten(2), inside),
            "code": settings.code * masked_mean(likelihood, inside),
        }

    def _disturb(self, codes: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Codes [B, N, G], some replaced by one of their five nearest neighbours, as by errors of sampling."""
        book = self.codebook.codebook
        wrong = batch["noise"] < self.settings.code_noise
        near = []
        for level in range(codes.shape[-1]):
            order = book.distances(book.vectors[level], level).argsort(1)[:, 1:6]  # [K, 5]
            # The nearest code is the code itself, hence from the second on.
            near.append(order[codes[..., level], batch["neighbour"].clamp(max=order.shape[1]) - 1])
        return torch.where(wrong[..., None], torch.stack(near, -1), codes)

    def evaluate(self, module: PoseSampler) -> dict[str, float]:
        """Nats per code of the validation clips, with and without sound; the first is the score."""
        totals = torch.zeros(3)
        device = module.map.log_spread.device
        for clip in self.validation:
            pose, features = clip.pose[None].to(device), _features(clip.features)[None].to(device)
            codes = self._codes(pose)
            style = module.style(clip.id_coefficients[None].to(device))
            loudness = module.audio.loudness_features(features)
            # The difference of both is what the sound adds to the prediction of the codes.
            for row, audible in enumerate((loudness, torch.zeros_like(loudness))):
                _, logits = module(audible, style, pose[:, 0], codes, codes)
                totals[row] += F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="sum").cpu()
            totals[2] += codes.shape[1]
        return {"score": float(totals[0] / totals[2]), "score_without_audio": float(totals[1] / totals[2])}

    def save(self, path: Path, module: PoseSampler) -> None:
        """Write the sampler with its codebook, as inference loads it."""
        save_module(path, module, module.config, torch.float16)


def _features(features: Tensor | None) -> Tensor:
    """The audio features [T, 320] of a clip of `pose_clips(..., sound=True)`, which always has them."""
    if features is None:
        raise ValueError("the clips of a pose sampler need features: make them with pose_clips(..., sound=True)")
    return features


def sampler_config(codebook: HeadPoseVqVaeConfig, settings: PoseSettings, components: int) -> PoseSamplerConfig:
    """The config that the settings ask for, on top of a codebook's."""
    names = ("bands", "ahead", "audio", "style", "memory", "gain", "face_gain", "dropout")
    own = {name: getattr(settings, name) for name in names}
    return PoseSamplerConfig(**dataclasses.asdict(codebook), **own, identity_components=components)


def task(data: Path, settings: PoseSettings) -> PoseTask:
    """The task of `train pose`: the prepared folder's clips that have sound, and the weights of phase 1."""
    if not settings.codebook:
        raise SettingsError("train pose needs the weights of train pose-codebook: --codebook OUT/best.safetensors")
    codebook = load_module(HeadPoseVqVae, HeadPoseVqVaeConfig, settings.codebook)
    train, validation = (
        pose_clips(load_shards(data, split), codebook.config.scales, settings.least_gain, settings.least_s, sound=True)
        for split in ("train", "validation")
    )
    return PoseTask(train, validation, codebook, settings)
