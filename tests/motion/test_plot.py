import dataclasses

import pytest
import torch

from vividtalk_core.motion.plot import ANGLES, CURVES, LABEL, MARGIN, ROW, draw_curves
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion

FRAMES = 50


@pytest.fixture
def expression():
    return Expression.from_rest(torch.zeros(FRAMES, 52), torch.zeros(FRAMES, 0, 3), 25.0)


def curve_height(picture, row):
    """Where in its row the brightest line stands on average, 0 bottom to 1 top."""
    inside = picture[0, 2, row * ROW : (row + 1) * ROW - 1, LABEL + 2 : -MARGIN]
    y = inside.argmax(0).float().median()
    return float((ROW - MARGIN - y) / (ROW - 2 * MARGIN))


def test_one_row_per_curve(expression):
    pose = HeadMotion(torch.zeros(FRAMES, 3), torch.zeros(FRAMES, 3), 25.0)
    assert draw_curves(expression).shape == (1, 3, ROW * len(CURVES), 960)
    assert draw_curves(expression, pose, 400).shape == (1, 3, ROW * (len(CURVES) + len(ANGLES)), 400)


def test_every_name_is_a_coefficient():
    for name in CURVES:
        assert any(known.startswith(name) for known in ARKIT_NAMES), name


def test_a_curve_stands_at_its_value(expression):
    coefficients = expression.coefficients.clone()
    coefficients[:, ARKIT_NAMES.index("jawOpen")] = 0.75
    coefficients[:, ARKIT_NAMES.index("mouthSmileRight")] = 1.0
    picture = draw_curves(dataclasses.replace(expression, coefficients=coefficients))
    assert abs(curve_height(picture, CURVES.index("jawOpen")) - 0.75) < 0.05
    assert abs(curve_height(picture, CURVES.index("mouthSmile")) - 1.0) < 0.05
    assert abs(curve_height(picture, CURVES.index("browInnerUp"))) < 0.05


def test_one_frame_can_be_drawn():
    single = Expression.from_rest(torch.ones(1, 52), torch.zeros(1, 0, 3), 25.0)
    assert draw_curves(single, HeadMotion(torch.zeros(1, 3), torch.zeros(1, 3), 25.0)).amax() > 0.5
