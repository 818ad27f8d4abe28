import pytest
import torch

from vividtalk_core.geometry import rotation_matrix
from vividtalk_core.head.morphable import landmark_positions, shape
from vividtalk_core.head.upper_face import (
    BROW_DOWN,
    INNER_UP,
    OUTER_AT_INNER,
    OUTER_UP,
    SQUINT,
    upper_face_coefficients,
    upper_face_of_coefficients,
    upper_face_of_landmarks,
)
from vividtalk_core.structures import ARKIT_NAMES


def coefficients(**values):
    """[1, 52] by names without their side."""
    row = torch.zeros(1, 52)
    for index, name in enumerate(ARKIT_NAMES):
        row[0, index] = values.get(name.removesuffix("Left").removesuffix("Right"), 0.0)
    return row


def effect(head_model, **values):
    return upper_face_of_coefficients(coefficients(**values), head_model)[0].tolist()


def test_the_constants_are_those_of_the_head_model(head_model):
    height, _, _ = effect(head_model, browDown=1.0)
    assert height == pytest.approx(-BROW_DOWN, abs=0.002)
    height, inner, _ = effect(head_model, browInnerUp=1.0)
    assert inner == pytest.approx(INNER_UP, abs=0.002)
    assert height == pytest.approx(INNER_UP / 2, abs=0.002)
    height, inner, _ = effect(head_model, browOuterUp=1.0)
    assert inner == pytest.approx(OUTER_AT_INNER - OUTER_UP, abs=0.002)
    assert height == pytest.approx((OUTER_AT_INNER + OUTER_UP) / 2, abs=0.002)
    assert effect(head_model, eyeSquint=1.0, cheekSquint=0.5)[2] == pytest.approx(SQUINT, abs=0.002)
    assert effect(head_model, eyeBlink=1.0, eyeLookDown=1.0, jawOpen=1.0, mouthClose=1.0) == pytest.approx(
        [0, 0, 0], abs=1e-3
    )


def test_coefficients_move_the_head_by_the_curves(head_model):
    generator = torch.Generator().manual_seed(0)
    curves = (torch.rand(300, 3, generator=generator) - 0.5) * torch.tensor([0.08, 0.02, 0.06])
    moved = upper_face_of_coefficients(upper_face_coefficients(curves), head_model)
    torch.testing.assert_close(moved[:, 0], curves[:, 0], atol=0.007, rtol=0)
    raised = curves[:, 0] > 0.01  # lowered brows move as a whole
    torch.testing.assert_close(moved[raised, 1], curves[raised, 1], atol=0.005, rtol=0)
    squinting = curves[:, 2] > 0
    assert torch.corrcoef(torch.stack((moved[squinting, 2], curves[squinting, 2])))[0, 1] > 0.9
    assert not upper_face_coefficients(torch.zeros(2, 3)).any()
    assert upper_face_coefficients(torch.full((1, 3), 9.0)).max() == 1


def test_head_pose_blinks_and_gaze_are_not_counted(head_model):
    frames = 40
    ramp = torch.linspace(0, 1, frames)
    motion = ramp[:, None] * coefficients(browInnerUp=0.5, browOuterUp=0.5)
    motion = motion + ramp.flip(0)[:, None] * coefficients(eyeBlink=0.6, eyeLookUp=0.5)
    angles = torch.stack((0.15 * torch.sin(9 * ramp), 0.2 * torch.sin(7 * ramp), 0.1 * torch.sin(5 * ramp)), 1)
    identity = torch.randn(80, generator=torch.Generator().manual_seed(1)) * 0.5
    points = landmark_positions(head_model, shape(head_model, identity, motion)) @ rotation_matrix(angles).mT
    pixels = 300 + 150 * points[..., :2] * torch.tensor([1.0, -1.0])
    curves = upper_face_of_landmarks(pixels, angles, motion, identity, head_model)
    expected = upper_face_of_coefficients(motion, head_model)
    expected = expected - expected.median(0).values
    torch.testing.assert_close(curves[:, :2], expected[:, :2], atol=0.0025, rtol=0)
    assert curves[:, 2].abs().max() < 0.003
