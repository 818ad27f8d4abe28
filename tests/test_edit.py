import dataclasses

import pytest
import torch

from vividtalk_core.audio_to_mesh import edit
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadPose

JAW, SMILE, BROW = (ARKIT_NAMES.index(name) for name in ("jawOpen", "mouthSmileLeft", "browInnerUp"))


@pytest.fixture
def expression():
    rng = torch.Generator().manual_seed(0)
    return Expression(torch.rand(8, 52, generator=rng) * 0.5, torch.randn(8, 3, 3, generator=rng), 25.0)


@pytest.fixture
def pose():
    return HeadPose(torch.full((8, 3), 0.1), torch.full((8, 3), 0.2), 25.0)


def tracked(expression):
    return dataclasses.replace(
        expression,
        neutral_coefficients=expression.coefficients[0],
        neutral_lip_offsets=expression.lip_offsets[0],
    )


def test_every_coefficient_is_in_one_group():
    prefixes = [prefix for group in edit.GROUPS.values() for prefix in group]
    for name in ARKIT_NAMES:
        assert sum(name.startswith(prefix) for prefix in prefixes) == 1, name


def test_scale_touches_only_its_group(expression):
    scaled = edit.scale_expression(expression, {"jaw": 0.5})
    assert torch.equal(scaled.coefficients[:, JAW], expression.coefficients[:, JAW] * 0.5)
    assert torch.equal(scaled.coefficients[:, SMILE], expression.coefficients[:, SMILE])
    assert torch.equal(scaled.lip_offsets, expression.lip_offsets)


def test_lips_carry_the_offsets_and_curves_stay_in_range(expression):
    scaled = edit.scale_expression(expression, {"lips": 5.0})
    torch.testing.assert_close(scaled.lip_offsets, expression.lip_offsets * 5)
    assert scaled.coefficients.max() == 1


def test_zero_gain_is_the_neutral(expression):
    still = edit.scale_expression(tracked(expression), dict.fromkeys(edit.GROUPS, 0.0))
    torch.testing.assert_close(still.coefficients, expression.coefficients[:1].expand(8, -1))
    torch.testing.assert_close(still.lip_offsets, expression.lip_offsets[:1].expand(8, -1, -1))


def test_unknown_group_is_named(expression):
    with pytest.raises(ValueError, match=r"ears; there are jaw, lips"):
        edit.scale_expression(expression, {"ears": 1.0})


def test_smooth_is_a_normalised_gaussian():
    impulse = torch.zeros(21, 1)
    impulse[10] = 1
    out = edit.smooth(impulse, 2.0)[:, 0]
    torch.testing.assert_close(out.sum(), torch.tensor(1.0))
    assert out.argmax() == 10
    torch.testing.assert_close(out[8] / out[10], torch.exp(torch.tensor(-0.5)))


def test_smooth_keeps_constants_and_short_clips():
    curves = torch.ones(2, 5)
    torch.testing.assert_close(edit.smooth(curves, 4.0), curves)
    assert edit.smooth(curves, 0.0) is curves


def test_smooth_expression_and_pose_reduce_jitter(expression, pose):
    smooth = edit.smooth_expression(expression, 0.08)
    assert smooth.coefficients.diff(dim=0).abs().mean() < expression.coefficients.diff(dim=0).abs().mean() / 2
    assert smooth.lip_offsets.shape == expression.lip_offsets.shape
    torch.testing.assert_close(edit.smooth_pose(pose, 0.08).rotation, pose.rotation)


def test_mix_ends_are_the_inputs(expression):
    other = dataclasses.replace(expression, coefficients=expression.coefficients.flip(0))
    none, full = dict.fromkeys(edit.GROUPS, 0.0), dict.fromkeys(edit.GROUPS, 1.0)
    torch.testing.assert_close(edit.mix_expressions(expression, other, none).coefficients, expression.coefficients)
    torch.testing.assert_close(edit.mix_expressions(expression, other, full).coefficients, other.coefficients)


def test_mix_takes_brows_from_a_tracked_clip(expression):
    clip = tracked(dataclasses.replace(expression, coefficients=expression.coefficients.sort(0).values))
    mixed = edit.mix_expressions(expression, clip, {"brows": 1.0})
    assert mixed.neutral_coefficients is None
    motion = clip.coefficients - clip.neutral_coefficients
    torch.testing.assert_close(mixed.coefficients[:, BROW], motion[:, BROW].clamp(0, 1))
    assert torch.equal(mixed.coefficients[:, JAW], expression.coefficients[:, JAW])


def test_mix_needs_one_length_and_one_model(expression, pose):
    short = Expression(expression.coefficients[:5], expression.lip_offsets[:5], 25.0)
    with pytest.raises(ValueError, match="8 frames at 25 fps and 5 at 25"):
        edit.mix_expressions(expression, short, {})
    wide = dataclasses.replace(expression, lip_offsets=torch.zeros(8, 7, 3))
    with pytest.raises(ValueError, match="3 and 7 vertices"):
        edit.mix_expressions(expression, wide, {})
    with pytest.raises(ValueError, match="8 frames at 25 fps and 8 at 30"):
        edit.mix_poses(pose, dataclasses.replace(pose, fps=30.0), 0.5)


def test_pose_edits(pose):
    nod = edit.scale_pose(pose, yaw=0.0, roll=-1.0, shift=2.0)
    torch.testing.assert_close(nod.rotation[0], torch.tensor((0.1, 0.0, -0.1)))
    torch.testing.assert_close(nod.translation, pose.translation * 2)
    torch.testing.assert_close(edit.mix_poses(pose, nod, 0.5).rotation[0], torch.tensor((0.1, 0.05, 0.0)))
