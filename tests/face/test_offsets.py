"""What the landmarks say beyond the 3DMM."""

import pytest
import torch

from vividtalk_core.face.offsets import lip_taper, offset_spread, vertex_offsets
from vividtalk_core.geometry import project, rotation_matrix
from vividtalk_core.head.morphable import landmark_positions, shape
from vividtalk_core.head.topology import INNER_LIPS, LEFT_LID_PAIRS, OUTER_LIPS, RIGHT_LID_PAIRS
from vividtalk_core.structures import ARKIT_NAMES, HeadPose


@pytest.fixture(scope="module")
def spread(head_model):
    return offset_spread(head_model)


def placed(model, vertices, pose):
    return landmark_positions(model, project(vertices @ rotation_matrix(pose.rotation).mT + pose.translation[:, None]))


def test_landmarks_land_where_they_were_detected(head_model, spread):
    """A residual as fits leave it: a mouth a little more open and wider than the model's, and a drift over the face."""
    pose = HeadPose(torch.tensor([[0.1, -0.1, 0.05]]), torch.tensor([[0.1, 0.0, 0.2]]), 25.0)
    head = head_model.mean_shape[None]
    beta = torch.zeros(52)
    for name, value in {"jawOpen": 0.06, "mouthSmileLeft": 0.1, "mouthSmileRight": 0.1, "eyeBlinkLeft": 0.2}.items():
        beta[ARKIT_NAMES.index(name)] = value
    observed = placed(head_model, shape(head_model, torch.zeros(80), beta)[None], pose)[..., :2]
    observed = observed + 0.7 * torch.sin(observed / 25 + torch.tensor([0.0, 1.0]))
    offsets = vertex_offsets(head_model, head, pose, observed, spread)
    error = (placed(head_model, head + offsets, pose)[..., :2] - observed).norm(dim=-1)[0]
    lids = [k for pair in LEFT_LID_PAIRS + RIGHT_LID_PAIRS for k in pair]
    assert error[list(INNER_LIPS + OUTER_LIPS)].max() < 0.3
    assert error[lids].max() < 0.3
    assert error[head_model.mean_shape[head_model.landmark_vertices[:, 0], 2] > 0.5].mean() < 0.1


def test_offsets_are_across_the_line_of_sight(head_model, spread):
    pose = HeadPose(torch.tensor([[0.0, 0.5, 0.0]]), torch.zeros(1, 3), 25.0)
    head = head_model.mean_shape[None]
    observed = placed(head_model, head, pose)[..., :2] + 3
    offsets = vertex_offsets(head_model, head, pose, observed, spread) @ rotation_matrix(pose.rotation).mT
    assert offsets[..., 2].abs().max() < 1e-5
    nose = head_model.landmark_vertices[4, 0]
    assert offsets[0, nose, 0] == pytest.approx(3 / 66, abs=0.006)
    assert offsets[0, nose, 1] < 0  # px count downwards


def test_no_residual_no_offsets_and_none_at_the_back(head_model, spread):
    pose = HeadPose(torch.zeros(1, 3), torch.zeros(1, 3), 25.0)
    head = head_model.mean_shape[None]
    seen = placed(head_model, head, pose)[..., :2]
    assert vertex_offsets(head_model, head, pose, seen, spread).abs().max() < 1e-5
    moved = vertex_offsets(head_model, head, pose, seen + 3, spread)[0].norm(dim=-1)
    assert moved[head_model.mean_shape[:, 2] < -0.4].max() < 1e-3


def test_frames_are_independent(head_model, spread):
    pose = HeadPose(torch.rand(3, 3, generator=torch.Generator().manual_seed(0)) * 0.2, torch.zeros(3, 3), 25.0)
    head = head_model.mean_shape.expand(3, -1, -1)
    observed = placed(head_model, head, pose)[..., :2] + torch.tensor([1.0, 2, 3])[:, None, None]
    together = vertex_offsets(head_model, head, pose, observed, spread)
    alone = HeadPose(pose.rotation[1:2], pose.translation[1:2], 25.0)
    assert torch.allclose(
        together[1], vertex_offsets(head_model, head[1:2], alone, observed[1:2], spread)[0], atol=1e-6
    )


def test_lip_taper_is_one_on_the_lips_and_zero_at_the_rim(head_model):
    taper = lip_taper(head_model)
    lips = landmark_positions(head_model, head_model.mean_shape)[list(INNER_LIPS + OUTER_LIPS)]
    distance = torch.cdist(head_model.mean_shape[head_model.lip_vertices], lips).amin(1)
    assert taper[distance < 0.4 * distance.max()].min() == 1
    assert taper[distance.argmax()] == 0


def test_far_side_is_left_alone(head_model, spread):
    """Landmarks on the far cheek follow the outline, not the head."""
    pose = HeadPose(torch.tensor([[0.0, 0.5, 0.0]]), torch.zeros(1, 3), 25.0)  # nose to the viewer's right
    head = head_model.mean_shape[None]
    observed = placed(head_model, head, pose)[..., :2]
    observed[:, [454, 323, 361]] -= 8  # the subject's left jaw, far side
    assert vertex_offsets(head_model, head, pose, observed, spread).abs().max() < 0.02
