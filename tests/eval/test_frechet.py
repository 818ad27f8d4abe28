"""The Fréchet distance against its closed form, and what it must not see."""

import pytest
import torch
from torch import nn

from vividtalk_core.errors import MismatchError
from vividtalk_core.eval.frechet import frechet_distance, mean_features


def normal(count, mean, scale, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(mean) + torch.randn(count, len(mean), generator=generator) * torch.tensor(scale)


def test_equal_sets_have_no_distance():
    features = normal(200, [0.0, 5.0, -1.0], [1.0, 0.1, 30.0])
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features[torch.randperm(200)], features) == pytest.approx(0, abs=1e-9)


def test_independent_features_have_the_distance_of_their_formula():
    real = normal(200_000, [1.0, 2.0], [2.0, 0.5])
    ours = normal(200_000, [3.0, 2.0], [4.0, 0.5], seed=1)
    # in deviations of the real features: means differ by 1, deviations by 1 (Dowson and Landau 1982)
    assert frechet_distance(ours, real) == pytest.approx(2.0, rel=0.02)


def test_less_variety_is_a_distance():
    real = normal(500, [0.0] * 4, [1.0] * 4)
    assert frechet_distance(0.5 * real, real) > 0.9


def test_a_constant_feature_does_not_count():
    real, ours = normal(100, [0.0, 0.0], [1.0, 0.0]), normal(100, [0.0, 0.0], [1.0, 0.0], seed=2)
    assert frechet_distance(ours, real) < 0.2


@pytest.mark.parametrize("shapes", [((1, 3), (5, 3)), ((5, 3), (5, 4))])
def test_what_cannot_be_compared_is_refused(shapes):
    with pytest.raises(MismatchError, match="at least two pictures"):
        frechet_distance(*(torch.zeros(shape) for shape in shapes))


def test_features_are_means_over_places():
    class Stages(nn.Module):
        def features(self, images):
            return [images, nn.functional.avg_pool2d(images, 2)[:, :1]]

    images = torch.rand(5, 3, 8, 6)
    found = mean_features(Stages(), images)
    torch.testing.assert_close(found, torch.cat((images.mean((2, 3)), images[:, :1].mean((2, 3))), 1))
