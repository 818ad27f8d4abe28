"""Stage 1 of the paper, the blendshape and vertex generator: audio and z_style → β_lip, β_other and O_lip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn import Cache, TransformerLayer
from ..structures import ARKIT_NAMES
from .style import StyleEncoder

LIP_NAMES = tuple(name for name in ARKIT_NAMES if name.startswith(("jaw", "mouth", "tongue")))  # β_lip
OTHER_NAMES = tuple(name for name in ARKIT_NAMES if name not in LIP_NAMES)  # β_other
MEL_STEPS = 4  # mel frames under one video frame at the model's rate
MEL_BANDS = 80

# ARPAbet, which PocketSphinx and its dictionary speak
PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH",
    "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "SIL", "T", "TH", "UH", "UW", "V", "W", "Y", "Z",
    "ZH",
)  # fmt: skip
LABIALS = [PHONES.index(name) for name in ("B", "M", "P")]  # the lips meet

Caches = tuple[Cache | None, ...]  # of the layers of one branch


@dataclass(frozen=True, eq=False, slots=True)
class RollState:
    """Where the causal form stands: empty at the beginning of a clip."""

    frames: tuple[Tensor, ...] = ()  # [B, 1, K] the last motion of each branch
    caches: tuple[Caches, ...] = ()  # of each branch


@dataclass(frozen=True, slots=True)
class ExpressionConfig:
    """Every number of an `ExpressionGenerator`; the defaults are those of the embedded weights."""

    causal: bool = False  # True: the paper's autoregression over past motion; False: a window seen at once
    fps: float = 25.0  # frames per second at which motion is made
    front_end: str = "mel"  # "mel": the embedded encoder; "states": hidden states of a speech model
    feature_width: int = MEL_STEPS * MEL_BANDS  # D of the audio features: 768 for the base speech models
    identity_components: int = 80  # I, length of α
    lip_vertices: int = 426  # L
    components: int = 16  # of the basis of O_lip; they hold 99 % of the tracked lips' variance
    width: int = 128
    style_width: int = 16  # few identities are seen in training: more would learn them by heart
    encoder_layers: int = 2
    branch_layers: int = 1
    heads: int = 4
    before: int = 8  # frames each layer sees in the past, 0.3 s: with three layers a second
    after: int = 8  # and in the future; lips prepare a sound 0.1 to 0.2 s ahead
    dropout: float = 0.2


class MelEncoder(nn.Module):
    """Log-mel windows at video rate → audio features A.

    The four mel frames of each video frame are laid out in time again and seen by convolutions at 100 frames/s, for a
    closure of p or b lasts 60 ms; the last one steps down to the video rate.
    """

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        width = config.width
        self.conv_in = nn.Conv1d(MEL_BANDS, width, 5, padding=2)
        self.conv_fine = nn.Conv1d(width, width, 5, padding=2)
        self.conv_down = nn.Conv1d(width, width, 2 * MEL_STEPS, stride=MEL_STEPS, padding=MEL_STEPS // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, T, 320], natural-log energies → [B, T, D]."""
        mel = (features + 8) / 4  # speech at the level of `analysis_gain` lies between −2 and 0.5
        x = mel.unflatten(-1, (MEL_STEPS, MEL_BANDS)).flatten(1, 2).transpose(1, 2)  # [B, 80, 4T]
        x = F.gelu(self.conv_in(x))  # [B, D, 4T]
        x = x + F.gelu(self.conv_fine(x))
        return F.gelu(self.conv_down(x)).transpose(1, 2)  # [B, T, D]


class Branch(nn.Module):
    """One of the paper's three transformer decoders: Φ(motion so far, A, z_style) → the next frame's motion."""

    def __init__(self, config: ExpressionConfig, outputs: int) -> None:
        super().__init__()
        self.past = nn.Linear(outputs, config.width) if config.causal else None
        after = 0 if config.causal else config.after
        self.layers = nn.ModuleList(
            TransformerLayer(config.width, config.heads, config.before, after, config.dropout)
            for _ in range(config.branch_layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, outputs)
        # the mean motion at first: coefficients and offsets of the same lips cancel each other, random ones would not
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, audio: Tensor, past: Tensor | None) -> Tensor:
        """Audio features [B, T, D] and, if causal, the motion one frame before [B, T, K] → motion [B, T, K]."""
        x = audio if self.past is None else audio + self.past(past)
        for layer in self.layers:
            x = layer(x)  # [B, T, D]
        return self.out(self.norm(x))

    def step(self, audio: Tensor, past: Tensor, caches: Caches) -> tuple[Tensor, Caches]:
        """One frame, [B, 1, D] and [B, 1, K] → [B, 1, K], with the caches of the layers."""
        x, kept = audio + self.past(past), []
        for layer, cache in zip(self.layers, caches, strict=True):
            x, cache = layer.step(x, cache)
            kept.append(cache)
        return self.out(self.norm(x)), tuple(kept)


