import dataclasses

import pytest
import torch

from vividtalk_core.errors import MismatchError, SettingsError
from vividtalk_core.motion import edit as groups
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion

JAW, SMILE, BROW = (ARKIT_NAMES.index(name) for name in ("jawOpen", "mouthSmileLeft", "browInnerUp"))


@pytest.fixture
def expression():
    rng = torch.Generator().manual_seed(0)
    return Expression.from_rest(torch.rand(8, 52, generator=rng) * 0.5, torch.randn(8, 3, 3, generator=rng), 25.0)


@pytest.fixture
def pose():
    return HeadMotion(torch.full((8, 3), 0.1), torch.full((8, 3), 0.2), 25.0)


def tracked(expression):
    return dataclasses.replace(
        expression,
        neutral_coefficients=expression.coefficients[0],
        neutral_lip_offsets=expression.lip_offsets[0],
    )


def test_every_coefficient_is_in_one_group():
    prefixes = [prefix for group in groups.GROUPS.values() for prefix in group]
    for name in ARKIT_NAMES:
        assert sum(name.startswith(prefix) for prefix in prefixes) == 1, name


def test_scale_touches_only_its_group(expression):
    scaled = groups.scale_groups(expression, {"jaw": 0.5})
    assert torch.equal(scaled.coefficients[:, JAW], expression.coefficients[:, JAW] * 0.5)
    assert torch.equal(scaled.coefficients[:, SMILE], expression.coefficients[:, SMILE])
    assert torch.equal(scaled.lip_offsets, expression.lip_offsets)


def test_lips_carry_the_offsets_and_curves_stay_in_range(expression):
    scaled = groups.scale_groups(expression, {"lips": 5.0})
    torch.testing.assert_close(scaled.lip_offsets, expression.lip_offsets * 5)
    assert scaled.coefficients.max() == 1


def test_zero_gain_is_the_neutral(expression):
    still = groups.scale_groups(tracked(expression), dict.fromkeys(groups.GROUPS, 0.0))
    torch.testing.assert_close(still.coefficients, expression.coefficients[:1].expand(8, -1))
    torch.testing.assert_close(still.lip_offsets, expression.lip_offsets[:1].expand(8, -1, -1))


def test_unknown_group_is_named(expression):
    with pytest.raises(SettingsError, match=r"ears; there are jaw, lips"):
        groups.scale_groups(expression, {"ears": 1.0})


def test_smoothing_reduces_jitter_of_curves_and_lips(expression):
    smooth = groups.smooth_all(expression, 0.08)
    assert smooth.coefficients.diff(dim=0).abs().mean() < expression.coefficients.diff(dim=0).abs().mean() / 2
    assert smooth.lip_offsets.diff(dim=0).abs().mean() < expression.lip_offsets.diff(dim=0).abs().mean() / 2
    assert torch.equal(groups.smooth_all(expression, 0.0).coefficients, expression.coefficients)


def test_mix_ends_are_the_inputs(expression):
    other = dataclasses.replace(expression, coefficients=expression.coefficients.flip(0))
    none, full = dict.fromkeys(groups.GROUPS, 0.0), dict.fromkeys(groups.GROUPS, 1.0)
    torch.testing.assert_close(groups.mix_groups(expression, other, none).coefficients, expression.coefficients)
    torch.testing.assert_close(groups.mix_groups(expression, other, full).coefficients, other.coefficients)


def test_mix_takes_brows_from_a_tracked_clip(expression):
    clip = tracked(dataclasses.replace(expression, coefficients=expression.coefficients.sort(0).values))
    mixed = groups.mix_groups(expression, clip, {"brows": 1.0})
    assert mixed.baseline == "rest"
    motion = clip.coefficients - clip.neutral_coefficients
    torch.testing.assert_close(mixed.coefficients[:, BROW], motion[:, BROW].clamp(0, 1))
    assert torch.equal(mixed.coefficients[:, JAW], expression.coefficients[:, JAW])


def test_mix_needs_one_length_and_one_model(expression, pose):
    short = Expression.from_rest(expression.coefficients[:5], expression.lip_offsets[:5], 25.0)
    with pytest.raises(MismatchError, match="8 frames at 25 fps and 5 at 25"):
        groups.mix_groups(expression, short, {})
    wide = dataclasses.replace(expression, lip_offsets=torch.zeros(8, 7, 3), neutral_lip_offsets=torch.zeros(7, 3))
    with pytest.raises(MismatchError, match="3 and 7 vertices"):
        groups.mix_groups(expression, wide, {})
    with pytest.raises(MismatchError, match="8 frames at 25 fps and 8 at 30"):
        groups.mix_poses(pose, dataclasses.replace(pose, fps=30.0), 0.5)


def test_the_upper_face_of_another_motion(expression):
    other = tracked(Expression.from_rest(expression.coefficients.flip(0), torch.zeros(8, 0, 3), 25.0))
    both = groups.with_upper_face(expression, other)
    # the change from the tracked neutral, whatever the head model of the lips
    expected = (other.coefficients - other.neutral_coefficients).clamp(0, 1)
    for index, name in enumerate(ARKIT_NAMES):
        lower = name.startswith(("jaw", "mouth", "tongue"))
        source = expression.coefficients if lower else expected
        torch.testing.assert_close(both.coefficients[:, index], source[:, index])
    assert torch.equal(both.lip_offsets, expression.lip_offsets)
    with pytest.raises(MismatchError, match="these have 8 frames at 25 fps and 5 at 25"):
        groups.with_upper_face(expression, other.frames(slice(5)))


def test_pose_edits(pose):
    nod = groups.scale_angles(pose, pitch=1.0, yaw=0.0, roll=-1.0, shift=2.0)
    torch.testing.assert_close(nod.rotation[0], torch.tensor((0.1, 0.0, -0.1)))
    torch.testing.assert_close(nod.translation, pose.translation * 2)
    torch.testing.assert_close(groups.mix_poses(pose, nod, 0.5).rotation[0], torch.tensor((0.1, 0.05, 0.0)))
