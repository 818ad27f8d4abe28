"""The parts of dense motion against values computed by hand: the card, the spread."""

import math

import pytest
import torch

from vividtalk_core.geometry import CAMERA_DISTANCE, FOCAL_LENGTH, pixel_centres, project, rotation_matrix
from vividtalk_core.head.drive import drive_mesh
from vividtalk_core.mesh_to_video.dense_motion import STILL_PX, _card_motion, _spread, estimate_motion
from vividtalk_core.mesh_to_video.motion_vae import MotionVae, MotionVaeConfig
from vividtalk_core.mesh_to_video.ncc import render_ncc
from vividtalk_core.mesh_to_video.source_view import view_source
from vividtalk_core.structures import CROP, Expression, HeadMotion, MeshSequence


@pytest.fixture(scope="module")
def view(synthetic_face):
    return view_source(synthetic_face)


def moved(face, rotation=(0.0, 0.0, 0.0), translation=(0.0, 0.0, 0.0)):
    """One frame of head motion, no expression."""
    lips = torch.zeros(1, len(face.model.lip_vertices), 3)
    pose = HeadMotion(torch.tensor([rotation]), torch.tensor([translation]), 25.0)
    return drive_mesh(
        face, Expression(torch.zeros(1, 52), lips, 25.0, torch.zeros(52), torch.zeros_like(lips[0])), pose
    )


def motion_of(face, view, mesh):
    return estimate_motion(render_ncc(view, mesh))


def nose_pixel(face):
    x, y = face.landmarks[4, :2].long().tolist()
    return y, x


def card(view, rotation, translation):
    """The card's motion when every vertex moves rigidly in camera space."""
    source = view.mesh.vertices[0]
    return _card_motion(view, source @ rotation.T + translation)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.0, 0.2, 0.0), (0.05, -0.1, 0.15)])
def test_card_motion_is_the_rigid_motion_of_its_plane(view, angles):
    """Points of the plane through the middle of the head: their driven pixel leads back to their own."""
    rotation, shift = rotation_matrix(torch.tensor(angles)), torch.tensor([0.1, -0.05, 0.2])
    flow = card(view, rotation, shift)
    depth = view.mesh.vertices[0, view.regions.rigid, 2].mean()
    across = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    points = torch.cat((across, depth.expand(50, 1)), 1)
    here, there = project(points)[:, :2], project(points @ rotation.T + shift)[:, :2]
    at = (there * 2 / CROP - 1)[None, None]
    read = torch.nn.functional.grid_sample(flow.movedim(-1, 0)[None], at, align_corners=False)[0, :, 0].T
    torch.testing.assert_close(read, here - there, atol=0.05, rtol=0)  # px; the field is held at a quarter


def test_a_still_card_does_not_move(view):
    assert card(view, torch.eye(3), torch.zeros(3)).abs().amax() < 1e-3


def test_a_head_that_rolls_turns_the_card_about_the_axis(view):
    angle = math.radians(8)
    flow = card(view, rotation_matrix(torch.tensor([0.0, 0.0, angle])), torch.zeros(3))
    offset = pixel_centres(CROP, CROP) - CROP / 2
    cosine, sine = math.cos(angle), math.sin(angle)
    # counter-clockwise for the viewer, px y down: backwards it turns clockwise
    back = torch.stack(
        (cosine * offset[..., 0] - sine * offset[..., 1], sine * offset[..., 0] + cosine * offset[..., 1]), -1
    )
    inner = slice(8, -8)
    torch.testing.assert_close(flow[inner, inner], (back - offset)[inner, inner], atol=0.02, rtol=0)


@pytest.mark.parametrize("shift", [(0.1, 0.0), (0.0, 0.1), (-0.06, 0.05)])
def test_a_shifted_head_shifts_its_pixels(synthetic_face, view, shift):
    flow = motion_of(synthetic_face, view, moved(synthetic_face, translation=(*shift, 0.0))).flow[0] * (CROP / 2)
    y, x = nose_pixel(synthetic_face)
    nose = synthetic_face.model.mean_shape[synthetic_face.model.landmark_vertices[4], 2].mean()
    scale = FOCAL_LENGTH / (CAMERA_DISTANCE - float(nose))  # px per model unit at the nose
    expected = torch.tensor([-shift[0] * scale, shift[1] * scale])
    torch.testing.assert_close(flow[y, x], expected, atol=0.25, rtol=0.05)


