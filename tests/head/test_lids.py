"""Lids that close on the portrait's own eyes."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.head.drive import drive_mesh, head_shape
from vividtalk_core.head.lids import OVERLAP, _column_weights, lid_closure
from vividtalk_core.head.morphable import landmark_positions
from vividtalk_core.head.topology import LEFT_BROW_LOWER, LEFT_LID_PAIRS, RIGHT_BROW_LOWER, RIGHT_LID_PAIRS
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion

LIDS = {"eyeBlinkLeft": (LEFT_LID_PAIRS, LEFT_BROW_LOWER), "eyeBlinkRight": (RIGHT_LID_PAIRS, RIGHT_BROW_LOWER)}


def blinking(face, **coefficients):
    own = torch.zeros(52)
    for name, value in coefficients.items():
        own[ARKIT_NAMES.index(name)] = value
    return replace(face, exp_coefficients=own)


def gap(face, vertices, pairs):
    """[7] how far the upper lid lies above the lower one, model units."""
    points = landmark_positions(face.model, vertices)
    upper, lower = zip(*pairs, strict=True)
    return points[list(upper), 1] - points[list(lower), 1]


@pytest.fixture(scope="module")
def closure(synthetic_face):
    return {name: (field, opened) for name, field, opened in lid_closure(synthetic_face)}


def test_both_open_eyes_can_close(closure):
    assert list(closure) == ["eyeBlinkLeft", "eyeBlinkRight"]
    assert [opened for _, opened in closure.values()] == [1.0, 1.0]


@pytest.mark.parametrize("name", LIDS)
def test_the_lids_meet_in_the_middle_of_the_eye(synthetic_face, closure, name):
    head = head_shape(synthetic_face)
    before, after = (gap(synthetic_face, head + shift, LIDS[name][0])[2:5] for shift in (0, closure[name][0]))
    assert (after < 0.05 * before).all()  # no slit of white
    assert (after > -2 * OVERLAP * before).all()  # and hardly past each other


@pytest.mark.parametrize(("name", "other"), [("eyeBlinkLeft", "eyeBlinkRight"), ("eyeBlinkRight", "eyeBlinkLeft")])
def test_the_other_eye_and_the_mouth_stay(synthetic_face, closure, name, other):
    points = landmark_positions(synthetic_face.model, closure[name][0])
    still = [index for pair in LIDS[other][0] for index in pair] + [0, 13, 14, 17, 152]
    assert points[still].abs().amax() < 2e-3


@pytest.mark.parametrize("name", LIDS)
def test_the_upper_lid_does_most_of_the_way_and_the_brow_none(synthetic_face, closure, name):
    pairs, brow = LIDS[name]
    moved = landmark_positions(synthetic_face.model, closure[name][0])[:, 1]
    upper, lower = (moved[list(side)][2:5] for side in zip(*pairs, strict=True))
    assert (upper < 0).all()
    assert (lower >= 0).all()
    assert (upper.abs() > 4 * lower.abs()).all()
    assert moved[list(brow)].abs().amax() < 0.35 * upper.abs().amin()


def test_an_opened_share_is_what_the_portrait_has_left(synthetic_face):
    half = blinking(synthetic_face, eyeBlinkLeft=0.4)
    opened = {name: share for name, _, share in lid_closure(half)}
    assert opened == pytest.approx({"eyeBlinkLeft": 0.6, "eyeBlinkRight": 1.0})


def test_a_half_closed_eye_has_half_the_way(synthetic_face, closure):
    half = blinking(synthetic_face, eyeBlinkLeft=0.5)
    field = next(field for name, field, _ in lid_closure(half) if name == "eyeBlinkLeft")
    upper = [pair[0] for pair in LEFT_LID_PAIRS[2:5]]
    whole = landmark_positions(synthetic_face.model, closure["eyeBlinkLeft"][0])[upper, 1].mean()
    rest = landmark_positions(synthetic_face.model, field)[upper, 1].mean()
    assert 0.3 < rest / whole < 0.75


@pytest.mark.parametrize(("value", "eyes"), [(0.84, 2), (0.86, 1), (1.0, 1)])
def test_from_a_point_on_an_eye_counts_as_closed(synthetic_face, value, eyes):
    assert len(list(lid_closure(blinking(synthetic_face, eyeBlinkRight=value)))) == eyes


def test_a_blink_closes_halfway_at_half(synthetic_face):
    coefficients = torch.zeros(3, 52)
    coefficients[:, ARKIT_NAMES.index("eyeBlinkLeft")] = torch.tensor([0.0, 0.5, 1.0])
    lips = torch.zeros(3, len(synthetic_face.model.lip_vertices), 3)
    mesh = drive_mesh(
        synthetic_face,
        Expression.from_rest(coefficients, lips, 25.0),
        HeadMotion(torch.zeros(3, 3), torch.zeros(3, 3), 25.0),
    )
    opened, half, closed = (gap(synthetic_face, vertices, LEFT_LID_PAIRS) for vertices in mesh.vertices)
    torch.testing.assert_close(half, (opened + closed) / 2, atol=1e-5, rtol=0)


def test_column_weights_are_linear_interpolation():
    columns = torch.tensor([3.0, 1.0, 2.0])  # any order
    weights = _column_weights(torch.tensor([0.0, 1.0, 1.25, 2.5, 9.0]), columns)
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    torch.testing.assert_close(weights @ columns, torch.tensor([1.0, 1.0, 1.25, 2.5, 3.0]))
    assert (weights >= 0).all()
