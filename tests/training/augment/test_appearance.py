import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.training.augment.appearance import (
    LUMA,
    ColorChange,
    compress,
    ink,
    posterise,
    shrink,
    smooth,
    soften,
    tone_matrix,
)

SAME = {"matrix": torch.eye(3), "offset": torch.zeros(3), "gamma": torch.ones(3), "bend": torch.zeros(3)}


@pytest.fixture
def pictures():
    return torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def step_picture():
    """Dark on the left of column 16, light on the right, with a faint grain."""
    picture = torch.full((1, 3, 32, 32), 0.3)
    picture[..., 16:] = 0.7
    return picture + 0.02 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))


# ---- colours


def test_change_of_one_color():
    matrix = torch.tensor([[0.5, 0.1, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 3.0]])
    change = ColorChange(matrix, torch.tensor([0.1, 0, 0]), torch.tensor([2.0, 1, 1]), torch.tensor([0.0, 0.4, 0]))
    red = (0.1 + 0.5 * 0.6 + 0.1 * 0.4) ** 2
    green = 0.2 + 0.4 * 0.2 * 0.8 * (0.4 - 1)
    found = change(torch.tensor([0.6, 0.4, 0.5]).view(1, 3, 1, 1)).flatten().tolist()
    assert found == pytest.approx([red, green, 1.0])


def test_curves_rise_everywhere():
    ramp = torch.linspace(0, 1, 256).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    for bend in (-1.0, 1.0):
        change = ColorChange(**SAME | {"gamma": torch.tensor([0.5, 1.0, 2.0]), "bend": torch.full((3,), bend)})
        assert (change(ramp).diff(dim=-1) >= -1e-6).all()


def test_paint_changes_as_the_pictures_do(pictures):
    change = ColorChange(**SAME | {"offset": torch.full((3,), 0.2), "gamma": torch.tensor([0.8, 1.0, 1.3])})
    alpha = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(1))
    alpha[..., :5] = 0
    paint = torch.cat((pictures * alpha, alpha), 1)
    changed = change.on_paint(paint)
    torch.testing.assert_close(changed[:, :3], change(pictures) * alpha, atol=1e-4, rtol=0)
    assert torch.equal(changed[:, 3:], alpha) and not changed[..., :5].any()


def test_tones():
    luma, color = torch.tensor(LUMA), torch.tensor([0.7, 0.4, 0.2])
    torch.testing.assert_close(tone_matrix(torch.ones(3), 1.0, 0.0), torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        tone_matrix(torch.ones(3), 0.0, 0.7) @ color, (luma @ color).expand(3), atol=1e-3, rtol=0
    )
    turned = tone_matrix(torch.ones(3), 1.0, math.radians(40))
    torch.testing.assert_close(turned @ torch.full((3,), 0.6), torch.full((3,), 0.6), atol=1e-3, rtol=0)
    assert float(luma @ (turned @ color)) == pytest.approx(float(luma @ color), abs=1e-3)
    assert (turned @ color - color).norm() > 0.1
    torch.testing.assert_close(tone_matrix(color, 1.0, 0.0), torch.diag(color), atol=1e-5, rtol=0)


# ---- style


def test_smooth_keeps_edges_and_flattens_grain(step_picture):
    flat = smooth(step_picture, 2, 0.08)
    assert float(flat[..., 4:12].std()) < 0.35 * float(step_picture[..., 4:12].std())
    assert float((flat[..., 17] - flat[..., 14]).mean()) > 0.35
    torch.testing.assert_close(smooth(step_picture, 3, 1e-6), step_picture, atol=1e-3, rtol=0)


def test_smooth_is_the_guided_filter(pictures):
    """Against the same equations pixel by pixel with padding and unfold."""

    def mean(x):
        padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
        return F.unfold(padded.flatten(0, 1)[:, None], 5).mean(1).view(x.shape)

    mu = mean(pictures)
    variance = (mean(pictures**2) - mu**2).mean(1, keepdim=True)
    keep = variance / (variance + 0.3**2)
    expected = mean(keep) * pictures + mean((1 - keep) * mu)
    torch.testing.assert_close(smooth(pictures, 2, 0.3), expected, atol=1e-5, rtol=1e-5)


def test_posterise_makes_levels_and_keeps_hues():
    ramp = torch.linspace(0.02, 0.98, 200).view(1, 1, 1, -1) * torch.tensor([1.0, 0.8, 0.5]).view(1, 3, 1, 1)
    hard = posterise(ramp, 5, 0.0)
    luma = torch.einsum("c,nchw->w", torch.tensor(LUMA), hard)
    distance = (luma * 4 - (luma * 4).round()).abs() / 4
    assert (distance < 0.02).float().mean() > 0.98 and len((luma * 4).round().unique()) == 4
    torch.testing.assert_close(hard[:, 1], 0.8 * hard[:, 0], atol=1e-5, rtol=0)
    soft = posterise(ramp, 5, 1.0)
    assert soft.diff(dim=-1).max() < 0.15 * hard.diff(dim=-1).max()
    assert soft.diff(dim=-1).min() > -1e-6, "brighter stays brighter"


def test_ink_darkens_edges_only(step_picture):
    inked = ink(step_picture, 0.8, 0.15)
    assert torch.equal(inked[..., :12], step_picture[..., :12])
    assert torch.equal(inked[..., 20:], step_picture[..., 20:])
    torch.testing.assert_close(inked[..., 15:17], 0.2 * step_picture[..., 15:17], atol=0.02, rtol=0)
    assert torch.equal(ink(step_picture, 0.8, 2.0), step_picture)


def test_soften_is_a_gaussian():
    spot = torch.zeros(1, 1, 31, 31)
    spot[..., 15, 15] = 1
    blurred = soften(spot, 1.3)
    away = torch.arange(31) - 15.0
    weights = torch.exp(-(away**2) / (2 * 1.3**2))
    weights = weights / weights.sum()
    torch.testing.assert_close(blurred[0, 0], torch.outer(weights, weights), atol=2e-3, rtol=0)
    torch.testing.assert_close(soften(spot + 1, 1.0) - 1, soften(spot, 1.0), atol=1e-5, rtol=0)


# ---- files


def test_shrink_loses_detail_and_keeps_the_rest(pictures):
    wave = (torch.arange(64) * 0.2).sin().mul(0.4).add(0.5).expand(1, 3, 64, 64)
    stripes = torch.arange(64).remainder(2).float().expand(1, 3, 64, 64)
    torch.testing.assert_close(shrink(wave, 0.5)[..., 4:-4], wave[..., 4:-4], atol=0.02, rtol=0)
    assert shrink(stripes, 0.4)[..., 4:-4].std() < 0.2 * stripes.std()
    assert shrink(pictures, 0.1).shape == pictures.shape


def test_compress_is_opencvs_jpeg(pictures):
    found = compress(pictures, 60)
    assert found.shape == pictures.shape and found.dtype == torch.float32
    row = (pictures[1].permute(1, 2, 0) * 255).round().byte().numpy()[..., ::-1]
    data = cv2.imencode(".jpg", np.ascontiguousarray(row), [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    expected = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].copy()
    assert torch.equal((found[1] * 255).round().byte(), torch.from_numpy(expected).permute(2, 0, 1))
    errors = [(compress(pictures, quality) - pictures).abs().mean() for quality in (95, 60, 20)]
    assert errors == sorted(errors)