def test_a_rolled_head_turns_its_pixels(synthetic_face, view):
    angle = math.radians(5)
    flow = motion_of(synthetic_face, view, moved(synthetic_face, rotation=(0.0, 0.0, angle))).flow[0] * (CROP / 2)
    brow, mouth = (synthetic_face.landmarks[index, :2].long().tolist() for index in (9, 17))
    above, below = flow[brow[1], brow[0]], flow[mouth[1], mouth[0]]
    turned = math.atan2(float(above[0] - below[0]), mouth[1] - brow[1])
    assert turned == pytest.approx(angle, rel=0.1)


def test_background_and_border_stand_still(synthetic_face, view):
    flow = motion_of(synthetic_face, view, moved(synthetic_face, rotation=(0.1, 0.15, 0.05))).flow[0]
    assert (flow[:, 0] == 0).all()
    assert (flow[-1] == 0).all()
    mesh = (view.fragments.triangle_index >= 0).float()[None]
    beyond = torch.nn.functional.max_pool2d(mesh, 91, 1, 45)[0, 0] == 0  # px from the mesh, in the portrait
    far = (view.follow < 1e-4) & beyond
    assert far.sum() > 1000
    assert (flow[far].norm(dim=-1) * CROP / 2).mean() < 0.1


def test_motion_below_the_threshold_is_none_at_all(synthetic_face, view):
    tiny = STILL_PX[0] / FOCAL_LENGTH * CAMERA_DISTANCE / 2  # model units, half the threshold on screen
    motion = motion_of(synthetic_face, view, moved(synthetic_face, translation=(tiny, 0.0, 0.0)))
    assert (motion.flow == 0).all()


def test_what_a_turn_brings_into_view_must_be_painted(synthetic_face, view):
    still = motion_of(synthetic_face, view, moved(synthetic_face))
    turned = motion_of(synthetic_face, view, moved(synthetic_face, rotation=(0.0, 0.5, 0.0)))
    y, x = nose_pixel(synthetic_face)
    assert still.occlusion[0, 0, y, x] == 1
    hidden = [float((1 - motion.occlusion).sum()) for motion in (still, turned)]
    assert hidden[1] > hidden[0]
    assert set(turned.occlusion.unique().tolist()) <= {0.0, 1.0}


def test_frames_are_estimated_one_by_one(synthetic_face, view):
    one, other = (moved(synthetic_face, rotation=angles) for angles in ((0.05, 0.0, 0.0), (0.0, 0.1, 0.0)))
    both = MeshSequence(torch.cat((one.vertices, other.vertices)), one.triangles, 25.0)
    seen = []
    motion = estimate_motion(render_ncc(view, both), progress=lambda *report: seen.append(report))
    assert seen == [(1, 2, None), (2, 2, None)]
    for index, single in enumerate((one, other)):
        assert torch.equal(motion.flow[index], motion_of(synthetic_face, view, single).flow[0])


def test_the_view_is_made_where_it_is_not_given(synthetic_face, view):
    mesh = moved(synthetic_face, rotation=(0.05, 0.0, 0.0))
    render = render_ncc(view, mesh)
    assert torch.equal(estimate_motion(render).flow, motion_of(synthetic_face, view, mesh).flow)


def disc(radius=40):
    return ((pixel_centres(CROP, CROP) - CROP / 2).norm(dim=-1) < radius).float()


def test_the_spread_continues_the_motion_and_dies_out():
    weight = disc()
    spread = _spread(torch.tensor([4.0, -2.0]).expand(CROP, CROP, 2), weight)
    middle = CROP // 2
    torch.testing.assert_close(spread[middle, middle], torch.tensor([4.0, -2.0]), rtol=0.02, atol=0)
    line = spread[middle, middle:, 0]
    assert line[48] > 3  # just outside it is hardly less
    assert line[-1] < 0.2 * line[0]
    assert (line.diff() < 1e-4).all()


def test_without_weight_nothing_is_spread():
    assert (_spread(torch.ones(CROP, CROP, 2), torch.zeros(CROP, CROP)) == 0).all()


def test_motion_without_weight_does_not_leak():
    weight = disc()
    noise = torch.where(weight[..., None] > 0, 1.0, 1e3)
    torch.testing.assert_close(_spread(noise.expand(-1, -1, 2), weight), _spread(torch.ones(CROP, CROP, 2), weight))


# ---- what the motion-VAE adds


