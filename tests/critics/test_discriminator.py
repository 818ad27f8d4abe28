"""The discriminator: shapes, its receptive field, its condition, and that `frozen` does not train it."""

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.critics.discriminator import DiscriminatorConfig, MultiScaleDiscriminator, frozen

TINY = DiscriminatorConfig(widths=(4, 8), scales=2)


@pytest.fixture
def discriminator():
    torch.manual_seed(0)
    return MultiScaleDiscriminator(TINY)


def pictures(size=32, seed=0):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_shapes_at_each_scale(discriminator):
    (fine, fine_logits), (coarse, coarse_logits) = discriminator(pictures())
    assert [x.shape for x in fine] == [(2, 4, 16, 16), (2, 8, 8, 8)]
    assert [x.shape for x in coarse] == [(2, 4, 8, 8), (2, 8, 4, 4)]
    assert fine_logits.shape == (2, 1, 8, 8)
    assert coarse_logits.shape == (2, 1, 4, 4)


def test_the_coarser_scale_gets_the_halved_picture(discriminator):
    _, (features, logits) = discriminator(pictures())
    half = F.avg_pool2d(pictures(), 2) * 2 - 1
    again, others = discriminator.scales[1](half)
    torch.testing.assert_close(others, logits)
    torch.testing.assert_close(again, features)


def test_first_layer_depends_on_colour(discriminator):
    bright, dark = discriminator(pictures()), discriminator(pictures() * 0.5)
    first = [judgement[0][0][0] for judgement in (bright, dark)]
    expected = F.leaky_relu(discriminator.scales[0].layers[0](pictures() * 2 - 1), 0.2)
    torch.testing.assert_close(first[0], expected)
    assert not torch.allclose(first[0], first[1])


def test_a_logit_depends_on_the_patch_that_is_documented():
    config = DiscriminatorConfig()
    discriminator = MultiScaleDiscriminator(config)
    for scale in discriminator.scales:
        for index in range(len(scale.norms)):  # a norm sees the whole picture; the reach is that of the convolutions
            scale.norms[index] = torch.nn.Identity()
    image = torch.rand(1, 3, 256, 256).requires_grad_()
    for (_, logits), reach in zip(discriminator(image), (38, 76), strict=True):
        middle = logits.shape[-1] // 2
        (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], image, retain_graph=True)
        rows = gradient[0].abs().sum((0, 2)).nonzero()
        assert rows.max() - rows.min() + 1 == reach


def test_default_is_small():
    assert sum(p.numel() for p in MultiScaleDiscriminator().parameters()) < 100_000


def test_condition_is_an_input_too():
    discriminator = MultiScaleDiscriminator(DiscriminatorConfig(widths=(4, 8), scales=1, condition_channels=3))
    (_, a), (_, b) = (discriminator(pictures(), pictures(seed=s))[0] for s in (1, 2))
    assert not torch.allclose(a, b)
    with pytest.raises(ValueError, match="must have 3 channels, it has 0"):
        discriminator(pictures())
    with pytest.raises(ValueError, match="must have 0 channels, it has 3"):
        MultiScaleDiscriminator(TINY)(pictures(), pictures())


def test_frozen_gives_the_same_and_trains_only_the_picture(discriminator):
    image = pictures().requires_grad_()
    plain, held = discriminator(pictures()), frozen(discriminator, image)
    torch.testing.assert_close(held, plain)
    sum(logits.square().sum() for _, logits in held).backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())
    sum(logits.square().sum() for _, logits in discriminator(pictures())).backward()
    assert all(p.grad is not None for p in discriminator.parameters())
