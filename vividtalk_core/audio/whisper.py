"""The lower layers of Whisper's encoder: hidden states of speech, 50 times a second (Radford et al. 2022).

The class of transformers computes the same, but its import takes seconds, and it expects 30 s of sound at a time. Here
sound of any length is heard through windows of one fixed length, on a grid that begins with the sound, and attention
looks one second to either side instead of 30: a state depends on the sound near it, not on the length of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..nn import modules_of
from ..structures import SAMPLE_RATE, STATE_RATE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WINDOW = 400  # samples, as Whisper was trained: 25 ms
HOP = 160  # samples
STEP = SAMPLE_RATE // STATE_RATE  # samples from state to state: the second convolution halves the 100 mel frames
# log10 of the power of the strongest band. Whisper takes the largest of its 30 s, which here would make a state depend
# on the whole clip; this is the median of the largest values of speech at the level of `analysis_gain`.
CEILING = 1.3
RANGE = 8.0  # log10 of power from there down to the floor
KEPT = 300  # states that one window yields
MARGIN = 50  # states of context on either side where attention looks at the whole window


@dataclass(frozen=True, slots=True)
class WhisperConfig:
    """Sizes of the part of an encoder that is kept."""

    width: int = 512  # D; 384 is Whisper tiny, 512 base
    taps: tuple[int, ...] = (2,)  # layers, counted from 1, whose outputs are the states, side by side; none after them
    bands: int = 80  # of the mel; 128 in Whisper large-v3
    # States to either side that attention looks at; 0: at the whole window, as Whisper was trained. Speech sounds
    # depend on their neighbours within a syllable or two: lips learned from either are equally good.
    reach: int = 50

    @property
    def heads(self) -> int:
        """Each attends with 64 features, in Whisper of every size."""
        return self.width // 64

    @property
    def layers(self) -> int:
        """The first layers, up to the last one that is used."""
        return max(self.taps)

    @property
    def margin(self) -> int:
        """States of context that a window needs on either side; the convolutions need one."""
        return self.layers * self.reach + 1 if self.reach else MARGIN


class WhisperLayer(nn.Module):
    """Pre-norm transformer layer.

    Args:
        width: D.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_feed = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, 4 * width)
        self.feed_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, near: Tensor | None) -> Tensor:
        """[B, S, D] → [B, S, D]; attention where `near` [S, S] is True, or over the whole window."""
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b s (n heads d) -> n b heads s d", n=3, heads=self.heads)
        x = x + self.out(rearrange(F.scaled_dot_product_attention(q, k, v, near), "b heads s d -> b s (heads d)"))
        out: Tensor = x + self.feed_out(F.gelu(self.feed_in(self.norm_feed(x))))
        return out


class WhisperEncoder(nn.Module):
    """Convolutions and the first layers of Whisper's encoder."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_in = nn.Conv1d(config.bands, config.width, 3, padding=1)
        self.conv_down = nn.Conv1d(config.width, config.width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(WhisperLayer(config.width, config.heads) for _ in range(config.layers))

    def forward(self, mel: Tensor) -> Tensor:
        """Mel [B, M, bands] of `whisper_mel` → states [B, M / 2, taps · D], without Whisper's final norm."""
        x = F.gelu(self.conv_in(mel.mT))  # [B, D, M]
        x = F.gelu(self.conv_down(x)).mT  # [B, S, D]
        x = x + _positions(x.shape[1], x.shape[2]).to(x)
        near = _near(x.shape[1], self.config.reach, x.device) if self.config.reach else None
        states = []
        for number, layer in enumerate(modules_of(self.layers, WhisperLayer), 1):
            x = layer(x, near)
            if number in self.config.taps:
                states.append(x)
        return torch.cat(states, -1)


@torch.no_grad()
def hear(encoder: WhisperEncoder, mono: Tensor) -> Iterator[Tensor]:
    """States of a 16 kHz signal [N], part by part in constant memory.

    State s is centred at (s + 0.5) / 50 s, so that at 25 frames per second each frame covers two of them.

    Args:
        encoder: from `hub.load_module`.
        mono: [N] float32, at the level of `waveform.analysis_gain`.

    Yields:
        [s, D] of the states that follow, ceil(N / 320) in all.
    """
    states, margin = max(1, math.ceil(len(mono) / STEP)), encoder.config.margin
    # before and after the clip is silence
    for start in range(0, states, KEPT):
        kept = min(KEPT, states - start)
        # attention over the whole window would notice a shorter one
        length = (kept if encoder.config.reach else KEPT) + 2 * margin
        mel = whisper_mel(mono, 2 * (start - margin), 2 * length, encoder.config.bands)
        yield encoder(mel[None])[0, margin : margin + kept]


