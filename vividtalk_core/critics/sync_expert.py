"""A small SyncNet: embeddings of speech and of lip curves that are near each other where both are in sync.

The method is SyncNet's (Chung and Zisserman 2016), with lip curves in place of images: two encoders, trained to
distinguish windows of one moment from windows of other moments and of other speakers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

LIP_UNIT = 0.03  # IOD: about the standard deviation of either curve in speech


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """The sizes of both encoders."""

    features: int = 320  # per frame of sound: four log-mel frames of 80 bands
    curves: int = 2  # aperture and width
    speech_width: int = 96  # channels
    lip_width: int = 64  # channels
    embedding: int = 64  # dimensions
    dilations: tuple[int, ...] = (1, 2, 4)  # of three-frame convolutions: a window of 15 frames, 0.6 s at 25 fps
    dropout: float = 0.1  # of hidden channels
    fps: float = 25.0  # frames per second that it was trained at

    @property
    def window(self) -> int:
        """Number of frames that one embedding depends on."""
        return 1 + 2 * sum(self.dilations)


class Encoder(nn.Module):
    """Frames [B, T, C] to unit embeddings [B, T − window + 1, D], one for each window that lies inside."""

    def __init__(self, channels: int, width: int, config: SyncConfig) -> None:
        super().__init__()
        self.dropout, self.dilations = config.dropout, config.dilations
        self.inlet = nn.Linear(channels, width)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=d) for d in config.dilations)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in config.dilations)
        self.outlet = nn.Linear(width, config.embedding)

    def forward(self, frames: Tensor) -> Tensor:
        """Embed every window of frames [B, T, C]."""
        x = F.gelu(self.inlet(frames))  # [B, T, W]
        for conv, norm, dilation in zip(self.convs, self.norms, self.dilations, strict=True):
            y = F.gelu(conv(norm(x).mT).mT)  # [B, T − 2·dilation, W]
            # no padding: an embedding must not depend on frames outside its window
            x = x[:, dilation:-dilation] + F.dropout(y, self.dropout, self.training)
        return F.normalize(self.outlet(x), dim=-1)  # [B, T − window + 1, D]


class SyncExpert(nn.Module):
    """Embeddings of speech and of lips; embedding i stands for the window that is centred at frame i + window // 2."""

    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        self.config = config
        self.speech_encoder = Encoder(config.features, config.speech_width, config)
        self.lip_encoder = Encoder(config.curves, config.lip_width, config)

    def speech(self, features: Tensor) -> Tensor:
        """Unit embeddings [B, T − window + 1, D] of audio features [B, T, 320] at video rate (`encode_audio`)."""
        # the mean over the clip depends on the microphone and the room only
        embeddings: Tensor = self.speech_encoder(features - features.mean(1, keepdim=True))
        return embeddings

    def lips(self, curves: Tensor) -> Tensor:
        """Unit embeddings [B, T − window + 1, D] of aperture and width [B, T, 2] in IOD.

        The mean over the clip is subtracted, because it depends on the person and not on the speech.
        """
        embeddings: Tensor = self.lip_encoder((curves - curves.mean(1, keepdim=True)) / LIP_UNIT)
        return embeddings

    def forward(self, features: Tensor, curves: Tensor) -> tuple[Tensor, Tensor]:
        """`speech` of features [B, T, 320] and `lips` of curves [B, T, 2] of the same T frames."""
        return self.speech(features), self.lips(curves)


def sync_loss(expert: SyncExpert, features: Tensor, curves: Tensor) -> Tensor:
    """Mean cosine distance, 0..2, of lips from their sound; a loss for generators.

    Args:
        expert: with trained, frozen weights.
        features: [B, T, 320] of `encode_audio`, T at least `window`.
        curves: [B, T, 2] aperture and width in IOD; gradients pass.
    """
    speech, lips = expert(features, curves)
    cosine: Tensor = (speech * lips).sum(-1)  # [B, T − window + 1]
    return 1 - cosine.mean()
