import pytest
import torch

from vividtalk_core.errors import MismatchError
from vividtalk_core.motion.resample import frame_positions, retime_pose, smooth_pose
from vividtalk_core.structures import HeadMotion, HeadPose


@pytest.fixture
def line():
    """Rows [10, 3] that rise by 0.1 a frame."""
    return torch.linspace(0, 0.9, 10)[:, None].expand(-1, 3).contiguous()


def test_another_rate_keeps_time(line):
    pose = HeadMotion(line, 2 * line, 25.0)
    same = retime_pose(pose, 25.0)
    torch.testing.assert_close((same.rotation, same.translation), (line, 2 * line))
    double = retime_pose(pose, 50.0)
    assert double.frame_count == 20
    torch.testing.assert_close(double.rotation[1:-1:2], line[:-1] + 0.025)  # centres at ¼ and ¾ of a frame
    slow = retime_pose(pose, 12.5)
    assert (slow.fps, slow.frame_count) == (12.5, 5)
    torch.testing.assert_close(slow.rotation[:, 0], torch.tensor([0.05, 0.25, 0.45, 0.65, 0.85]))
    assert retime_pose(pose, 50.0, 7).frame_count == 7


def test_a_curve_without_frames_cannot_be_resampled():
    with pytest.raises(MismatchError, match="0 frames"):
        frame_positions(0, 25.0, 25.0)


def test_the_kind_of_head_pose_stays(line):
    for kind in (HeadPose, HeadMotion):
        pose = kind(line, line, 25.0)
        assert type(smooth_pose(pose, 0.04)) is kind
        assert type(retime_pose(pose, 30.0)) is kind
        torch.testing.assert_close(smooth_pose(pose, 0.04).rotation[4:6], line[4:6])
