import math

import pytest
import torch

from vividtalk_core.eval.upper_face import blink_frames, brow_follows_loudness, gaze_directions, upper_face_metrics
from vividtalk_core.motion.blink import BlinkSettings, add_blinks, blink_times
from vividtalk_core.motion.gaze import add_gaze
from vividtalk_core.structures import Expression, HeadMotion

FRAMES = 1500


def waves(*hertz):
    time_s = torch.arange(FRAMES) / 25
    return torch.stack([torch.sin(2 * math.pi * h * time_s) for h in hertz], 1)


def test_blinks_are_counted():
    still = Expression.from_rest(torch.full((FRAMES, 52), 0.1), torch.zeros(FRAMES, 2, 3), 25.0)
    blinks = blink_times(59.5, 3, BlinkSettings(double_share=0.0))
    found = blink_frames(add_blinks(still, 3, BlinkSettings(double_share=0.0)).coefficients, 25.0)
    assert [frame / 25 for frame in found] == pytest.approx(blinks, abs=0.06)
    assert blink_frames(still.coefficients, 25.0) == blink_frames(torch.zeros(1, 52), 25.0) == []


def test_gaze_is_the_mean_of_both_eyes():
    gaze = 0.3 * waves(0.3, 0.5)
    torch.testing.assert_close(gaze_directions(add_gaze(torch.zeros(FRAMES, 52), gaze)), gaze)


def test_brows_that_rise_with_the_voice():
    brows = waves(0.5, 0.4, 0.3)
    mel = (-8 + 3 * torch.sin(2 * math.pi * 0.5 * (torch.arange(4 * FRAMES) + 0.5) / 100))[:, None].expand(-1, 80)
    assert brow_follows_loudness(brows, 25.0, mel) > 0.95
    assert brow_follows_loudness(-brows, 25.0, mel) < -0.95
    assert brow_follows_loudness(torch.zeros(FRAMES, 3), 25.0, mel) == 0


def test_metrics_by_name():
    turn = torch.cat((0.1 * waves(0.2, 0.3), torch.zeros(FRAMES, 1)), 1)
    curves, gaze = waves(0.2, 0.5, 0.7) * torch.tensor([-0.02, 0.01, 0.005]), 0.2 * waves(0.3, 0.1)
    eyes = add_gaze(torch.zeros(FRAMES, 52), -gaze)
    pose = HeadMotion(turn, torch.zeros(FRAMES, 3), 25.0)
    metrics = upper_face_metrics(curves, eyes, pose, torch.zeros(4 * FRAMES, 80))
    deviations = [metrics[name] for name in ("brow_std_iod", "inner_brow_std_iod", "lower_lid_std_iod")]
    assert deviations == pytest.approx([0.02 / math.sqrt(2), 0.01 / math.sqrt(2), 0.005 / math.sqrt(2)], rel=1e-3)
    assert metrics["brow_with_pitch"] == pytest.approx(-1)
    assert metrics["gaze_with_yaw"] == pytest.approx(-1)
    assert metrics["gaze_up_std"] == pytest.approx(0.2 / math.sqrt(2), rel=1e-3)
    assert metrics["blinks_per_minute"] == metrics["brow_follows_loudness"] == 0
