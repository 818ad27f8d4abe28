"""The blocks against plain references: banded attention, convolutions, the hourglass; and how frames go through."""

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.nn import (
    LEAK,
    Conv,
    Hourglass,
    Residual,
    TransformerLayer,
    Up,
    frame_batches,
    inference,
    modules_of,
    zero_conv,
)


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


def test_a_frame_depends_on_its_band_alone():
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
        result, cache = layer.step(part, cache)
        parts.append(result)
    torch.testing.assert_close(torch.cat(parts, 1), layer(x), atol=1e-5, rtol=1e-5)
    assert cache[0].shape[2] == layer.before


def test_gradients_reach_every_weight():
    layer = make()
    layer(torch.randn(1, 9, 16)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in layer.parameters())


def pictures(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("stride", "kernel"), [(1, 3), (2, 3), (1, 5), (2, 1)])
def test_conv_is_a_convolution_with_a_leak(stride, kernel):
    block, x = Conv(3, 5, stride, kernel), pictures(2, 3, 16, 12)
    torch.nn.init.normal_(block.conv.bias)
    plain = F.conv2d(F.pad(x, (kernel // 2,) * 4), block.conv.weight, block.conv.bias)[..., ::stride, ::stride]
    out = block(x)
    assert out.shape == (2, 5, 16 // stride, 12 // stride)
    torch.testing.assert_close(out, torch.where(plain > 0, plain, LEAK * plain))


def test_many_convs_neither_swell_nor_shrink():
    """The starting weights keep the size of what goes through, so that deep networks can be trained without norms."""
    torch.manual_seed(0)
    x = y = pictures(1, 32, 32, 32)
    with torch.no_grad():
        for _ in range(8):
            y = Conv(32, 32)(y)
    assert 0.3 < float(y.square().mean() / x.square().mean()) < 3


def test_zero_conv_gives_zero_and_can_learn():
    block, x = zero_conv(3, 4, kernel=5), pictures(2, 3, 8, 8)
    out = block(x)
    assert out.shape == (2, 4, 8, 8) and (out == 0).all()
    out.sum().backward()
    assert block.weight.grad.any() and block.bias.grad.all()


def test_residual_begins_as_nothing_and_adds_two_convolutions():
    block, x = Residual(6), pictures(1, 6, 10, 10)
    assert torch.equal(block(x), x)
    torch.nn.init.normal_(block.outer.weight)
    inner = F.leaky_relu(F.conv2d(x, block.inner.conv.weight, block.inner.conv.bias, padding=1), LEAK)
    torch.testing.assert_close(block(x), x + F.conv2d(inner, block.outer.weight, block.outer.bias, padding=1))


@pytest.mark.parametrize("skipped", [False, True])
def test_up_doubles_mixed_channels_and_adds_the_skip(skipped):
    block, x = Up(6, 4), pictures(2, 6, 5, 7)
    skip = pictures(2, 4, 10, 14, seed=1) if skipped else None
    mixed = torch.einsum("oi,bihw->bohw", block.mix.weight[..., 0, 0], x) + block.mix.bias[:, None, None]
    doubled = mixed.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(block(x, skip), block.conv(doubled + skip if skipped else doubled))


def test_hourglass_is_its_scales_put_together():
    block, x = Hourglass(3, (4, 6, 8)), pictures(2, 3, 16, 16)
    full = block.first(x)
    half = block.down[0](full)
    quarter = block.down[1](half)
    assert quarter.shape == (2, 8, 4, 4)
    out = block.up[1](block.up[0](block.waist(quarter), half), full)
    assert out.shape == (2, 4, 16, 16)
    torch.testing.assert_close(block(x), out)


def test_one_pixel_of_an_hourglass_depends_on_the_whole_image():
    block, x = Hourglass(1, (4, 4, 4, 4)), pictures(1, 1, 24, 24).requires_grad_()
    torch.nn.init.normal_(block.waist.outer.weight)
    block(x)[0, :, 12, 12].sum().backward()
    assert (x.grad[0, 0, [0, -1]].abs().amax(1) > 0).all() and (x.grad[0, 0][:, [0, -1]].abs().amax(0) > 0).all()


@pytest.mark.parametrize(("amx", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_inference_is_half_precision_where_the_cpu_multiplies_it(monkeypatch, amx, dtype):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    block, x = Conv(3, 4), pictures(1, 3, 8, 8)
    with inference(torch.device("cpu")):
        out = block(x)
    assert out.dtype == dtype and not out.requires_grad
    with inference(torch.device("cuda")):  # how a CPU adds up says nothing about other devices
        assert block(x).dtype == torch.float32
    assert block(x).requires_grad


def test_frames_go_one_by_one_on_a_cpu_and_in_batches_elsewhere():
    assert frame_batches(3, torch.device("cpu")) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert frame_batches(11, torch.device("cuda")) == [slice(0, 8), slice(8, 11)]
    assert frame_batches(0, torch.device("cpu")) == []


def test_a_list_of_modules_has_one_type_or_is_refused():
    layers = torch.nn.ModuleList((Residual(2), Residual(2)))
    assert modules_of(layers, Residual) == list(layers)
    with pytest.raises(TypeError, match="Residual modules"):
        modules_of(torch.nn.ModuleList((Residual(2), Conv(2, 2))), Residual)
