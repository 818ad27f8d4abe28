"""Change of style: of a portrait that turns, and of a drawing that becomes a photograph."""

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.errors import MismatchError, NoFaceError
from vividtalk_core.eval.style import style_change

SIZE = 96
Y, X = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
WHERE = X**2 + Y**2 < 0.6


def smooth_picture():
    """A shaded ball with a dark mouth, as soft as a photograph."""
    light = (0.8 - 0.3 * X - 0.2 * Y - 0.4 * (X**2 + Y**2)).clamp(0, 1)
    mouth = torch.sigmoid(60 * (0.12 - ((X / 1.6) ** 2 + (Y - 0.35) ** 2).sqrt()))
    return torch.stack((light, 0.75 * light, 0.6 * light))[None] * (1 - 0.8 * mouth)


def drawn(picture):
    """Three flat tones with hard edges."""
    return (picture * 3).round() / 3


def turned(picture, degrees):
    angle = torch.tensor(degrees).deg2rad()
    matrix = torch.stack((angle.cos(), -angle.sin(), angle * 0, angle.sin(), angle.cos(), angle * 0)).view(1, 2, 3)
    grid = F.affine_grid(matrix, list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid, "bicubic", "border", align_corners=False).clamp(0, 1)


def test_the_same_picture_has_the_same_style():
    change = style_change(drawn(smooth_picture()), drawn(smooth_picture()), WHERE)
    assert (change.color_distance, change.gradient_distance) == (0, 0)
    assert (change.saturation_ratio, change.edge_ratio, change.sharpness_ratio) == (1, 1, 1)


@pytest.mark.parametrize("style", [smooth_picture, lambda: drawn(smooth_picture())], ids=["photograph", "drawing"])
def test_a_turn_keeps_the_style_and_another_rendering_does_not(style):
    picture = style()
    other = drawn(picture) if style is smooth_picture else smooth_picture()
    kept, lost = style_change(picture, turned(picture, 8.0), WHERE), style_change(picture, other, WHERE)
    assert kept.color_distance < 2 and 4 * kept.color_distance < lost.color_distance
    assert kept.gradient_distance < 0.3 and 4 * kept.gradient_distance < lost.gradient_distance
    assert kept.edge_ratio == pytest.approx(1, abs=0.25)


def test_blur_takes_lines_away():
    picture = drawn(smooth_picture())
    blurred = F.avg_pool2d(F.pad(picture, (2, 2, 2, 2), mode="replicate"), 5, 1)
    change = style_change(picture, blurred, WHERE)
    assert change.sharpness_ratio < 0.75 and change.edge_ratio < 0.2
    assert change.saturation_ratio == pytest.approx(1, abs=0.05)


def test_grey_has_no_saturation():
    picture = smooth_picture()
    grey = picture.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert style_change(picture, grey, WHERE).saturation_ratio == pytest.approx(0, abs=0.02)
    assert style_change(torch.zeros_like(grey), torch.zeros_like(grey), WHERE).edge_ratio == 1
    assert style_change(torch.zeros_like(grey), picture, WHERE).saturation_ratio > 1e3


def test_color_distance_is_in_units_of_lab():
    grey = torch.full((1, 3, SIZE, SIZE), 0.5)
    lighter = torch.full((1, 3, SIZE, SIZE), 0.6)

    def lightness(value):  # CIE: cube root of the linear value
        linear = ((value + 0.055) / 1.055) ** 2.4
        return 116 * linear ** (1 / 3) - 16

    change = style_change(grey, lighter, WHERE)
    assert change.color_distance == pytest.approx(lightness(0.6) - lightness(0.5), abs=0.05)


def test_slopes_are_in_octaves():
    ramp = (torch.arange(SIZE) / 255).expand(1, 3, SIZE, SIZE)  # 1 of 255 per px
    inner = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inner[:, 2:-2] = True
    change = style_change(ramp, 0.5 + ramp * 0, inner)  # log2(1 + 1) to log2(1 + 0)
    assert change.gradient_distance == pytest.approx(1, abs=1e-3)
    assert change.sharpness_ratio == 0


def test_the_same_part_may_lie_elsewhere():
    picture = drawn(smooth_picture())
    moved = picture.roll(20, -1)
    here = (X.abs() < 0.4) & (Y.abs() < 0.6)
    assert style_change(picture, moved, here, here.roll(20, -1)).color_distance == pytest.approx(0, abs=1e-4)
    assert style_change(picture, moved, here).color_distance > 1


def test_errors():
    picture = smooth_picture()
    with pytest.raises(MismatchError, match=r"compared at one size; got \[1, 3, 96, 96\] and \[1, 3, 48, 48\]"):
        style_change(picture, picture[..., :48, :48], WHERE)
    with pytest.raises(NoFaceError, match="it has no pixels"):
        style_change(picture, picture, WHERE & False)
