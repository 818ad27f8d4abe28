"""Training of the sync expert (`critics.sync_expert`) with a contrastive loss over windows of sound and lips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ...audio.encoder import mel_rows
from ...audio.mel import BANDS
from ...critics.sync_expert import LIP_UNIT, SyncConfig, SyncExpert
from ...errors import DatasetError, SettingsError
from ...eval.sync import REACH, offset_distances
from ...hub import save_module
from ..augment.mel import MelAugmentation, augment_mel
from ..dataset.motion_shard import FPS, Shard, encode_shard, load_shards
from ..loop.settings import TrainSettings, check_counts, check_shares, check_weights
from ..sampling import speaker_weights

# More steps overfit to the training speakers.
TRAINING = TrainSettings(
    steps=2000, batch=20, learning_rate=1e-3, warmup=100, weight_decay=0.05, ema=0.99, evaluate_every=100, patience=8
)

# Frames, 0.2 s: what counts as shifted in evaluation. Nearer windows share most of their frames.
NEAREST_SHIFT = 5
# Of SyncConfig's lip unit: standard deviation of the aperture from which a window has full weight. Lips that stand
# still fit any sound.
MOVING = 0.3
# Target probability of the window one frame before, of the same one, and of the next: recordings are in sync to about
# a frame only.
NEIGHBOUR_TARGETS = (0.2, 0.6, 0.2)


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Size and training of the expert; `train sync` makes an option of every field."""

    speech_width: int = 96  # channels of the sound's encoder
    lip_width: int = 64  # channels of the lips' encoder
    embedding: int = 64  # dimensions
    dropout: float = 0.3  # of hidden channels
    window: int = 60  # frames of a training example, whose windows are compared with each other
    temperature: float = 0.07  # of the softmax over cosines
    balance: float = 0.5  # exponent of a speaker's frames in its sampling probability
    lip_gain: float = 0.4  # curves are scaled by up to e to the power of ±this
    lip_noise: float = 0.05  # standard deviation of noise on the curves, of their unit
    seed: int = 0  # of initial weights

    def __post_init__(self) -> None:
        check_counts(self, "speech_width", "lip_width", "embedding")
        check_shares(self, "dropout", below=True)
        check_weights(self, "lip_gain", "lip_noise")
        # an example must hold one whole window, or there is nothing to embed
        least = SyncConfig().window
        if self.window < least:
            raise SettingsError(
                f"window must be at least {least} frames, what one embedding depends on; got {self.window}"
            )
        if not self.temperature > 0:
            raise SettingsError(f"temperature must be above 0; got {self.temperature}")


@dataclass(frozen=True, eq=False, slots=True)
class SyncClip:
    """One clip of T frames with sound."""

    identity: str
    features: Tensor  # [T, 320]
    curves: Tensor  # [T, 2] IOD
    valid: Tensor  # [T] bool