def whisper_mel(mono: Tensor, first: int, frames: int, bands: int = 80) -> Tensor:
    """Some mel frames of a 16 kHz signal, scaled as Whisper expects them.

    Args:
        mono: [N] float32; outside of it is silence.
        first: number of the first frame, which may lie before the signal; frame i is centred at (i + 1) / 100 s, so
            that the state of frames 2s and its neighbours lies in the middle of its 20 ms.
        frames: M.
        bands: of the mel.

    Returns:
        [M, bands] between −0.5 and 1.5 or so.
    """
    start = (first + 1) * HOP - WINDOW // 2
    stop = start + (frames - 1) * HOP + WINDOW
    inside = mono[max(0, start) : max(0, stop)]
    before = min(max(0, -start), stop - start)
    signal = F.pad(inside, (before, stop - start - before - len(inside)))
    window = torch.hann_window(WINDOW, device=mono.device)
    power = torch.fft.rfft(signal.unfold(0, WINDOW, HOP) * window).abs().square()  # [M, 201]
    mel = (power @ mel_filters(bands).to(mono.device)).clamp(min=1e-10).log10()
    scaled: Tensor = (mel.clamp(min=CEILING - RANGE) + 4) / 4
    return scaled


@cache
def mel_filters(bands: int) -> Tensor:
    """[201, bands] triangles of equal area over the bins of a 400-point spectrum, on Slaney's mel scale up to 8 kHz."""
    # linear below 1 kHz with 200/3 Hz per mel, logarithmic above with 27 mels per factor of 6.4 (Slaney 1998)
    top = 15 + 27 * math.log(SAMPLE_RATE / 2 / 1000) / math.log(6.4)
    mels = torch.linspace(0, top, bands + 2, dtype=torch.float64)
    hz = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))
    bins = torch.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - hz[:-2]) / (hz[1:-1] - hz[:-2])
    falling = (hz[2:] - bins) / (hz[2:] - hz[1:-1])
    area = 2 / (hz[2:] - hz[:-2])
    return (torch.minimum(rising, falling).clamp(min=0) * area).float()


def _near(states: int, reach: int, device: torch.device) -> Tensor:
    """[S, S] True where two states are at most `reach` apart."""
    number = torch.arange(states, device=device)
    return (number[:, None] - number).abs() <= reach


@cache
def _positions(states: int, width: int) -> Tensor:
    """[S, D] sinusoids of the state's number, sines first (Vaswani et al. 2017)."""
    step = math.log(10_000) / (width // 2 - 1)
    angle = torch.arange(states)[:, None] * torch.exp(-step * torch.arange(width // 2))
    return torch.cat((angle.sin(), angle.cos()), 1)


def from_transformers(model: PreTrainedModel) -> WhisperEncoder:
    """The lower half of the encoder of a transformers Whisper of any size: it knows sounds, the upper half words."""
    config, layers = model.config, (model.config.encoder_layers + 1) // 2
    own = WhisperEncoder(WhisperConfig(config.d_model, (layers,), config.num_mel_bins, reach=0))
    state = model.state_dict()
    prefix = next(name for name in state if name.endswith("encoder.conv1.weight")).removesuffix("conv1.weight")
    own.load_state_dict(rename({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, layers))
    return own.eval()


def rename(encoder: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The weights [...] of a `WhisperEncoder` with some layers, from those of transformers' `WhisperEncoder`."""
    pairs = {"conv_in": "conv1", "conv_down": "conv2"}
    weights: dict[str, Tensor] = {}
    for number in range(layers):
        here = f"layers.{number}."
        attention = f"{here}self_attn."
        for part in ("weight", "bias"):
            # the keys have no bias in Whisper: softmax does not change when all of a query's products are shifted
            none = torch.zeros_like(encoder[f"{attention}q_proj.bias"])
            rows = [encoder.get(f"{attention}{x}_proj.{part}", none) for x in "qkv"]
            weights[f"{here}qkv.{part}"] = torch.cat(rows)
        pairs |= {
            f"{here}norm_attention": f"{attention[:-1]}_layer_norm",
            f"{here}out": f"{attention}out_proj",
            f"{here}norm_feed": f"{here}final_layer_norm",
            f"{here}feed_in": f"{here}fc1",
            f"{here}feed_out": f"{here}fc2",
        }
    for own, other in pairs.items():
        for part in ("weight", "bias"):
            weights[f"{own}.{part}"] = encoder[f"{other}.{part}"]
    return weights
