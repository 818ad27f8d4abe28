import math

import pytest
import torch

from vividtalk_core.head.morphable import vertices_of
from vividtalk_core.motion.gaze import PITCH_OF_1, YAW_OF_1, add_gaze, gaze_shifts, hold_gaze
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion


def still(frames):
    return Expression.from_rest(torch.zeros(frames, 52), torch.zeros(frames, 2, 3), 25.0)


def column(coefficients, name):
    return coefficients[:, ARKIT_NAMES.index(name)]


def test_directions_add_up_and_each_eye_looks_one_way():
    coefficients = torch.zeros(3, 52)
    for name in ("eyeLookOutLeft", "eyeLookInRight"):
        coefficients[:, ARKIT_NAMES.index(name)] = 0.2
    turned = add_gaze(coefficients, torch.tensor([[0.1, 0.3], [-0.5, 0.0], [-0.2, -0.1]]))
    assert column(turned, "eyeLookOutLeft").tolist() == pytest.approx([0.3, 0.0, 0.0], abs=1e-6)
    assert column(turned, "eyeLookOutRight").tolist() == pytest.approx([0.0, 0.3, 0.0], abs=1e-6)
    assert column(turned, "eyeLookUpLeft").tolist() == pytest.approx([0.3, 0.0, 0.0])
    assert column(turned, "eyeLookDownRight").tolist() == pytest.approx([0.0, 0.0, 0.1])
    others = [i for i, name in enumerate(ARKIT_NAMES) if not name.startswith("eyeLook")]
    assert torch.equal(turned[:, others], coefficients[:, others])


def direction(model, coefficients):
    """Yaw and pitch in rad by which the left eyeball of the mean head turns, for coefficients [52]."""
    ball = vertices_of(model, "left_eye")
    rest = model.mean_shape[ball]
    moved = rest + torch.tensordot(coefficients, model.exp_basis[:, ball], 1)
    u, _, v = torch.linalg.svd((moved - moved.mean(0)).T @ (rest - rest.mean(0)))
    turn = u @ v
    return math.asin(turn[0, 2]), math.asin(-turn[1, 2])


def test_the_angles_are_those_of_the_head_model(head_model):
    for gaze, expected in (((1.0, 0.0), (YAW_OF_1, 0.0)), ((0.0, 1.0), (0.0, -PITCH_OF_1))):
        turned = add_gaze(torch.zeros(1, 52), torch.tensor([gaze]))[0]
        assert direction(head_model, turned) == pytest.approx(expected, abs=0.015)


def test_eyes_turn_against_the_head(head_model):
    rotation = torch.tensor([[0.0, 0.1, 0.0], [0.1, 0.0, 0.0]])  # to the viewer's right, then down
    held = hold_gaze(still(2), HeadMotion(rotation, torch.zeros(2, 3), 25.0)).coefficients
    yaw, pitch = zip(*(direction(head_model, row) for row in held), strict=True)
    # rotation_matrix: yaw moves the nose, +z, to +x; pitch moves it to −y
    assert yaw == pytest.approx((-0.05, 0.0), abs=0.01)
    assert pitch == pytest.approx((0.0, -0.05), abs=0.01)


def test_shifts_are_where_the_eyes_turn_fastest():
    yaw = 0.15 * torch.tanh((torch.arange(100) - 50) / 4)
    rotation = torch.stack((torch.zeros(100), yaw, torch.zeros(100)), 1)
    held = hold_gaze(still(100), HeadMotion(rotation, torch.zeros(100, 3), 25.0))
    assert gaze_shifts(held, 0.7) == [pytest.approx(2.02, abs=0.04)]
    assert gaze_shifts(held, 7.0) == []
    assert gaze_shifts(still(100), 0.7) == []
    assert gaze_shifts(still(1), 0.7) == gaze_shifts(still(0), 0.7) == []
