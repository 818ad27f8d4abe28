"""Loss terms of stage 2 against numbers worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.critics.discriminator import DiscriminatorConfig, MultiScaleDiscriminator, frozen
from vividtalk_core.geometry import warp
from vividtalk_core.head.topology import LEFT_EYE_CORNERS, OUTER_LIPS, RIGHT_EYE_CORNERS
from vividtalk_core.training.losses.image import (
    LEFT_EYE,
    RIGHT_EYE,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    kl,
    l1,
    perceptual,
    region_weights,
    temporal_warping,
)


class Sizes(torch.nn.Module):
    """A backbone whose only map is the picture itself."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def features(self, images):
        self.seen.append(tuple(images.shape[-2:]))
        return [images]


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def left_half(size):
    where = torch.zeros(1, 1, size, size)
    where[..., : size // 2] = 1
    return where


def judgement(*logits):
    return [([torch.zeros(1, 2, 2, 2)], torch.tensor(values).view(1, 1, 1, -1)) for values in logits]


def test_l1_is_a_mean_over_what_counts():
    predicted, target = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    target[..., 2:] = 3
    assert l1(predicted, target) == 2
    assert l1(predicted, target, left_half(4)) == 1
    assert l1(predicted, target, 1 + 3 * left_half(4)) == pytest.approx((4 * 1 + 3) / 5)
    assert l1(predicted, target, torch.zeros(1, 1, 4, 4)) == 0
    # frames of a source [B, R, 3, H, W] share its weight [B, 1, 1, H, W]
    pairs = torch.stack((predicted, predicted), 1), torch.stack((target, target), 1)
    assert l1(*pairs, left_half(4)[:, None]) == 1


def test_half_precision_adds_up_in_full():
    predicted = torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16)
    assert l1(predicted, predicted + 0.5, torch.ones(1, 1, 64, 64)) == 0.5


def test_perceptual_is_the_mean_over_scales():
    predicted, target, network = random(2, 3, 8, 8), random(2, 3, 8, 8, seed=1), Sizes()
    both = perceptual(network, predicted, target)
    assert set(network.seen) == {(8, 8), (4, 4)}
    whole = perceptual(network, predicted, target, scales=(1.0,))
    half = perceptual(network, F.avg_pool2d(predicted, 2), F.avg_pool2d(target, 2), scales=(1.0,))
    torch.testing.assert_close(both, (whole + half) / 2)


def test_perceptual_counts_the_weighted_pixels():
    predicted, target = random(1, 3, 8, 8), random(1, 3, 8, 8, seed=1)
    target[..., :4] = predicted[..., :4]
    assert perceptual(Sizes(), predicted, target, where=left_half(8)) == pytest.approx(0, abs=1e-6)
    assert perceptual(Sizes(), predicted, target, where=1 - left_half(8)) > 0.01


def test_hinge_by_hand():
    real, fake = judgement([2.0, 0.0], [1.0]), judgement([-3.0, 0.0], [1.0])
    # finer scale: (0 + 1) / 2 + (0 + 1) / 2 = 1; coarser: 0 + 2
    assert hinge_discriminator(real, fake) == 1.5
    assert hinge_generator(fake) == pytest.approx((1.5 - 1) / 2)


def test_adversarial_terms_count_the_weighted_pixels():
    fake = judgement([-3.0, 5.0])
    assert hinge_generator(fake, left_half(4)) == 3
    assert hinge_discriminator(judgement([1.0, -9.0]), fake, left_half(4)) == 0
    features = torch.zeros(1, 2, 2, 2)
    features[..., 1] = 1
    changed = [([features], fake[0][1])]
    assert feature_matching(fake, changed) == 0.5
    assert feature_matching(fake, changed, left_half(4)) == 0


def test_generator_terms_leave_the_discriminator_alone_and_its_own_term_trains_it():
    torch.manual_seed(0)
    discriminator = MultiScaleDiscriminator(DiscriminatorConfig(widths=(4, 8)))
    target, predicted = random(2, 3, 32, 32), random(2, 3, 32, 32, seed=1).requires_grad_()
    with torch.no_grad():
        real = discriminator(target)
    fake = frozen(discriminator, predicted)
    (hinge_generator(fake) + feature_matching(real, fake)).backward()
    assert predicted.grad.abs().sum() > 0
    assert all(p.grad is None for p in discriminator.parameters())
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(hinge_discriminator(discriminator(target), discriminator(predicted.detach())))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_feature_matching_has_no_gradient_to_the_real():
    real, fake = random(1, 2, 4, 4).requires_grad_(), random(1, 2, 4, 4, seed=1).requires_grad_()
    logits = torch.zeros(1, 1, 2, 2)
    feature_matching([([real], logits)], [([fake], logits)]).backward()
    assert real.grad is None
    assert fake.grad.abs().sum() > 0


