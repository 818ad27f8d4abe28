"""Stage 1 of the paper, the blendshape and vertex generator: audio and z_style → β_lip, β_other and O_lip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..audio.mel import FLOOR
from ..nn import Cache, TransformerLayer, modules_of
from ..structures import ARKIT_NAMES
from .style import StyleEncoder

LIP_NAMES = tuple(name for name in ARKIT_NAMES if name.startswith(("jaw", "mouth", "tongue")))  # β_lip
OTHER_NAMES = tuple(name for name in ARKIT_NAMES if name not in LIP_NAMES)  # β_other
MEL_STEPS = 4  # mel frames under one video frame at the model's rate
MEL_BANDS = 80
MEL_WIDTH = MEL_STEPS * MEL_BANDS
STATE_STEPS = 2  # states of a speech encoder under one video frame

# ARPAbet, the phone set of PocketSphinx and its dictionary
PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH",
    "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "SIL", "T", "TH", "UH", "UW", "V", "W", "Y", "Z",
    "ZH",
)  # fmt: skip
LABIALS = [PHONES.index(name) for name in ("B", "M", "P")]  # the lips meet
# How far the tongue comes forward, as tongueOut: between the teeth for th, behind the upper ones for l.
TONGUE = {"TH": 0.8, "DH": 0.6, "L": 0.5}

Caches = tuple[Cache | None, ...]  # of the layers of one branch


@dataclass(frozen=True, eq=False, slots=True)
class RollState:
    """What the causal form keeps of the frames before; empty at the beginning of a clip."""

    frames: tuple[Tensor, ...] = ()  # [B, 1, K] the last motion of each branch
    caches: tuple[Caches, ...] = ()  # of each branch


@dataclass(frozen=True, slots=True)
class ExpressionConfig:
    """Every number of an `ExpressionGenerator`; the defaults are those of the embedded weights."""

    causal: bool = False  # True: the paper's autoregression over past motion; False: a window of sound at once
    fps: float = 25.0  # frames per second of the motion
    front_end: str = "states"  # "states" of a speech encoder, "mel", or "both"
    state_width: int = 512  # D of the states; not used by the front end "mel"
    identity_components: int = 80  # I, length of α
    lip_vertices: int = 426  # L
    components: int = 16  # of the basis of O_lip; they hold 99 % of the tracked lips' variance
    width: int = 128
    style_width: int = 16  # few identities are in the training data: more numbers would overfit to them
    encoder_layers: int = 2
    branch_layers: int = 1
    heads: int = 4
    before: int = 8  # frames of the past in each layer's band, 0.3 s: with three layers one second
    after: int = 8  # and of the future; lips begin to form a sound 0.1 to 0.2 s before it
    dropout: float = 0.3
    state_dropout: float = 0.7  # of whole dimensions of the states

    @property
    def feature_widths(self) -> tuple[int, int]:
        """Of the states and of the mel in a row of features, one row for each video frame."""
        return STATE_STEPS * self.state_width * self.hears_states, MEL_WIDTH * self.hears_mel

    @property
    def hears_states(self) -> bool:
        """Whether the states of a speech encoder are an input."""
        return self.front_end != "mel"

    @property
    def hears_mel(self) -> bool:
        """Whether the log-mel is an input."""
        return self.front_end != "states"


class MelEncoder(nn.Module):
    """Log-mel windows at video rate → audio features A.

    The four mel frames of each video frame go through convolutions at 100 frames/s, because a closure of p or b lasts
    60 ms only; the last convolution has a stride down to the video rate.
    """

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        width = config.width
        self.conv_in = nn.Conv1d(MEL_BANDS, width, 5, padding=2)
        self.conv_fine = nn.Conv1d(width, width, 5, padding=2)
        self.conv_down = nn.Conv1d(width, width, 2 * MEL_STEPS, stride=MEL_STEPS, padding=MEL_STEPS // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, T, 320], natural-log energies → [B, T, D]."""
        # speech at the level of `analysis_gain` then lies between −2 and 0.5
        mel = (features + 8) / 4
        x = rearrange(mel, "b t (steps bands) -> b bands (t steps)", bands=MEL_BANDS)  # [B, 80, 4T]
        x = F.gelu(self.conv_in(x))  # [B, D, 4T]
        x = x + F.gelu(self.conv_fine(x))
        return rearrange(F.gelu(self.conv_down(x)), "b d t -> b t d")


