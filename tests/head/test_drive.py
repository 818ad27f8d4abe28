import math
from dataclasses import replace

import pytest
import torch

from vividtalk_core.errors import MismatchError
from vividtalk_core.head.drive import drive_mesh, face_mesh, head_shape
from vividtalk_core.head.lids import lid_closure
from vividtalk_core.head.morphable import landmark_positions
from vividtalk_core.head.topology import INNER_LIP_PAIRS, LEFT_LID_PAIRS, RIGHT_LID_PAIRS
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion


def motion(face, frames=2, neutral=False, **curves):
    coefficients = torch.zeros(frames, 52)
    for name, value in curves.items():
        coefficients[-1, ARKIT_NAMES.index(name)] = value
    lips = torch.zeros(frames, len(face.model.lip_vertices), 3)
    still = HeadMotion(torch.zeros(frames, 3), torch.zeros(frames, 3), 25.0)
    return Expression(
        coefficients, lips, 25.0, torch.zeros(52), torch.zeros_like(lips[0]), "portrait" if neutral else "rest"
    ), still


def gaps(face, vertices, pairs):
    points = landmark_positions(face.model, vertices)
    upper, lower = zip(*pairs, strict=True)
    return points[..., list(upper), 1] - points[..., list(lower), 1]


def smiling(face):
    own = torch.zeros(52)
    own[ARKIT_NAMES.index("jawOpen")] = 0.3
    own[ARKIT_NAMES.index("mouthSmileLeft")] = 0.5
    return replace(face, exp_coefficients=own)


def test_no_motion_gives_the_portraits_own_mesh(synthetic_face):
    face = smiling(synthetic_face)
    expression, pose = motion(face, neutral=True)
    constant = replace(expression, coefficients=torch.full((2, 52), 0.4), neutral_coefficients=torch.full((52,), 0.4))
    for still in (expression, constant):
        driven = drive_mesh(face, still, pose).vertices
        torch.testing.assert_close(driven, face_mesh(face).vertices.expand(2, -1, -1), atol=1e-6, rtol=0)


def test_rest_closes_a_mouth_that_the_portrait_shows_open(synthetic_face):
    face = smiling(synthetic_face)
    assert gaps(face, head_shape(face), INNER_LIP_PAIRS).amax() > 0.05
    driven = drive_mesh(face, *motion(face)).vertices[0]
    assert gaps(face, driven, INNER_LIP_PAIRS).abs().amax() < 0.03


def test_jaw_open_lowers_the_chin_and_not_the_brow(synthetic_face):
    driven = drive_mesh(synthetic_face, *motion(synthetic_face, jawOpen=0.5)).vertices
    points = landmark_positions(synthetic_face.model, driven)
    moved = (points[1] - points[0])[:, 1]
    assert moved[152] < -0.05
    assert moved[9].abs() < 0.01


@pytest.mark.parametrize(
    ("name", "pairs", "other"),
    [("eyeBlinkLeft", LEFT_LID_PAIRS, RIGHT_LID_PAIRS), ("eyeBlinkRight", RIGHT_LID_PAIRS, LEFT_LID_PAIRS)],
)
def test_a_blink_closes_its_own_eye_on_the_portraits_lids(synthetic_face, name, pairs, other):
    driven = drive_mesh(synthetic_face, *motion(synthetic_face, **{name: 1.0})).vertices
    opened, closed = gaps(synthetic_face, driven, pairs)
    assert opened[2:5].amin() > 0.03
    assert (closed[2:5] / opened[2:5]).abs().amax() < 0.15
    torch.testing.assert_close(*gaps(synthetic_face, driven, other), atol=2e-3, rtol=0)


def test_an_eye_that_is_closed_already_stays_as_it_is(synthetic_face):
    own = torch.zeros(52)
    own[ARKIT_NAMES.index("eyeBlinkLeft")] = 1.0
    face = replace(synthetic_face, exp_coefficients=own)
    assert [name for name, _, _ in lid_closure(face)] == ["eyeBlinkRight"]


def test_the_pose_turns_the_skull_and_leaves_the_collar(synthetic_face):
    expression, pose = motion(synthetic_face, neutral=True)
    pose.rotation[1, 1] = math.radians(10)
    first, second = drive_mesh(synthetic_face, expression, pose).vertices
    model = synthetic_face.model
    nose = landmark_positions(model, second)[4] - landmark_positions(model, first)[4]
    assert nose[0] > 0.1
    collar = model.pose_weight == 0
    torch.testing.assert_close(first[collar], second[collar])


def test_lip_offsets_move_only_the_lips(synthetic_face):
    expression, pose = motion(synthetic_face, neutral=True)
    expression.lip_offsets[1] = 0.02
    first, second = drive_mesh(synthetic_face, expression, pose).vertices
    moved = ((second - first).norm(dim=-1) > 1e-6).nonzero()[:, 0]
    assert torch.equal(moved, synthetic_face.model.lip_vertices.sort().values)


def test_mismatches_are_named(synthetic_face):
    expression, pose = motion(synthetic_face)
    with pytest.raises(MismatchError, match="2 frames and the head pose 3"):
        drive_mesh(synthetic_face, expression, HeadMotion(torch.zeros(3, 3), torch.zeros(3, 3), 25.0))
    with pytest.raises(MismatchError, match="25 fps and the head pose 30"):
        drive_mesh(synthetic_face, expression, replace(pose, fps=30.0))
    with pytest.raises(MismatchError, match="lip offsets are for 5 vertices"):
        drive_mesh(
            synthetic_face,
            replace(expression, lip_offsets=torch.zeros(2, 5, 3), neutral_lip_offsets=torch.zeros(5, 3)),
            pose,
        )
