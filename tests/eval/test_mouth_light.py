"""The inside of an open mouth against known pictures."""

import pytest
import torch

from vividtalk_core.eval.mouth_light import mouth_light, open_mouth
from vividtalk_core.head.topology import INNER_LIPS

SIZE = 200


@pytest.fixture
def points():
    """Landmarks [478, 2] px whose mouth is open by a tenth of the picture."""
    points = torch.full((478, 2), 100.0)
    points[33], points[263] = torch.tensor([50.0, 60.0]), torch.tensor([150.0, 60.0])  # outer corners of the eyes
    points[205], points[425] = torch.tensor([60.0, 110.0]), torch.tensor([140.0, 110.0])
    angle = torch.linspace(0, 2 * torch.pi, len(INNER_LIPS) + 1)[:-1]
    points[list(INNER_LIPS)] = torch.stack((100 - 25 * angle.cos(), 150 + 12 * angle.sin()), -1)
    return points


def picture(points, cheeks=0.5, inside=0.4):
    image = torch.full((3, SIZE, SIZE), cheeks)
    mask = open_mouth(points, SIZE, SIZE)
    image[:, mask] = inside
    return image, mask


def test_closed_lips_have_no_inside(points):
    assert open_mouth(points, SIZE, SIZE).sum() > 300
    points[list(INNER_LIPS), 1] = 150
    assert open_mouth(points, SIZE, SIZE) is None


def test_the_bright_end_counts_beside_the_cheeks(points):
    image, mask = picture(points, 0.5, 0.1)
    assert mouth_light(image, points, mask).brightness == pytest.approx(0.2, abs=1e-3)
    rows = mask.nonzero()
    image[:, rows[: len(rows) // 5, 0], rows[: len(rows) // 5, 1]] = 0.6  # a row of teeth
    assert mouth_light(image, points, mask).brightness == pytest.approx(1.2, abs=1e-3)


def test_brightness_and_detail_do_not_depend_on_the_exposure(points):
    image, mask = picture(points, 0.5, 0.3)
    image[:, ::2] *= 0.8
    assert mouth_light(image * 0.5, points, mask) == pytest.approx(mouth_light(image, points, mask), rel=1e-3)


def test_detail_is_the_slope_of_the_luminance(points):
    image, mask = picture(points)
    image[:] = 0.5
    assert mouth_light(image, points, mask).detail == pytest.approx(0, abs=1e-6)
    columns = torch.arange(SIZE) * 0.002
    sloped = (0.3 + columns).expand(3, SIZE, SIZE)
    cheeks = 0.3 + 0.002 * 100
    assert mouth_light(sloped, points, mask).detail == pytest.approx(0.002 / cheeks, rel=0.02)


def test_a_cheek_outside_of_the_picture_is_left_out(points):
    points[205] = torch.tensor([-20.0, 110.0])
    image, mask = picture(points, 0.5, 0.25)
    assert mouth_light(image, points, mask).brightness == pytest.approx(0.5, abs=1e-3)
