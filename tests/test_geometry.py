import math

import pytest
import torch

from vividtalk_core.geometry import (
    CAMERA_DISTANCE,
    identity_grid,
    pixel_centres,
    project,
    rotation_angles,
    rotation_matrix,
    unproject,
    warp,
)

NOSE = torch.tensor([0.0, 0.0, 1.0])


def degrees(pitch, yaw, roll):
    return torch.tensor([pitch, yaw, roll]) * math.pi / 180


def test_positive_pitch_nods_down():
    assert (rotation_matrix(degrees(30.0, 0.0, 0.0)) @ NOSE)[1] < 0


def test_positive_yaw_turns_the_nose_to_the_viewers_right():
    assert (rotation_matrix(degrees(0.0, 30.0, 0.0)) @ NOSE)[0] > 0


def test_positive_roll_is_counter_clockwise():
    crown = rotation_matrix(degrees(0.0, 0.0, 30.0)) @ torch.tensor([0.0, 1.0, 0.0])
    assert crown[0] < 0


def test_rotation_order_is_yaw_pitch_roll():
    angles = degrees(10.0, 20.0, 30.0)
    ones = torch.eye(3)
    pitch, yaw, roll = (rotation_matrix(angles * ones[i]) for i in range(3))
    torch.testing.assert_close(rotation_matrix(angles), yaw @ pitch @ roll)


def test_rotation_angles_inverts_rotation_matrix():
    angles = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(rotation_angles(rotation_matrix(angles)), angles, atol=1e-5, rtol=0)


def test_the_origin_projects_to_the_middle_and_up_is_a_smaller_y():
    torch.testing.assert_close(project(torch.zeros(3)), torch.tensor([128.0, 128.0, CAMERA_DISTANCE]))
    assert project(torch.tensor([0.0, 0.5, 0.0]))[1] < 128
    assert project(NOSE)[2] < CAMERA_DISTANCE


def test_unproject_inverts_project():
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(unproject(project(points)), points, atol=1e-5, rtol=0)


def test_pixel_centres_are_at_half():
    assert pixel_centres(2, 3)[1, 2].tolist() == [2.5, 1.5]
    torch.testing.assert_close(identity_grid(1, 4)[0, :, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 9), (64, 64), (256, 256), (333, 512)])
def test_the_identity_warp_returns_the_image(size, mode):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    assert (warp(image, torch.zeros(1, *size, 2), mode) - image).abs().max() < 1e-4


def test_flow_of_one_pixel_shifts_by_one_pixel():
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(1, 8, 8, 2)
    flow[..., 0] = 2 / 8
    torch.testing.assert_close(warp(image, flow)[..., :-1], image[..., 1:], atol=1e-5, rtol=0)
