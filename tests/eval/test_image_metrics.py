"""PSNR, SSIM and the regions in which they are measured."""

import pytest
import torch

from vividtalk_core.eval.image_metrics import face_oval, mouth_box, psnr, ssim
from vividtalk_core.head.topology import FACE_OVAL, OUTER_LIPS


def test_psnr_of_a_known_error():
    target = torch.zeros(1, 3, 4, 4)
    where = torch.zeros(4, 4, dtype=torch.bool)
    where[1:3, 1:3] = True
    assert psnr(target + 0.1, target, where) == pytest.approx(20, abs=1e-4)
    half = target.clone()
    half[..., 1, 1:3] = 0.1  # half of the pixels looked at: 3 dB less
    half[..., 0, 0] = 1  # not looked at
    assert psnr(half, target, where) == pytest.approx(23.0103, abs=1e-3)
    assert psnr(target, target, where) == pytest.approx(100)


def plain_ssim(a, b, y, x):
    """Wang's formula at one pixel, with a Gaussian window of 11 px and σ 1.5."""
    offset = torch.arange(-5, 6).double()
    row = torch.exp(-(offset**2) / (2 * 1.5**2))
    window = (row[:, None] * row) / row.sum() ** 2
    p, q = (t[y - 5 : y + 6, x - 5 : x + 6].double() for t in (a, b))
    mp, mq = (window * p).sum(), (window * q).sum()
    vp, vq, cov = (window * p * p).sum() - mp**2, (window * q * q).sum() - mq**2, (window * p * q).sum() - mp * mq
    return (2 * mp * mq + 0.01**2) * (2 * cov + 0.03**2) / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2))


def test_ssim_is_wangs():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(1, 3, 24, 24, generator=generator)
    b = (a + 0.2 * torch.randn(1, 3, 24, 24, generator=generator)).clamp(0, 1)
    where = torch.zeros(24, 24, dtype=torch.bool)
    where[12, 10] = True
    target = torch.stack([plain_ssim(a[0, c], b[0, c], 12, 10) for c in range(3)]).mean()
    assert ssim(a, b, where) == pytest.approx(float(target), abs=1e-4)
    assert ssim(a, a, where) == pytest.approx(1)


def points_with(indices, corners):
    """478 landmarks of which only these matter, dealt out to the corners of a shape in order."""
    points = torch.full((478, 2), 128.0)
    corners = torch.tensor(corners)
    share = torch.arange(len(indices)) * len(corners) // len(indices)
    points[list(indices)] = corners[share]
    return points


def test_the_oval_mask_is_the_polygon_of_its_landmarks():
    mask = face_oval(points_with(FACE_OVAL, [[60.0, 40], [180, 40], [180, 200], [60, 200]]), 256, 240)
    assert mask.dtype == torch.bool and mask.shape == (256, 240)
    assert mask[40:200, 60:180].all()
    assert int(mask.sum()) == 121 * 161  # both edges are drawn


def test_the_mouth_box_has_a_margin_of_the_lips_size():
    mask = mouth_box(points_with(OUTER_LIPS, [[100.0, 150], [140, 150], [140, 170], [100, 170]]), 256, 256)
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    assert (int(columns[0]), int(columns[-1]) + 1) == (93, 147)  # 0.35 / 2 of 40 px on each side
    assert (int(rows[0]), int(rows[-1]) + 1) == (143, 177)
    assert int(mask.sum()) == 54 * 34


def test_a_mouth_at_the_edge_is_cut_there():
    mask = mouth_box(points_with(OUTER_LIPS, [[-20.0, 240], [20, 240], [20, 270], [-20, 270]]), 256, 300)
    assert mask[-1, 0]
    assert int(mask.any(0).sum()) == 27
