"""Blocks that more than one model is built from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Cache = tuple[Tensor, Tensor]  # keys and values [B, heads, past, head width] of the frames before


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer whose frames see a bounded neighbourhood.

    Attention is banded: frame t sees t − before … t + after and nothing else, with a learned bias per head and
    distance. What a frame becomes therefore depends on no position in the clip and on no clip length.

    Args:
        width: features per frame.
        heads: of the attention.
        before: frames seen in the past.
        after: frames seen in the future; 0 is the causal form, which `step` runs frame by frame.
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
        """All frames [B, T, D] at once."""
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
        keep = min(self.before, k.shape[2])
        return x + self._feed(x), (k[:, :, k.shape[2] - keep :], v[:, :, v.shape[2] - keep :])

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))  # [B, T, 3, heads, d]
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, T, d] each
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=dropout)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _band(self, frames: int) -> Tensor:
        """[heads, T, T] the bias of each distance, −inf outside the band."""
        time = torch.arange(frames, device=self.distance_bias.device)
        distance = time[None] - time[:, None] + self.before  # of the frame that is seen, 0 = the oldest
        inside = (distance >= 0) & (distance <= self.before + self.after)
        bias = self.distance_bias[:, distance.clamp(0, self.before + self.after)]
        return bias.masked_fill(~inside, float("-inf"))

    def _feed(self, x: Tensor) -> Tensor:
        return self._drop(self.feed_out(F.gelu(self.feed_in(self.norm_feed(x)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