def test_temporal_warping_is_the_difference_of_both_changes():
    predicted, target = random(2, 2, 3, 8, 8), random(2, 2, 3, 8, 8, seed=1)
    step, mask = random(2, 8, 8, 2, seed=2) * 0.2 - 0.1, (random(2, 1, 8, 8, seed=3) > 0.5).float()
    changes = [x[:, 1] - warp(x[:, 0], step) for x in (predicted, target)]
    expected = ((changes[0] - changes[1]).abs() * mask).sum() / (3 * mask.sum())
    torch.testing.assert_close(temporal_warping(predicted, target, step, mask), expected)


def test_a_constant_error_that_moves_with_the_skin_does_not_flicker():
    target, step = random(1, 2, 3, 8, 8), torch.full((1, 8, 8, 2), 0.25)  # one pixel
    error = random(1, 3, 8, 8, seed=4)
    predicted = target + torch.stack((error, warp(error, step)), 1)
    mask = torch.ones(1, 1, 8, 8)
    assert temporal_warping(predicted, target, step, mask) == pytest.approx(0, abs=1e-6)
    assert temporal_warping(target + error[:, None], target, step, mask) > 0.1


def test_kl_by_hand():
    assert kl(torch.zeros(2, 4), torch.zeros(2, 4)) == 0
    assert kl(torch.full((1, 2), 2.0), torch.zeros(1, 2)) == 2
    assert kl(torch.zeros(1, 2), torch.full((1, 2), math.log(4))) == pytest.approx((4 - 1 - math.log(4)) / 2)
    normal = torch.distributions.Normal
    mean, log_variance = random(2, 3), random(2, 3, seed=1)
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl(mean, log_variance), expected)


def face(angle=0.0):
    """[1, 478, 2] px of a 64-px picture: lips 20 × 8 around (32, 48), eyes 12 × 8 around (20, 20) and (44, 20)."""
    points = torch.full((478, 2), 1000.0)

    def ring(part, x, y, width, height):
        turn = torch.linspace(0, 2 * math.pi, len(part) + 1)[:-1]
        around = torch.stack((turn.cos() * width / 2, turn.sin() * height / 2), -1)
        points[list(part)] = around + torch.tensor((x, y))

    ring(OUTER_LIPS, 32.0, 48.0, 20.0, 8.0)
    ring(RIGHT_EYE, 20.0, 20.0, 12.0, 8.0)
    ring(LEFT_EYE, 44.0, 20.0, 12.0, 8.0)
    points[RIGHT_EYE_CORNERS[0]], points[LEFT_EYE_CORNERS[0]] = torch.tensor(((14.0, 20.0), (50.0, 20.0)))
    turn = torch.tensor(((math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))))
    return ((points - 32) @ turn.T + 32)[None]


def test_regions_lie_over_lips_and_eyes():
    mouth, eyes = region_weights(face(), 64)
    assert mouth.shape == eyes.shape == (1, 1, 64, 64)
    assert mouth[0, 0, 48, 20:44].min() > 0.9  # half of 20 and a margin of 0.15 · 20 beyond the corners of the mouth
    assert mouth[0, 0, 48, 14] == mouth[0, 0, 36, 32] == mouth[0, 0, 20, 20] == 0
    assert eyes[0, 0, 20, (14, 20, 26, 38, 44, 50)].min() == 1
    assert eyes[0, 0, 48, 32] == eyes[0, 0, 32, 32] == 0
    edge = mouth[0, 0, 48, 44:52]
    assert edge.diff().max() <= 0  # falls smoothly
    assert edge.diff().min() > -0.5


def test_regions_turn_with_the_head_and_each_face_has_its_own():
    upright, turned = face(), face(math.pi / 2)
    mouths, eyes = region_weights(torch.cat((upright, turned)), 64)
    torch.testing.assert_close(mouths[1], mouths[0].rot90(-1, (1, 2)), atol=1e-4, rtol=0)
    torch.testing.assert_close(eyes[1], eyes[0].rot90(-1, (1, 2)), atol=1e-4, rtol=0)