class ExpressionGenerator(nn.Module):
    """Audio features and α → standardised motion: the coefficients of both groups and the components of O_lip.

    Motion leaves the branches in standard deviations; `motion_mean`, `motion_std` and `lip_basis` are statistics of
    the training clips and belong to the weights.
    """

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        if config.front_end == "mel":
            self.audio_encoder = MelEncoder(config)
        else:
            self.audio_encoder = nn.Linear(config.feature_width, config.width)
        self.context = nn.ModuleList(
            TransformerLayer(config.width, config.heads, config.before, config.after, config.dropout)
            for _ in range(config.encoder_layers)
        )
        self.style = StyleEncoder(config.identity_components, config.style_width)
        self.film = nn.Linear(config.style_width, 2 * config.width, bias=False)
        self.sizes = (len(LIP_NAMES), len(OTHER_NAMES), config.components)
        self.branches = nn.ModuleList(Branch(config, size) for size in self.sizes)
        self.phones = nn.Linear(config.width, len(PHONES))
        self.register_buffer("motion_mean", torch.zeros(sum(self.sizes)))
        self.register_buffer("motion_std", torch.ones(sum(self.sizes)))
        self.register_buffer("lip_basis", torch.zeros(config.components, config.lip_vertices, 3))

    @property
    def reach(self) -> int:
        """Frames of sound on either side of a frame that its motion depends on, for the parallel form."""
        layers = self.config.encoder_layers + (0 if self.config.causal else self.config.branch_layers)
        return 2 + layers * max(self.config.before, self.config.after)

    def encode(self, features: Tensor, style: Tensor) -> Tensor:
        """Features [B, T, D] and z_style [B, S] → A [B, T, W] with the style injected (FiLM)."""
        x = self.audio_encoder(features)  # [B, T, W]
        gain, bias = self.film(style)[:, None].chunk(2, -1)  # [B, 1, W] each
        x = x * (1 + gain) + bias
        for layer in self.context:
            x = layer(x)
        return x

    def forward(self, features: Tensor, style: Tensor, past: Tensor | None = None) -> Tensor:
        """Standardised motion of all frames at once.

        Args:
            features: [B, T, D] at `config.fps`.
            style: [B, S] of `self.style`, zeros for the average speaker.
            past: [B, T, M] standardised motion one frame before; the causal form only.

        Returns:
            [B, T, M], M = lip coefficients, other coefficients and lip components in a row.
        """
        return self.decode(self.encode(features, style), past)

    def decode(self, audio: Tensor, past: Tensor | None = None) -> Tensor:
        """The three branches on A [B, T, W]; see `forward`."""
        pasts = (None,) * 3 if past is None else past.split(self.sizes, -1)
        return torch.cat([branch(audio, p) for branch, p in zip(self.branches, pasts, strict=True)], -1)

    def lip_closure(self, audio: Tensor) -> Tensor:
        """How likely p, b or m is spoken, 0..1, [B, T] for A [B, T, W]: the mean of many mouths never quite closes."""
        return self.phones(audio).softmax(-1)[..., LABIALS].sum(-1)

    def roll(self, audio: Tensor, state: RollState) -> tuple[Tensor, RollState]:
        """The causal form on its own output, frame by frame with cached attention.

        Args:
            audio: [B, t, W] of `encode`, the frames that follow those of the state.
            state: of the frames before; an empty one at the beginning of a clip.

        Returns:
            [B, t, M] and the state for the frames that follow.
        """
        rolled = [self._roll(i, audio, state) for i in range(len(self.branches))]
        motion, frames, caches = zip(*rolled, strict=True)
        return torch.cat(motion, -1), RollState(frames, caches)

    def _roll(self, index: int, audio: Tensor, state: RollState) -> tuple[Tensor, Tensor, Caches]:
        """Motion [B, t, K] of one branch, its last frame and its caches."""
        branch = self.branches[index]
        frame = state.frames[index] if state.frames else audio.new_zeros(len(audio), 1, self.sizes[index])
        caches = state.caches[index] if state.caches else (None,) * len(branch.layers)
        frames = []
        for now in audio.split(1, 1):
            frame, caches = branch.step(now, frame, caches)
            frames.append(frame)
        return torch.cat(frames, 1), frame, caches

    def to_curves(self, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised motion [..., M] → coefficients [..., 52], as ARKIT_NAMES are, and lip offsets [..., L, 3]."""
        lip, other, components = (motion * self.motion_std + self.motion_mean).split(self.sizes, -1)
        coefficients = motion.new_zeros(*motion.shape[:-1], len(ARKIT_NAMES))
        coefficients[..., [ARKIT_NAMES.index(name) for name in LIP_NAMES]] = lip
        coefficients[..., [ARKIT_NAMES.index(name) for name in OTHER_NAMES]] = other
        return coefficients, torch.einsum("...k,klc->...lc", components, self.lip_basis)
