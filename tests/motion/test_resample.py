import dataclasses

import pytest
import torch

from vividtalk_core.motion import resample as edit
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion

JAW = ARKIT_NAMES.index("jawOpen")


@pytest.fixture
def expression():
    rng = torch.Generator().manual_seed(0)
    return Expression.from_rest(torch.rand(10, 52, generator=rng) * 0.4, torch.randn(10, 2, 3, generator=rng), 25.0)


def test_columns_by_name_and_pattern():
    assert edit.columns(["jawOpen"]).tolist() == [JAW]
    assert {ARKIT_NAMES[i] for i in edit.columns(["eyeBlink*", "mouthLeft"]).tolist()} == {
        "eyeBlinkLeft",
        "eyeBlinkRight",
        "mouthLeft",
    }
    assert len(edit.columns(edit.ALL)) == 52
    with pytest.raises(ValueError, match="no blendshape is called JawOpen, x"):
        edit.columns(["JawOpen", "x*", "jawOpen"])
    with pytest.raises(ValueError, match=r"called \(nothing\)"):
        edit.columns([])


def test_scale_offset_clip_touch_only_what_is_named(expression):
    others = [i for i in range(52) if i != JAW]
    jaw = expression.coefficients[:, JAW]
    for result, expected in (
        (edit.scale(expression, 2.0, ["jawOpen"]), jaw * 2),
        (edit.scale(expression, 9.0, ["jawOpen"]), (jaw * 9).clamp(max=1)),
        (edit.offset(expression, -0.1, ["jawOpen"]), (jaw - 0.1).clamp(min=0)),
        (edit.clip(expression, 0.1, 0.2, ["jawOpen"]), jaw.clamp(0.1, 0.2)),
    ):
        torch.testing.assert_close(result.coefficients[:, JAW], expected)
        assert torch.equal(result.coefficients[:, others], expression.coefficients[:, others])
        assert torch.equal(result.lip_offsets, expression.lip_offsets)
    with pytest.raises(ValueError, match=r"0 ≤ low ≤ high ≤ 1; got 0\.5 and 0\.2"):
        edit.clip(expression, 0.5, 0.2)


def test_scale_is_about_the_neutral(expression):
    tracked = dataclasses.replace(expression, neutral_coefficients=expression.coefficients[0])
    still = edit.scale(tracked, 0.0)
    torch.testing.assert_close(still.coefficients, expression.coefficients[:1].expand(10, -1))


def test_smooth(expression):
    impulse = dataclasses.replace(expression, coefficients=torch.zeros(41, 52), lip_offsets=torch.zeros(41, 2, 3))
    impulse.coefficients[20, JAW] = 1
    out = edit.smooth(impulse, 0.08).coefficients[:, JAW]  # 2 frames
    torch.testing.assert_close(out.sum(), torch.tensor(1.0))
    torch.testing.assert_close(out[22] / out[20], torch.exp(torch.tensor(-0.5)))
    assert torch.equal(edit.smooth(expression, 0.0).coefficients, expression.coefficients)
    with pytest.raises(ValueError, match="0 s or more"):
        edit.smooth(expression, -0.1)


def test_retime_keeps_time(expression):
    line = torch.linspace(0, 0.9, 10)[:, None].expand(-1, 52)
    same = edit.retime(dataclasses.replace(expression, coefficients=line.contiguous()), 25.0)
    torch.testing.assert_close(same.coefficients, line)
    torch.testing.assert_close(same.lip_offsets, expression.lip_offsets)
    double = edit.retime(dataclasses.replace(expression, coefficients=line.contiguous()), 50.0)
    assert double.coefficients.shape == (20, 52)
    assert double.lip_offsets.shape == (20, 2, 3)
    torch.testing.assert_close(double.coefficients[1:-1:2, 0], line[:-1, 0] + 0.025)  # centres at ¼ and ¾ of a frame
    with pytest.raises(ValueError, match="0 frames"):
        edit.frame_positions(0, 25.0, 25.0)


def test_pose_edits():
    line = torch.linspace(0, 0.9, 10)[:, None].expand(-1, 3)
    pose = HeadMotion(line.contiguous(), 2 * line, 25.0)
    torch.testing.assert_close(edit.smooth_pose(pose, 0.04).rotation[4:6], line[4:6])
    slow = edit.retime_pose(pose, 12.5)
    assert (slow.fps, len(slow.rotation)) == (12.5, 5)
    torch.testing.assert_close(slow.rotation[:, 0], torch.tensor([0.05, 0.25, 0.45, 0.65, 0.85]))
