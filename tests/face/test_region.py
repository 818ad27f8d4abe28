"""Turned squares: where they lie, what is cut out, and that large images do not alias."""

import math

import pytest
import torch

from vividtalk_core.face.region import Region, crop_regions, whole_image


def region(x, y, size, angle=0.0):
    return Region(torch.tensor([[x, y]]), torch.tensor([size]), torch.tensor([angle]))


def test_upright_crop_at_its_own_size_is_a_slice():
    image = torch.rand(1, 3, 9, 12)
    torch.testing.assert_close(crop_regions(image, region(6.0, 5.0, 4.0), 4)[0], image[0, :, 3:7, 4:8])


def test_quarter_turn_is_clockwise():
    image = torch.rand(1, 3, 8, 8)
    crop = crop_regions(image, region(4.0, 4.0, 8.0, math.pi / 2), 8, "zeros")
    turned = image.rot90(1, (2, 3))  # a square turned clockwise sees the image turned the other way
    torch.testing.assert_close(crop[:, :, 1:], turned[:, :, :-1], rtol=0, atol=1e-5)


def test_crop_counts_pixels_by_index():
    image = torch.arange(8.0).expand(1, 3, 8, 8)
    assert crop_regions(image, region(4.0, 4.0, 8.0), 4)[0, 0, 0].tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize(("mode", "outside"), [("zeros", 0.0), ("border", 1.0)])
def test_overhang(mode, outside):
    crop = crop_regions(torch.ones(1, 3, 4, 4), region(0.0, 2.0, 4.0), 4, mode)
    assert crop[0, 0, 1].tolist() == [outside, outside, 1.0, 1.0]


def test_matrix_maps_corners():
    square = region(10.0, 20.0, 8.0, math.pi / 2)
    corners = torch.tensor([[0.0, 0, 1], [192, 0, 1], [192, 192, 1], [96, 96, 1]])
    expected = torch.tensor([[14.0, 16], [14, 24], [6, 24], [10, 20]])
    torch.testing.assert_close(corners @ square.matrix(192)[0].T, expected)


def test_many_regions_of_one_image_and_one_of_each_image():
    images = torch.rand(3, 3, 32, 32)
    regions = Region(torch.rand(3, 2) * 32, torch.rand(3) * 20 + 5, torch.rand(3))
    alone = [crop_regions(images[i : i + 1], regions[i : i + 1], 16) for i in range(3)]
    torch.testing.assert_close(crop_regions(images, regions, 16), torch.cat(alone))
    same = [crop_regions(images[:1], regions[i : i + 1], 16) for i in range(3)]
    torch.testing.assert_close(crop_regions(images[:1], regions, 16), torch.cat(same))


def test_large_regions_are_halved_first():
    fine = (torch.arange(2048) % 2).float().expand(1, 3, 2048, 2048)  # stripes of one pixel
    crop = crop_regions(fine, whole_image(fine), 128)
    torch.testing.assert_close(crop, torch.full_like(crop, 0.5))
    slope = torch.linspace(0, 1, 2048).expand(1, 3, 2048, 2048)
    at = torch.arange(128) * 16.0
    crop = crop_regions(slope, whole_image(slope), 128)
    torch.testing.assert_close(crop[0, 0, 0, 1:], (at / 2047)[1:], rtol=0, atol=1e-4)  # and stay in place


def test_whole_image_is_the_square_around_it():
    square = whole_image(torch.zeros(1, 3, 100, 40))
    assert (square.centre.tolist(), square.size.tolist(), len(square)) == ([[20.0, 50.0]], [100.0], 1)


def test_errors_name_the_numbers():
    with pytest.raises(ValueError, match=r"size must be \[N\], N = 1; got \[2\]"):
        Region(torch.zeros(1, 2), torch.zeros(2), torch.zeros(1))
    with pytest.raises(ValueError, match="1 regions need 1 or 1 images; got 2"):
        crop_regions(torch.zeros(2, 3, 8, 8), region(4.0, 4.0, 8.0), 8)
    with pytest.raises(ValueError, match=r"image must be \[B, 3, H, W\]"):
        crop_regions(torch.zeros(1, 1, 8, 8), region(4.0, 4.0, 8.0), 8)
