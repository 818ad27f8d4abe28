"""A painted layer over frames: where it lies, what it leaves alone, and that its resolution is its own."""

import pytest
import torch

from vividtalk_core.mesh_to_video.paint import box_points, boxes_around, paint_layer, paint_over
from vividtalk_core.structures import Paint


def layer(box, side=24, color=(1.0, 0.5, 0.0), alpha=1.0):
    """One frame of a uniform painting whose alpha is 0 towards its edges, as the painters make it."""
    cover = torch.zeros(1, 1, side, side)
    cover[:, :, side // 4 : -side // 4, side // 4 : -side // 4] = alpha
    return Paint(torch.tensor(color).view(1, 3, 1, 1).expand(1, 3, side, side), cover, torch.tensor([box]))


def picture(height=64, width=64, frames=1):
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(2))


def test_zero_alpha_leaves_every_bit():
    image = picture()
    assert torch.equal(paint_over(image, layer([8.0, 8.0, 40.0, 40.0], alpha=0.0), 1.0), image)


def test_full_alpha_is_the_paintings_colour():
    out = paint_over(picture(), layer([8.0, 8.0, 56.0, 56.0]), 1.0)
    middle = out[0, :, 28:36, 28:36]
    torch.testing.assert_close(middle, torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1).expand(3, 8, 8))


def test_half_alpha_is_the_mean_of_both():
    image = picture()
    out = paint_over(image, layer([8.0, 8.0, 56.0, 56.0], alpha=0.5), 1.0)[0, :, 30:34, 30:34]
    color = torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1)
    torch.testing.assert_close(out, (image[0, :, 30:34, 30:34] + color) / 2)


def test_outside_the_box_every_bit_is_the_images():
    image = picture()
    out = paint_over(image, layer([20.0, 10.0, 44.0, 34.0]), 1.0)
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[10:34, 20:44] = False
    assert torch.equal(out[:, :, outside], image[:, :, outside])
    assert not torch.equal(out, image)


@pytest.mark.parametrize("detail", [0.5, 1.0, 2.5])
def test_the_box_is_in_px_of_the_crop_whatever_the_image(detail):
    image = torch.zeros(1, 3, round(64 * detail), round(64 * detail))
    out = paint_over(image, layer([16.0, 24.0, 48.0, 56.0], side=64, color=(1.0, 1.0, 1.0)), detail)
    mass = out[0, 0]
    rows, columns = torch.arange(len(mass)) + 0.5, torch.arange(len(mass)) + 0.5
    centre = torch.stack(((mass.sum(0) * columns).sum(), (mass.sum(1) * rows).sum())) / mass.sum() / detail
    torch.testing.assert_close(centre, torch.tensor([32.0, 40.0]), atol=0.02, rtol=0)
    area = float(mass.sum()) / detail**2  # half of the box's side each way
    assert area == pytest.approx(16 * 16, rel=0.03)


def test_a_fractional_box_moves_the_painting_by_a_fraction():
    image = torch.zeros(1, 3, 64, 64)
    columns = torch.arange(64) + 0.5
    centres = []
    for shift in (0.0, 0.3):
        mass = paint_over(image, layer([16 + shift, 16.0, 48 + shift, 48.0], side=32, color=(1.0, 1.0, 1.0)), 1.0)[0, 0]
        centres.append(float((mass.sum(0) * columns).sum() / mass.sum()))
    assert centres[1] - centres[0] == pytest.approx(0.3, abs=0.01)


def test_the_colour_under_zero_alpha_never_bleeds_in():
    """Colours are weighted by alpha before they are softened: a bright ground does not make a bright rim."""
    paint = layer([8.0, 8.0, 56.0, 56.0], color=(0.0, 0.0, 0.0))
    bright = Paint(torch.where(paint.alpha > 0, 0.0, 1.0).expand(-1, 3, -1, -1), paint.alpha, paint.box)
    image = torch.full((1, 3, 64, 64), 0.4)
    out = paint_over(image, bright, 1.0)
    assert out.amax() <= 0.4 + 1e-6
    torch.testing.assert_close(out, paint_over(image, paint, 1.0))