class StateEncoder(nn.Module):
    """Hidden states of a speech encoder, two for each video frame → audio features A."""

    mean: Tensor  # [D] of the states of the training clips
    std: Tensor  # [D]
    quiet: Tensor  # [D] the state of silence

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.register_buffer("quiet", torch.zeros(config.state_width))
        # a few dimensions of the states are a hundred times as large as the others, and would hide them
        self.register_buffer("mean", torch.zeros(config.state_width))
        self.register_buffer("std", torch.ones(config.state_width))
        # whole dimensions, so that no feature relies on a single one: speakers differ in which of them move
        self.drop = nn.Dropout1d(config.state_dropout)
        self.inward = nn.Linear(config.state_width, config.width)
        self.conv_fine = nn.Conv1d(config.width, config.width, 3, padding=1)
        self.conv_down = nn.Conv1d(config.width, config.width, 2 * STATE_STEPS, stride=STATE_STEPS, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, T, 2·D] → [B, T, W]."""
        x = rearrange(features, "b t (steps d) -> b (t steps) d", steps=STATE_STEPS)
        x = self.drop(((x - self.mean) / self.std).mT).mT  # [B, 2T, D]
        x = F.gelu(self.inward(x)).mT  # [B, W, 2T]
        x = x + F.gelu(self.conv_fine(x))
        return F.gelu(self.conv_down(x)).mT


class AudioEncoder(nn.Module):
    """The encoders that the front end asks for; "both" adds up what they give."""

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.widths = config.feature_widths
        self.states = StateEncoder(config) if config.hears_states else None
        self.mel = MelEncoder(config) if config.hears_mel else None

    def forward(self, features: Tensor) -> Tensor:
        """Rows of features [B, T, D] → [B, T, W]."""
        states, mel = torch.split(features, list(self.widths), -1)
        parts = [net(x) for net, x in ((self.states, states), (self.mel, mel)) if net is not None]
        return torch.stack(parts).sum(0)

    def silence(self) -> Tensor:
        """[1, D] the row of features of silence."""
        quiet = self.states.quiet.repeat(STATE_STEPS) if self.states else torch.zeros(0)
        mel = quiet.new_full((self.widths[1],), math.log(FLOOR))
        return torch.cat((quiet, mel))[None]


class Branch(nn.Module):
    """One of the paper's three transformer decoders: Φ(motion so far, A, z_style) → the next frame's motion."""

    def __init__(self, config: ExpressionConfig, outputs: int) -> None:
        super().__init__()
        self.past = nn.Linear(outputs, config.width) if config.causal else None
        # the input of a later frame holds the motion of this one: with a look ahead the causal form would copy it
        after = 0 if config.causal else config.after
        self.layers = nn.ModuleList(
            TransformerLayer(config.width, config.heads, config.before, after, config.dropout)
            for _ in range(config.branch_layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, outputs)
        # zero is the mean motion: training starts from a face at rest rather than from random lips
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, audio: Tensor, past: Tensor | None) -> Tensor:
        """Audio features [B, T, D] and, if causal, the motion one frame before [B, T, K] → motion [B, T, K]."""
        if self.past is None:
            x = audio
        elif past is not None:
            x = audio + self.past(past)
        else:
            raise TypeError("the causal form needs the motion one frame before")
        for layer in self.layers:
            x = layer(x)  # [B, T, D]
        out: Tensor = self.out(self.norm(x))
        return out

    def step(self, audio: Tensor, past: Tensor, caches: Caches) -> tuple[Tensor, Caches]:
        """One frame of the causal form, [B, 1, D] and [B, 1, K] → [B, 1, K], with the caches of the layers."""
        if self.past is None:
            raise TypeError("only the causal form runs frame by frame")
        x: Tensor = audio + self.past(past)
        kept: list[Cache] = []
        for layer, cache in zip(modules_of(self.layers, TransformerLayer), caches, strict=True):
            x, now = layer.step(x, cache)
            kept.append(now)
        return self.out(self.norm(x)), tuple(kept)


class ExpressionGenerator(nn.Module):
    """Audio features and α → standardised motion: the coefficients of both groups and the components of O_lip.

    The branches give motion in standard deviations; `motion_mean`, `motion_std` and `lip_basis` are statistics of the
    training clips and belong to the weights.
    """

    motion_mean: Tensor  # [M] of lip coefficients, other coefficients and components of O_lip
    motion_std: Tensor  # [M]
    lip_basis: Tensor  # [components, L, 3] model units

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        self.audio_encoder = AudioEncoder(config)
        self.context = nn.ModuleList(
            TransformerLayer(config.width, config.heads, config.before, config.after, config.dropout)
            for _ in range(config.encoder_layers)
        )
        self.style = StyleEncoder(config.identity_components, config.style_width)
        # without a bias: a style of zeros must leave the average speaker unchanged
        self.film = nn.Linear(config.style_width, 2 * config.width, bias=False)
        self.sizes = [len(LIP_NAMES), len(OTHER_NAMES), config.components]
        self.branches = nn.ModuleList(Branch(config, size) for size in self.sizes)
        # a classifier beside the branches: speech without video can train it too, and it says when the lips must close
        self.phones = nn.Linear(config.width, len(PHONES))
        self.register_buffer("motion_mean", torch.zeros(sum(self.sizes)))
        self.register_buffer("motion_std", torch.ones(sum(self.sizes)))
        self.register_buffer("lip_basis", torch.zeros(config.components, config.lip_vertices, 3))

    @property
    def reach(self) -> int:
        """Frames of sound on either side of a frame that its motion depends on, for the parallel form."""
        layers = self.config.encoder_layers + (0 if self.config.causal else self.config.branch_layers)
        # the convolutions of both encoders reach at most 1.5 video frames to either side, rounded up
        return 2 + layers * max(self.config.before, self.config.after)

    def encode(self, features: Tensor, style: Tensor) -> Tensor:
        """Features [B, T, D] and z_style [B, S] → A [B, T, W] with the style injected (FiLM)."""
        x: Tensor = self.audio_encoder(features)  # [B, T, W]
        # scale and shift of features by a style (FiLM, Perez et al. 2018): zeros leave the average speaker unchanged
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
        pasts = (None,) * 3 if past is None else torch.split(past, self.sizes, -1)
        return torch.cat([branch(audio, p) for branch, p in zip(self.branches, pasts, strict=True)], -1)

    def lip_closure(self, audio: Tensor) -> Tensor:
        """Probability [B, T] that p, b or m is spoken, for A [B, T, W].

        With it the lips can be closed: a mean over the mouths of many speakers never closes completely.
        """
        phones: Tensor = self.phones(audio).softmax(-1)  # [B, T, 40]
        return phones[..., LABIALS].sum(-1)

    def tongue(self, audio: Tensor) -> Tensor:
        """How far the tongue comes forward [B, T], its mean over the probabilities of the phones, for A [B, T, W].

        Trackers do not see the tongue, so that motion cannot be learned for it; what is spoken is heard well enough.
        """
        phones: Tensor = self.phones(audio).softmax(-1)  # [B, T, 40]
        forward = phones.new_tensor([TONGUE.get(name, 0.0) for name in PHONES])
        return phones @ forward

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
        """Motion [B, t, K] of one branch, its last frame [B, 1, K] and its caches."""
        branch = modules_of(self.branches, Branch)[index]
        # a clip begins after the mean motion, which is zero
        frame = state.frames[index] if state.frames else audio.new_zeros(len(audio), 1, self.sizes[index])
        caches: Caches = state.caches[index] if state.caches else (None,) * len(branch.layers)
        frames = []
        for now in torch.split(audio, 1, 1):
            frame, caches = branch.step(now, frame, caches)
            frames.append(frame)
        return torch.cat(frames, 1), frame, caches

    def to_curves(self, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised motion [..., M] → coefficients [..., 52], as ARKIT_NAMES are, and lip offsets [..., L, 3]."""
        lip, other, components = torch.split(motion * self.motion_std + self.motion_mean, self.sizes, -1)
        coefficients = motion.new_zeros(*motion.shape[:-1], len(ARKIT_NAMES))
        coefficients[..., [ARKIT_NAMES.index(name) for name in LIP_NAMES]] = lip
        coefficients[..., [ARKIT_NAMES.index(name) for name in OTHER_NAMES]] = other
        return coefficients, torch.einsum("...k,klc->...lc", components, self.lip_basis)