@pytest.fixture(scope="module")
def render(synthetic_face, view):
    """Three frames: still, turned, nodding with a shift."""
    turns = [moved(synthetic_face, rotation=angles) for angles in ((0.0, 0.0, 0.0), (0.02, 0.15, 0.05))]
    nod = moved(synthetic_face, rotation=(0.12, 0.0, 0.0), translation=(0.05, 0.0, 0.0))
    meshes = [*turns, nod]
    return render_ncc(view, MeshSequence(torch.cat([m.vertices for m in meshes]), nod.triangles, 25.0))


@pytest.fixture(scope="module")
def closed(synthetic_face, view, render):
    return estimate_motion(render)


@pytest.fixture(scope="module")
def unanchored(wake):
    torch.manual_seed(2)
    config = MotionVaeConfig(False, face_widths=(4, 6, 8, 8), lip_widths=(4, 6, 8), latent=4, decoder=6)
    return wake(MotionVae(config))


def refined(face, view, render, model, strength=1.0, progress=None):
    return estimate_motion(render, model, strength, progress)


def test_strength_zero_is_the_closed_form_and_so_is_an_untrained_model(
    synthetic_face, view, render, closed, motion_vae
):
    assert torch.equal(refined(synthetic_face, view, render, motion_vae, 0.0).flow, closed.flow)
    untrained = refined(synthetic_face, view, render, MotionVae(motion_vae.config).eval())
    assert torch.equal(untrained.flow, closed.flow)
    torch.testing.assert_close(untrained.occlusion, closed.occlusion, atol=0.021, rtol=0)


@pytest.mark.parametrize("name", ["motion_vae", "unanchored"])
def test_strength_mixes_both_in_proportion(request, synthetic_face, view, render, closed, name):
    model = request.getfixturevalue(name)
    full = refined(synthetic_face, view, render, model)
    assert (full.flow - closed.flow).abs().amax() * CROP / 2 > 0.1, "px"
    assert full.flow.dtype == full.occlusion.dtype == torch.float32
    quarter = refined(synthetic_face, view, render, model, 0.25)
    torch.testing.assert_close(quarter.flow, torch.lerp(closed.flow, full.flow, 0.25))
    torch.testing.assert_close(quarter.occlusion, torch.lerp(closed.occlusion, full.occlusion, 0.25))


def test_stillness_and_background_stay_bit_for_bit(synthetic_face, view, render, closed, motion_vae):
    generated = refined(synthetic_face, view, render, motion_vae)
    assert (generated.flow[0] == 0).all() and torch.equal(generated.occlusion[0], closed.occlusion[0])
    shut = view.follow * view.border == 0
    assert shut.any()
    assert torch.equal(generated.flow[:, shut], closed.flow[:, shut])
    assert torch.equal(generated.occlusion[:, 0, shut], closed.occlusion[:, 0, shut])


def test_the_papers_own_form_stands_still_where_nothing_moves(synthetic_face, view, render, unanchored):
    generated = refined(synthetic_face, view, render, unanchored)
    shut = view.follow * view.border == 0
    assert (generated.flow[0] == 0).all() and (generated.flow[:, shut] == 0).all()


def test_refined_frames_are_independent(synthetic_face, view, render, motion_vae):
    together = refined(synthetic_face, view, render, motion_vae)
    for index, vertices in enumerate(render.mesh.vertices):
        single = render_ncc(view, MeshSequence(vertices[None], render.mesh.triangles, 25.0))
        alone = refined(synthetic_face, view, single, motion_vae)
        assert torch.equal(alone.flow[0], together.flow[index])
        assert torch.equal(alone.occlusion[0], together.occlusion[index])


def test_the_models_pass_is_reported_too_and_may_be_cancelled(synthetic_face, view, render, motion_vae):
    seen = []
    refined(synthetic_face, view, render, motion_vae, progress=lambda *report: seen.append(report))
    assert seen == [(frame, 3, None) for frame in (1, 2, 3)] * 2

    def cancel(done, total, picture):
        seen.append(done)
        if len(seen) == 5:
            raise InterruptedError

    seen.clear()
    with pytest.raises(InterruptedError):
        refined(synthetic_face, view, render, motion_vae, progress=cancel)
    assert seen == [1, 2, 3, 1, 2]


def test_half_precision_moves_pixels_by_less_than_a_tenth(monkeypatch, synthetic_face, view, render, motion_vae):
    # whatever this machine has
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    plain = refined(synthetic_face, view, render, motion_vae)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    fast = refined(synthetic_face, view, render, motion_vae)
    assert fast.flow.dtype == fast.occlusion.dtype == torch.float32
    assert 0 < (fast.flow - plain.flow).abs().amax() * CROP / 2 < 0.1, "px"
    assert (fast.flow[0] == 0).all()
