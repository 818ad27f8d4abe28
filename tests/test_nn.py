"""Banded attention: what a frame sees, and frame by frame against all at once."""

import pytest
import torch

from vividtalk_core.nn import TransformerLayer


def make(before=3, after=2, width=16):
    torch.manual_seed(0)
    layer = TransformerLayer(width, 4, before, after).eval()
    torch.nn.init.normal_(layer.distance_bias)
    return layer


def reference(layer, x):
    """The layer with a loop over frames instead of a band."""
    frames, width = x.shape
    q, k, v = layer.qkv(layer.norm_attention(x)).unflatten(-1, (3, layer.heads, -1)).unbind(1)
    out = torch.zeros(frames, layer.heads, width // layer.heads)
    for t in range(frames):
        seen = range(max(0, t - layer.before), min(frames, t + layer.after + 1))
        bias = torch.stack([layer.distance_bias[:, s - t + layer.before] for s in seen])  # [n, heads]
        score = torch.stack([(q[t] * k[s]).sum(-1) for s in seen]) / (width // layer.heads) ** 0.5 + bias
        out[t] = (score.softmax(0)[..., None] * torch.stack([v[s] for s in seen])).sum(0)
    x = x + layer.out(out.flatten(1))
    return x + layer.feed_out(torch.nn.functional.gelu(layer.feed_in(layer.norm_feed(x))))


@pytest.mark.parametrize(("before", "after"), [(3, 2), (0, 0), (4, 0)])
def test_attention_is_that_of_the_loop(before, after):
    layer, x = make(before, after), torch.randn(1, 11, 16)
    torch.testing.assert_close(layer(x)[0], reference(layer, x[0]), atol=1e-5, rtol=1e-5)


def test_a_frame_sees_its_band_and_nothing_else():
    layer, x = make(), torch.randn(1, 20, 16)
    other = x.clone()
    other[0, 10] = torch.randn(16)
    changed = ((layer(x) - layer(other)).abs().amax(-1) > 1e-6)[0].nonzero()[:, 0].tolist()
    assert changed == list(range(8, 14))  # 10 is in the future of 8 and 9, and in the past of 11, 12 and 13


@pytest.mark.parametrize("piece", [1, 4])
def test_step_by_step_is_all_at_once(piece):
    layer, x = make(after=0), torch.randn(2, 13, 16)
    cache, parts = None, []
    for part in x.split(piece, 1):
        made, cache = layer.step(part, cache)
        parts.append(made)
    torch.testing.assert_close(torch.cat(parts, 1), layer(x), atol=1e-5, rtol=1e-5)
    assert cache[0].shape[2] == layer.before


def test_gradients_reach_every_weight():
    layer = make()
    layer(torch.randn(1, 9, 16)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in layer.parameters())
