"""Blocks that more than one network is built from, and how networks are run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

GPU_BATCH = 8  # frames
LEAK = 0.1  # slope of the rectifier below zero

Cache = tuple[Tensor, Tensor]  # keys and values [B, heads, past, head width] of the frames before
ModuleKind = TypeVar("ModuleKind", bound=nn.Module)


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """No gradients, and bfloat16 where the CPU multiplies it in hardware: elsewhere it is slower than float32."""
    # measured: bfloat16 is about three times as fast as float32 with AMX, and slower than it without
    fast = device.type == "cpu" and torch.cpu._is_amx_tile_supported()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
        yield


def frame_batches(frames: int, device: torch.device) -> list[slice]:
    """Frames that go through a network at once.

    On a CPU that is one: a batched convolution may add up in another order, so that the last bit of a frame would
    depend on how many others are made with it.
    """
    size = 1 if device.type == "cpu" else GPU_BATCH
    return [slice(start, min(start + size, frames)) for start in range(0, frames, size)]


def modules_of(modules: nn.ModuleList, kind: type[ModuleKind]) -> list[ModuleKind]:
    """The modules of a list with their own type; torch declares them as plain modules.

    Raises:
        TypeError: one of them is of another type.
    """
    typed = [module for module in modules if isinstance(module, kind)]
    if len(typed) != len(modules):
        raise TypeError(f"a list of {kind.__name__} modules holds something else: {modules}")
    return typed


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer with attention over a bounded neighbourhood of frames.

    Attention is banded: frame t attends to t − before … t + after and to nothing else, with a learned bias per head
    and distance. A frame's output therefore depends neither on its position in the clip nor on the clip's length.

    Args:
        width: features per frame.
        heads: of the attention.
        before: frames of the past in the band.
        after: frames of the future in the band; 0 is the causal form, which `step` runs frame by frame.
        dropout: of attention and feed-forward outputs, in training.
    """

    def __init__(self, width: int, heads: int, before: int, after: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.before, self.after, self.dropout = heads, before, after, dropout
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.distance_bias = nn.Parameter(torch.zeros(heads, before + after + 1))
        self.norm_feed = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, 4 * width)
        self.feed_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """All frames [B, T, D] at once, to [B, T, D]."""
        q, k, v = self._qkv(x)
        x = x + self._drop(self._attend(q, k, v, self._band(x.shape[1])))
        return x + self._feed(x)

    def step(self, x: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """The next frames [B, n, D] after those in the cache; the causal form only.

        Returns:
            [B, n, D], the same as `forward` gives for these frames, and the cache for the frames that follow.
        """
        q, k, v = self._qkv(x)
        if cache is not None:
            k, v = torch.cat((cache[0], k), 2), torch.cat((cache[1], v), 2)
        bias = self._band(k.shape[2])[:, -q.shape[2] :]
        x = x + self._attend(q, k, v, bias)
        # later frames attend no further back: memory and time of a step do not grow with the clip
        keep = min(self.before, k.shape[2])
        return x + self._feed(x), (k[:, :, k.shape[2] - keep :], v[:, :, v.shape[2] - keep :])

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [B, heads, T, d] each, of frames [B, T, D]."""
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b t (n heads d) -> n b heads t d", n=3, heads=self.heads)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """[B, T, D] of queries, keys and values [B, heads, T, d] and the bias [heads, T, T'] of each distance."""
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=dropout)
        out: Tensor = self.out(rearrange(mixed, "b heads t d -> b t (heads d)"))
        return out

    def _band(self, frames: int) -> Tensor:
        """The bias of each distance, [H, T, T] for H heads, −inf outside the band."""
        time = torch.arange(frames, device=self.distance_bias.device)
        distance = time[None] - time[:, None] + self.before  # of the frame attended to; 0 is the oldest
        inside = (distance >= 0) & (distance <= self.before + self.after)
        bias = self.distance_bias[:, distance.clamp(0, self.before + self.after)]
        return bias.masked_fill(~inside, float("-inf"))

    def _feed(self, x: Tensor) -> Tensor:
        """The feed-forward part of frames [B, T, D], to [B, T, D]."""
        return self._drop(self.feed_out(F.gelu(self.feed_in(self.norm_feed(x)))))

    def _drop(self, x: Tensor) -> Tensor:
        """Dropout on [B, T, D], in training only."""
        return F.dropout(x, self.dropout, self.training)


class Conv(nn.Module):
    """3 × 3 convolution with a leaky rectifier; stride 2 halves the image.

    Args:
        width_in: channels.
        width: channels of the result.
        stride: 1 or 2.
        kernel: px, odd.
    """

    def __init__(self, width_in: int, width: int, stride: int = 1, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, kernel, stride, kernel // 2)
        # for this rectifier (He et al. 2015): deep stacks neither fade out nor grow at the beginning of a training
        nn.init.kaiming_uniform_(self.conv.weight, LEAK)
        constant_bias(self.conv, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, H, W] to [B, width, H / stride, W / stride]."""
        return F.leaky_relu(self.conv(x), LEAK)


class Residual(nn.Module):
    """Two 3 × 3 convolutions added to their input; before training they add zero.

    Without normalisation, which would remove the portrait's brightness from the features.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = Conv(width, width)
        self.outer = zero_conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, H, W] to [B, width, H, W]."""
        out: Tensor = x + self.outer(self.inner(x))
        return out


class Up(nn.Module):
    """Doubles the image: channels are mixed before, neighbours after, and a skip connection is added between.

    Args:
        width_in: channels.
        width: channels of the result and of the skip connection.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width_in, width, 1)
        self.conv = Conv(width, width)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """[B, width_in, H, W] and, if there is one, skip [B, width, 2H, 2W] to [B, width, 2H, 2W]."""
        # enlarged and then convolved: a transposed convolution leaves a checkerboard (Odena et al. 2016); channels are
        # mixed while the image is still small
        x = F.interpolate(self.mix(x), scale_factor=2.0, mode="nearest")
        out: Tensor = self.conv(x if skip is None else x + skip)
        return out


class Hourglass(nn.Module):
    """Down and up again, with skip connections: every pixel depends on the whole image (Newell et al. 2016).

    Args:
        width_in: channels.
        widths: channels at each scale, the first at full size; the last is the smallest.
    """

    def __init__(self, width_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = Conv(width_in, widths[0])
        self.down = nn.ModuleList(Conv(a, b, stride=2) for a, b in pairwise(widths))
        self.waist = Residual(widths[-1])
        self.up = nn.ModuleList(Up(b, a) for a, b in reversed(list(pairwise(widths))))

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, H, W] to [B, widths[0], H, W]."""
        scales: list[Tensor] = [self.first(x)]
        for down in self.down:
            scales.append(down(scales[-1]))
        x = self.waist(scales.pop())
        for up in self.up:
            x = up(x, scales.pop())
        return x


def zero_conv(width_in: int, width: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution [B, width_in, H, W] to [B, width, H, W] that gives zero until it is trained."""
    conv = nn.Conv2d(width_in, width, kernel, padding=kernel // 2)
    nn.init.zeros_(conv.weight)
    constant_bias(conv, 0.0)
    return conv


def constant_bias(conv: nn.Conv2d, value: float, first: int = 0) -> None:
    """Set the bias [C] of a convolution to a value, from the channel `first` on."""
    assert conv.bias is not None  # torch makes one unless it is asked not to
    nn.init.constant_(conv.bias[first:], value)
