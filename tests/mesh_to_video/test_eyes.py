"""The lash line of a closing eye: nothing while it is open, dark and on the contact line when it closes."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.geometry import pixel_centres, project
from vividtalk_core.head.drive import drive_mesh
from vividtalk_core.head.morphable import landmark_positions
from vividtalk_core.head.topology import LEFT_LID_PAIRS, RIGHT_LID_PAIRS
from vividtalk_core.mesh_to_video.eyes import EYES, _lid_line, render_lash_lines
from vividtalk_core.mesh_to_video.source_view import view_source
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion

DETAIL = 2
LIDS = {"eyeBlinkLeft": LEFT_LID_PAIRS, "eyeBlinkRight": RIGHT_LID_PAIRS}


def driven(face, *rows):
    """One frame per dictionary of curves."""
    coefficients = torch.zeros(len(rows), 52)
    for frame, curves in zip(coefficients, rows, strict=True):
        for name, value in curves.items():
            frame[ARKIT_NAMES.index(name)] = value
    lips = torch.zeros(len(rows), len(face.model.lip_vertices), 3)
    still = HeadMotion(torch.zeros(len(rows), 3), torch.zeros(len(rows), 3), 25.0)
    return drive_mesh(face, Expression(coefficients, lips, 25.0, torch.zeros(52), torch.zeros_like(lips[0])), still)


def lash_lines(face, *rows, detail=DETAIL):
    mesh = driven(face, *rows)
    return mesh, render_lash_lines(view_source(face), mesh, detail)


def places(paint, frame):
    """[h, w, 2] px of the crop of each pixel of the painting."""
    box = paint.box[frame]
    height, width = paint.alpha.shape[2:]
    return pixel_centres(height, width) * ((box[2:] - box[:2]) / torch.tensor([width, height])) + box[:2]


def contact_middle(face, mesh, frame, pairs):
    points = project(landmark_positions(face.model, mesh.vertices[frame]))[:, :2]
    return points[[index for pair in pairs[2:5] for index in pair]].mean(0)


@pytest.fixture(scope="module")
def blinks(synthetic_face):
    """Open, left closed, right closed, half closed."""
    half = {"eyeBlinkLeft": 0.4, "eyeBlinkRight": 0.4}
    return lash_lines(synthetic_face, {}, {"eyeBlinkLeft": 1.0}, {"eyeBlinkRight": 1.0}, half)


def test_open_and_half_open_eyes_have_no_line(blinks):
    _, paint = blinks
    assert (paint.alpha[[0, 3]] == 0).all()


@pytest.mark.parametrize(
    ("frame", "name", "other"), [(1, "eyeBlinkLeft", "eyeBlinkRight"), (2, "eyeBlinkRight", "eyeBlinkLeft")]
)
def test_the_line_lies_where_the_lids_of_the_closed_eye_meet(synthetic_face, blinks, frame, name, other):
    mesh, paint = blinks
    alpha, at = paint.alpha[frame, 0], places(paint, frame)
    assert alpha.amax() > 0.8
    centre = (alpha[..., None] * at).sum((0, 1)) / alpha.sum()
    assert (centre - contact_middle(synthetic_face, mesh, frame, LIDS[name])).norm() < 3  # px of the crop
    near_other = (at - contact_middle(synthetic_face, mesh, frame, LIDS[other])).norm(dim=-1) < 10
    assert near_other.any()
    assert (alpha[near_other] == 0).all()


def test_the_line_is_thin_and_ends_at_the_corners(synthetic_face, blinks):
    mesh, paint = blinks
    alpha, at = paint.alpha[1, 0], places(paint, 1)
    points = project(landmark_positions(synthetic_face.model, mesh.vertices[1]))[:, :2]
    line = _lid_line(points, *EYES[1])
    distance = (at[..., None, :] - line).norm(dim=-1).amin(-1)
    width = (line[0] - line[-1]).norm()
    assert (alpha[distance > 0.3 * width] < 1e-3).all()
    for corner in (line[0], line[-1]):
        nearest = (at - corner).norm(dim=-1).flatten().argmin()
        assert alpha.flatten()[nearest] < 0.3 * alpha.amax()


def test_the_line_grows_as_the_eye_closes(synthetic_face):
    _, paint = lash_lines(synthetic_face, *({"eyeBlinkLeft": value} for value in (0.4, 0.6, 0.7, 0.8, 1.0)))
    strength = paint.alpha.amax((1, 2, 3))
    assert strength[0] == 0
    assert (strength.diff() >= 0).all()
    assert 0 < strength[2] < strength[-1]


def test_both_eyes_share_one_box(synthetic_face):
    mesh, paint = lash_lines(synthetic_face, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    at = places(paint, 0)
    for pairs in LIDS.values():
        near = (at - contact_middle(synthetic_face, mesh, 0, pairs)).norm(dim=-1) < 2
        assert paint.alpha[0, 0][near].amax() > 0.8


def test_the_colour_is_the_lids_darker_half(synthetic_face):
    """Skin of 0.7 with a dark line of lashes along the lids: the line is painted dark."""
    image = torch.full_like(synthetic_face.image, 0.7)
    upper = [pair[0] for pairs in LIDS.values() for pair in pairs]
    for x, y in synthetic_face.landmarks[upper[::2], :2].long().tolist():
        image[..., y, x] = torch.tensor([0.2, 0.1, 0.05])
    face = replace(synthetic_face, image=image)
    _, paint = lash_lines(face, {"eyeBlinkLeft": 1.0})
    color = paint.color[0, :, 0, 0]
    torch.testing.assert_close(color, torch.tensor([0.2, 0.1, 0.05]))
    assert (paint.color == color.view(1, 3, 1, 1)).all()


def test_a_portrait_whose_eye_is_closed_gets_no_line(synthetic_face):
    """The portrait shows a line of its own there; painting another would make it jump."""
    closed = driven(synthetic_face, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}).vertices[0]
    offsets = closed - driven(synthetic_face, {}).vertices[0]
    own = torch.zeros(52)
    face = replace(synthetic_face, vertex_offsets=offsets, exp_coefficients=own)
    _, paint = lash_lines(face, {}, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    assert (paint.alpha == 0).all()


def test_detail_changes_the_resolution_and_nothing_else(synthetic_face):
    _, coarse = lash_lines(synthetic_face, {"eyeBlinkLeft": 1.0}, detail=1)
    _, fine = lash_lines(synthetic_face, {"eyeBlinkLeft": 1.0}, detail=3)
    assert torch.equal(coarse.box, fine.box)
    assert [3 * side for side in coarse.alpha.shape[2:]] == list(fine.alpha.shape[2:])
    assert float(fine.alpha.mean()) == pytest.approx(float(coarse.alpha.mean()), rel=0.1)


def test_the_box_follows_the_eyes_and_keeps_its_size(synthetic_face):
    mesh = driven(synthetic_face, {}, {})
    mesh.vertices[1] += torch.tensor([0.3, 0.1, 0.0])
    paint = render_lash_lines(view_source(synthetic_face), mesh, 1)
    shift = paint.box[1] - paint.box[0]
    assert (shift[[0, 2]] > 10).all()
    assert (shift[[1, 3]] < -3).all()
    size = paint.box[:, 2:] - paint.box[:, :2]
    torch.testing.assert_close(size[0], size[1])
    assert size[0].tolist() == pytest.approx([paint.alpha.shape[3], paint.alpha.shape[2]], abs=1e-3)