def test_each_frame_has_its_own_box():
    image = torch.zeros(2, 3, 64, 64)
    one, other = layer([0.0, 0.0, 32.0, 32.0]), layer([32.0, 32.0, 64.0, 64.0])
    both = Paint(
        *(torch.cat(pair) for pair in ((one.color, other.color), (one.alpha, other.alpha))),
        torch.cat((one.box, other.box)),
    )
    out = paint_over(image, both, 1.0)
    for index, single in enumerate((one, other)):
        assert torch.equal(out[index : index + 1], paint_over(image[:1], single, 1.0))


def test_a_box_that_overhangs_is_cut_at_the_image():
    out = paint_over(torch.zeros(1, 3, 32, 32), layer([-24.0, -24.0, 24.0, 24.0]), 1.0)
    assert out.shape == (1, 3, 32, 32)
    assert out[0, 0, 0, 0] == pytest.approx(1.0, abs=1e-5)
    assert (out[:, :, 24:] == 0).all()


# ---- added as a difference


def difference(change, alpha=1.0, side=64):
    """One frame over a 64-px image: the image under the paint is smooth and the colour differs from it by `change`."""
    beneath = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4), size=(side, side), mode="bilinear") * 0.5 + 0.2
    cover = torch.zeros(1, 1, side, side)
    cover[:, :, side // 4 : -side // 4, side // 4 : -side // 4] = alpha
    return Paint(beneath + change, cover, torch.tensor([[0.0, 0.0, 64.0, 64.0]]), beneath)


@pytest.mark.parametrize("detail", [1.0, 4.0])
def test_what_is_finer_than_the_paint_stays(detail):
    """Where the paint only brightens, each pixel of the image is brightened: none is replaced."""
    image = picture(round(64 * detail), round(64 * detail)) * 0.5
    out = paint_over(image, difference(0.2), detail)
    middle = (..., slice(round(20 * detail), round(44 * detail)), slice(round(20 * detail), round(44 * detail)))
    torch.testing.assert_close(out[middle], image[middle] + 0.2, atol=1e-5, rtol=0)


def test_over_what_is_beneath_the_difference_makes_the_colour():
    paint = difference(-0.1, alpha=0.5)
    expected = torch.lerp(paint.beneath, paint.color, paint.alpha)
    torch.testing.assert_close(paint_over(paint.beneath, paint, 1.0), expected, atol=1e-6, rtol=0)


def test_a_difference_of_none_and_one_under_zero_alpha_change_no_bit():
    image = picture()
    assert torch.equal(paint_over(image, difference(0.0), 1.0), image)
    assert torch.equal(paint_over(image, difference(0.7, alpha=0.0), 1.0), image)
    out = paint_over(image, difference(0.7), 1.0)
    assert torch.equal(out[..., :16, :], image[..., :16, :]) and not torch.equal(out, image)


def test_the_layer_of_a_difference_says_what_is_added_and_how_much_is_painted():
    paint = difference(0.25, alpha=0.5)
    layer = paint_layer(paint, 64, 64, 1.0)
    torch.testing.assert_close(layer[:, 3:], paint.alpha)
    torch.testing.assert_close(layer[:, :3], 0.25 * paint.alpha.expand(-1, 3, -1, -1))


def test_what_is_beneath_has_the_shape_of_the_colour():
    paint = difference(0.0)
    with pytest.raises(ValueError, match=r"beneath must be \[T, 3, h, w\], .*got \[1, 3, 32, 64\]"):
        Paint(paint.color, paint.alpha, paint.box, paint.beneath[:, :, :32])


def test_boxes_are_centred_on_the_extent_of_points():
    points = torch.tensor([[[10.0, 20.0], [30.0, 24.0], [12.0, 22.0]], [[0.0, 0.0], [2.0, 8.0], [1.0, 1.0]]])
    expected = torch.tensor([[12.0, 19.0, 28.0, 25.0], [-7.0, 1.0, 9.0, 7.0]])
    torch.testing.assert_close(boxes_around(points, torch.tensor([8.0, 3.0])), expected)


def test_box_points_are_the_centres_of_the_paintings_pixels():
    points = box_points(torch.tensor([10.0, 20.0, 14.0, 22.0]), 4, 8, 2)
    assert points.shape == (4, 8, 2)
    torch.testing.assert_close(points[0, 0], torch.tensor([10.25, 20.25]))
    torch.testing.assert_close(points[-1, -1], torch.tensor([13.75, 21.75]))
