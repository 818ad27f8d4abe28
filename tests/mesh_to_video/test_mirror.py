"""The hidden half of a turned face is filled from the other half."""

import math
from dataclasses import replace

import pytest
import torch

from vividtalk_core.geometry import pixel_centres
from vividtalk_core.head.drive import drive_mesh
from vividtalk_core.mesh_to_video.dense_motion import estimate_motion
from vividtalk_core.mesh_to_video.mirror import LEAST_TRUST, mirror_fill, mirrored_vertices
from vividtalk_core.mesh_to_video.ncc import render_ncc
from vividtalk_core.mesh_to_video.source_view import view_source
from vividtalk_core.structures import Expression, HeadMotion, HeadPose

YAW = 35.0  # degrees


@pytest.fixture(scope="module")
def turned_face(synthetic_face):
    """A portrait whose face is turned to the viewer's right."""
    pose = synthetic_face.pose
    turned = pose.rotation + torch.tensor([[0.0, math.radians(YAW), 0.0]])
    return replace(synthetic_face, pose=HeadPose(turned, pose.translation, pose.fps))


def driven(face, *yaws):
    count = len(yaws)
    lips = torch.zeros(count, len(face.model.lip_vertices), 3)
    still = Expression(torch.zeros(count, 52), lips, 25.0, torch.zeros(52), torch.zeros_like(lips[0]))
    angles = torch.tensor([[0.0, math.radians(yaw), 0.0] for yaw in yaws])
    return drive_mesh(face, still, HeadMotion(angles, torch.zeros(count, 3), 25.0))


def test_mirrored_vertices_lie_on_the_other_side(synthetic_face):
    shape = synthetic_face.model.mean_shape
    inner = shape[:, 2] > 0.5
    other = mirrored_vertices(shape, inner)
    reflected = shape * torch.tensor([-1.0, 1.0, 1.0])
    assert (shape[other] - reflected)[inner].norm(dim=-1).mean() < 0.02, "model units"
    assert torch.equal(other[~inner], torch.arange(len(shape))[~inner])


def test_a_frontal_face_has_nothing_to_fill(synthetic_face):
    view = view_source(synthetic_face)
    fill = mirror_fill(render_ncc(view, driven(synthetic_face, 20.0)))
    assert fill is None or fill.alpha.mean() < 0.01


def test_the_far_cheek_is_filled_when_it_turns_to_the_viewer(turned_face):
    view = view_source(turned_face)
    assert view.mirror.trust.amax() > LEAST_TRUST
    fill = mirror_fill(render_ncc(view, driven(turned_face, 0.0, -10.0, -YAW)))
    shares = fill.alpha.flatten(1).sum(1)
    assert shares[0] == 0, "the portrait itself"
    assert 0 <= shares[1] < shares[2] and shares[2] > 300, "px"
    # what is filled lies on the far side, and comes from the near one
    columns = pixel_centres(256, 256)[..., 0]
    alpha = fill.alpha[2, 0]
    here = (alpha * columns).sum() / alpha.sum()
    there = (alpha * (columns + fill.flow[2, ..., 0] * 128)).sum() / alpha.sum()
    nose = turned_face.model.landmark_vertices[4]
    assert here > 128 + 10, "the head is turned back to the front: the nose is in the middle"
    assert there < float(view.pixels[nose, 0].mean()) - 10


def test_the_fill_of_a_frame_does_not_depend_on_the_others(turned_face):
    view, mesh = view_source(turned_face), driven(turned_face, -10.0, -30.0)
    together = estimate_motion(render_ncc(view, mesh)).fill
    alone = estimate_motion(render_ncc(view, mesh.frames(slice(1, 2)))).fill
    for name in ("flow", "alpha", "gain"):
        assert torch.equal(getattr(together, name)[1], getattr(alone, name)[0])


def test_a_difference_of_light_is_carried_to_the_filled_side(turned_face):
    """With one half of the face darker, the hidden part of it is darker as well."""
    view = view_source(turned_face)
    columns = pixel_centres(256, 256)[..., 0]
    bridge = float(view.pixels[turned_face.model.landmark_vertices[168], 0].mean())
    grey = torch.full((1, 3, 256, 256), 0.5)
    shaded = view_source(replace(turned_face, image=grey * torch.where(columns > bridge, 0.6, 1.0)))
    even = view_source(replace(turned_face, image=grey))
    cheek = (view.mirror.trust > 0.5) & (turned_face.model.mean_shape[:, 1].abs() < 0.5)
    assert even.mirror.log_gain.abs().amax() < 1e-3
    assert shaded.mirror.log_gain[cheek].mean() < -0.2