class SyncTask:
    """Windows of clips, the contrastive loss, and accuracies on held-out speakers."""

    def __init__(self, train: Sequence[Shard], validation: Sequence[Shard], settings: SyncSettings) -> None:
        self.settings = settings
        sizes = {name: getattr(settings, name) for name in ("speech_width", "lip_width", "embedding", "dropout")}
        self.config = SyncConfig(**sizes, fps=FPS)
        torch.manual_seed(settings.seed)
        self.module = SyncExpert(self.config)
        self.clips = [clip for clip in map(make_clip, with_sound(train)) if len(clip.features) >= settings.window]
        least = self.config.window + 2 * REACH
        self.validation = [clip for clip in map(make_clip, with_sound(validation)) if len(clip.features) >= least]
        if not self.clips or len(self.validation) < 2:
            raise DatasetError(
                f"{len(self.clips)} clips with sound to train on and {len(self.validation)} to validate with: "
                "at least 1 and 2 are needed"
            )
        lengths = [(clip.identity, len(clip.features)) for clip in self.clips]
        self.sampling_weights = speaker_weights(lengths, settings.balance)

    def batch(self, generator: Generator, size: int) -> dict[str, Tensor]:
        """`size` windows of different clips where there are enough: features [B, T, 320], curves [B, T, 2], valid."""
        # Different clips where there are enough: two windows of one clip may be alike, and would be each other's
        # wrong answer.
        repeat = size > len(self.clips)
        chosen = torch.multinomial(self.sampling_weights, size, replacement=repeat, generator=generator).tolist()
        rows = [self._window(self.clips[index], generator) for index in chosen]
        features, curves, valid = (torch.stack(part) for part in zip(*rows, strict=True))
        return {
            "features": features,
            "curves": augment_lips(curves, self.settings, generator),
            "valid": valid,
        }

    def _window(self, clip: SyncClip, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A random window: features [T, 320], curves [T, 2], valid [T]."""
        last = len(clip.features) - self.settings.window
        start = int(torch.randint(last + 1, (), generator=generator))
        part = slice(start, start + self.settings.window)
        return augment_sound(clip.features[part], generator), clip.curves[part], clip.valid[part]

    def losses(self, module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The contrastive loss of embeddings [B, N, D] in both directions, over the windows whose lips move."""
        speech, lips = module(batch["features"], batch["curves"])
        weight = _moving(batch["curves"], batch["valid"], self.config)
        return {"contrast": contrastive_loss(speech, lips, weight, self.settings.temperature)}

    @torch.no_grad()
    def evaluate(self, module: SyncExpert) -> dict[str, float]:
        """Means over the validation clips.

        `shifted` and `other` are the shares of windows whose lips are nearer to their own sound than to sound 5–15
        frames away, or to another clip's; `offset` is the share of clips whose best offset is within a frame of 0.
        """
        rows = []
        for index, clip in enumerate(self.validation):
            # Every clip against the next one: each takes part twice, and nothing is random.
            other = self.validation[(index + 1) % len(self.validation)]
            rows.append(_clip_metrics(module, clip, other))
        metrics = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return metrics | {"score": 1 - (metrics["shifted"] + metrics["other"]) / 2}

    def save(self, path: Path, module: SyncExpert) -> None:
        """Write the expert in half precision."""
        save_module(path, module, self.config, torch.float16)


def with_sound(shards: Sequence[Shard]) -> list[Shard]:
    """The shards that are not silent."""
    return [shard for shard in shards if len(shard.waveform)]


def make_clip(shard: Shard) -> SyncClip:
    """Features and lip curves of a shard."""
    features = mel_rows(encode_shard(shard))
    return SyncClip(shard.identity, features, torch.stack((shard.aperture, shard.width), -1), shard.valid.bool())


def augment_sound(features: Tensor, generator: Generator) -> Tensor:
    """Features [T, 320] of another voice, microphone or room; reshaped they are 100 mel frames a second."""
    return augment_mel(features.reshape(-1, BANDS), MelAugmentation(), generator).view(features.shape)


def augment_lips(curves: Tensor, settings: SyncSettings, generator: Generator) -> Tensor:
    """Curves [B, T, 2] scaled and with noise, as of other mouths and trackers."""
    gain = torch.exp((torch.rand(len(curves), 1, 2, generator=generator) * 2 - 1) * settings.lip_gain)
    # Noise in proportion to the curves, whose deviations differ: a width changes less than an aperture.
    spread = curves.std((0, 1))
    return curves * gain + settings.lip_noise * spread * torch.randn(curves.shape, generator=generator)


def _moving(curves: Tensor, valid: Tensor, config: SyncConfig) -> Tensor:
    """[B, N] weight 0..1 of each window of curves [B, T, 2]: 0 where frames are not valid or nothing moves."""
    spread = curves[..., 0].unfold(1, config.window, 1).std(-1)
    whole = valid.unfold(1, config.window, 1).all(-1)
    return (spread / (MOVING * LIP_UNIT)).clamp(max=1) * whole


def contrastive_loss(speech: Tensor, lips: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of matching each window of sound with its window of lips, and the other way round.

    Args:
        speech: [B, N, D] unit embeddings.
        lips: [B, N, D] unit embeddings of the same moments.
        weight: [B, N] of each moment.
        temperature: of the softmax over all B·N windows.
    """
    batch, count, _ = speech.shape
    # The softmax runs over the windows of all clips: wrong answers are other moments of the same speaker as well as
    # other speakers, so that the voice alone does not decide (InfoNCE, van den Oord et al. 2018).
    logits = speech.flatten(0, 1) @ lips.flatten(0, 1).T / temperature  # [B·N, B·N]
    time = torch.arange(count, device=speech.device)
    lag = (time[:, None] - time).abs()
    pull = torch.where(lag == 0, NEIGHBOUR_TARGETS[1], torch.where(lag == 1, NEIGHBOUR_TARGETS[0], 0.0))
    # The first and the last window lack a neighbour: divided by the sum, their targets are a distribution too.
    block = pull / pull.sum(-1, keepdim=True)  # [N, N]
    target = torch.kron(torch.eye(batch, device=block.device), block)  # the same block for each clip
    losses = [F.cross_entropy(table, target, reduction="none") for table in (logits, logits.T)]
    per_window = (losses[0] + losses[1]) / 2
    # At least 1 in the denominator, for a batch in which no lips move.
    return (per_window * weight.flatten()).sum() / weight.sum().clamp(min=1)


def _clip_metrics(module: SyncExpert, clip: SyncClip, other: SyncClip) -> dict[str, float]:
    """The metrics of one clip."""
    speech, lips = (e[0] for e in module(clip.features[None], clip.curves[None]))
    other_speech = module.speech(other.features[None])[0]
    moving = _moving(clip.curves[None], clip.valid[None], module.config)[0] > 0.5
    right = (speech * lips).sum(-1)  # [N]
    shifts = [s for s in range(-REACH, REACH + 1) if abs(s) >= NEAREST_SHIFT]
    shifted = torch.stack([right > (speech.roll(s, 0) * lips).sum(-1) for s in shifts]).float().mean(0)
    nearer = (right[:, None] > lips @ other_speech.T).float().mean(1)
    distances = offset_distances(module, clip.features, clip.curves, REACH)
    least, best = distances.min(0)
    return {
        # A clip without motion cannot show it: it counts as a random guess, one half.
        "shifted": float(shifted[moving].mean()) if moving.any() else 0.5,
        "other": float(nearer[moving].mean()) if moving.any() else 0.5,
        "offset": float(abs(int(best) - REACH) <= 1),
        "lse_c": float(distances.median() - least),
        "lse_d": float(least),
    }


def task(data: Path, settings: SyncSettings) -> SyncTask:
    """The task of `train sync` on a prepared folder."""
    return SyncTask(load_shards(data, "train"), load_shards(data, "validation"), settings)
