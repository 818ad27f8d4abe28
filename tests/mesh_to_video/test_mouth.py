"""Where the mouth's inside is painted: between the lips, and only what the portrait does not show."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.geometry import pixel_centres, project
from vividtalk_core.head.drive import _rest, drive_mesh, face_mesh
from vividtalk_core.head.morphable import landmark_positions
from vividtalk_core.head.mouth_shape import inter_ocular
from vividtalk_core.head.topology import INNER_LIP_PAIRS, INNER_LIPS, OUTER_LIPS
from vividtalk_core.mesh_to_video.dense_motion import estimate_motion
from vividtalk_core.mesh_to_video.interior import mouth_palette
from vividtalk_core.mesh_to_video.mouth import (
    BOX_SIZE,
    SEAM_IOD,
    _inner_lips,
    _opening,
    _share_kept,
    _share_shut,
    render_lip_seam,
    render_mouth,
)
from vividtalk_core.mesh_to_video.ncc import render_ncc
from vividtalk_core.mesh_to_video.regions import polygon_distance
from vividtalk_core.mesh_to_video.source_view import view_source
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion

OPEN = {"jawOpen": 0.5, "mouthLowerDownLeft": 0.4, "mouthLowerDownRight": 0.4}


def driven(face, *rows, neutral=True):
    """One mesh per dictionary of curves, which are added to the portrait's own."""
    coefficients = torch.zeros(len(rows), 52)
    for frame, curves in zip(coefficients, rows, strict=True):
        for name, value in curves.items():
            frame[ARKIT_NAMES.index(name)] = value
    lips = torch.zeros(len(rows), len(face.model.lip_vertices), 3)
    still = HeadMotion(torch.zeros(len(rows), 3), torch.zeros(len(rows), 3), 25.0)
    return drive_mesh(
        face,
        Expression(
            coefficients, lips, 25.0, torch.zeros(52), torch.zeros_like(lips[0]), "portrait" if neutral else "rest"
        ),
        still,
    )


def painted(face, mesh, detail=2, progress=None):
    view = view_source(face)
    motion = estimate_motion(render_ncc(view, mesh))
    return render_mouth(view, mesh, motion, detail, progress)


def opened_portrait(face):
    """A portrait that shows its mouth open."""
    own = torch.zeros(52)
    for name, value in OPEN.items():
        own[ARKIT_NAMES.index(name)] = value
    return replace(face, exp_coefficients=own)


@pytest.fixture(scope="module")
def view(synthetic_face):
    return view_source(synthetic_face)


@pytest.fixture(scope="module")
def speech(synthetic_face):
    """Still, mouth open."""
    mesh = driven(synthetic_face, {}, OPEN)
    return mesh, painted(synthetic_face, mesh)


def test_the_opening_is_the_inside_of_the_outline():
    outline = torch.tensor([[4.0, 4], [16, 4], [16, 12], [4, 12]])
    opening = _opening(pixel_centres(16, 20), outline)
    assert (opening[5:11, 5:15] == 1).all()
    outside = torch.ones(16, 20, dtype=torch.bool)
    outside[4:12, 4:16] = False
    assert (opening[outside] == 0).all()
    on_edge = _opening(torch.tensor([[[4.0, 8.0]]]), outline)
    assert float(on_edge) == pytest.approx(0.5)


def test_closed_lips_have_no_opening(synthetic_face, view):
    outline = _inner_lips(synthetic_face, face_mesh(synthetic_face))[0]
    assert outline.shape == (len(INNER_LIPS), 2)
    assert _opening(pixel_centres(256, 256), outline).mean() < 0.002


def test_paint_lies_inside_the_driven_lips(synthetic_face, speech):
    mesh, paint = speech
    points = pixel_centres(*paint.alpha.shape[2:]) / 2 + paint.box[1][:2]
    opening = _opening(points, _inner_lips(synthetic_face, mesh)[1])
    assert (paint.alpha[1, 0] <= opening + 1e-6).all()
    assert (paint.alpha[0] == 0).all()


def test_paint_fills_a_mouth_that_the_portrait_shows_closed(synthetic_face):
    face = replace(synthetic_face, vertex_offsets=_rest(synthetic_face)[1])  # the mean lips are a little apart
    mesh = driven(face, OPEN)
    paint = painted(face, mesh)
    points = pixel_centres(*paint.alpha.shape[2:]) / 2 + paint.box[0][:2]
    deep = polygon_distance(points, _inner_lips(face, mesh)[0]) > 1  # px from the lips
    assert deep.sum() > 500
    assert paint.alpha[0, 0][deep].mean() > 0.8


def test_a_mouth_that_the_portrait_shows_open_is_kept(synthetic_face):
    face = opened_portrait(synthetic_face)
    still, wider = painted(face, driven(face, {}, {"jawOpen": 0.3})).alpha.sum((1, 2, 3))
    assert still == 0
    shut = painted(synthetic_face, driven(synthetic_face, {name: 1.3 * value for name, value in OPEN.items()}))
    assert wider < 0.7 * shut.alpha.sum()


def test_the_box_follows_the_mouth(synthetic_face, view):
    mesh = driven(synthetic_face, {}, {})
    mesh.vertices[1] += torch.tensor([0.2, 0.1, 0.0])
    paint = painted(synthetic_face, mesh)
    lips = _inner_lips(synthetic_face, mesh)
    middle = (lips.amax(1) + lips.amin(1)) / 2
    torch.testing.assert_close((paint.box[:, :2] + paint.box[:, 2:]) / 2, middle, atol=1e-3, rtol=0)


def test_the_boxs_size_depends_on_the_portrait_alone(synthetic_face, speech):
    """Otherwise the number of pixels, and with it the picture, would depend on the other frames of a chunk."""
    _, paint = speech
    wide = painted(synthetic_face, driven(synthetic_face, {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}))
    assert wide.alpha.shape[2:] == paint.alpha.shape[2:]
    own = landmark_positions(synthetic_face.model, face_mesh(synthetic_face).vertices[0])[list(OUTER_LIPS)]
    width = project(own)[:, 0].amax() - project(own)[:, 0].amin()
    assert paint.alpha.shape[3] / 2 == pytest.approx(float(width) * BOX_SIZE[0], abs=2)
    assert (paint.box[:, 2:] - paint.box[:, :2])[1].tolist() == pytest.approx(
        [side / 2 for side in paint.alpha.shape[:1:-1]]
    )


def test_a_wide_open_mouth_fits_its_box(synthetic_face):
    mesh = driven(synthetic_face, {"jawOpen": 1.0})
    box, lips = painted(synthetic_face, mesh).box[0], _inner_lips(synthetic_face, mesh)[0]
    assert (lips > box[:2]).all()
    assert (lips < box[2:]).all()


def test_progress_counts_the_frames(synthetic_face):
    seen = []
    painted(synthetic_face, driven(synthetic_face, {}, {}), progress=lambda *report: seen.append(report))
    assert seen == [(1, 2, None), (2, 2, None)]


def test_lips_that_close_over_their_teeth_show_a_dark_line(synthetic_face):
    face = opened_portrait(synthetic_face)
    view = view_source(face)
    rest = driven(face, {}, {"jawOpen": 0.5}, neutral=False)  # without a neutral the mouth is first brought to rest
    paint = render_lip_seam(view, rest, 2)
    points = pixel_centres(*paint.alpha.shape[2:]) / 2 + paint.box[0, :2]
    distance = polygon_distance(points, _inner_lips(face, rest)[0])
    between = distance > -0.1
    assert between.any()
    assert paint.alpha[0, 0][between].amin() > 0.95
    width = SEAM_IOD * float(inter_ocular(face.landmarks[None]))  # px
    beside = (distance < -0.9 * width) & (distance > -1.1 * width)
    assert 0.4 < paint.alpha[0, 0][beside].mean() < 0.65, "a soft line"
    assert not paint.alpha[0, 0][distance < -2.1 * width].any(), "a line, no beard"
    assert not paint.alpha[1].any(), "lips apart have none"
    assert (paint.color[0].amax((1, 2)) < mouth_palette(view).enamel).all()


def test_a_slit_is_given_up_sooner_than_a_smile():
    def lips(gap):
        points = torch.zeros(len(INNER_LIPS), 2)
        points[:, 0] = torch.linspace(0, 50, len(INNER_LIPS))
        for upper, lower in INNER_LIP_PAIRS:
            points[INNER_LIPS.index(lower)] = points[INNER_LIPS.index(upper)] + torch.tensor([0.0, gap])
        return points

    for own in (2.0, 12.0):
        assert _share_kept(lips(own), lips(own)) == 1, "a still portrait keeps its mouth"
    assert _share_kept(lips(2.0), lips(4.0)) == 0
    assert _share_kept(lips(12.0), lips(24.0)) == 1
    assert _share_kept(lips(12.0), lips(90.0)) == 0


def test_lips_are_closed_by_the_share_of_their_own_gap():
    def lips(gap):
        points = torch.zeros(len(INNER_LIPS), 2)
        for _, lower in INNER_LIP_PAIRS:
            points[INNER_LIPS.index(lower), 1] = gap
        return points

    own = lips(6.0)
    assert _share_shut(own, own) == 0, "a still portrait gets no line"
    assert _share_shut(own, lips(0.45 * 6)) == 0
    assert 0.4 < _share_shut(own, lips(0.275 * 6)) < 0.6
    assert _share_shut(own, lips(0.5)) == 1
    assert _share_shut(lips(0.5), lips(0.0)) == 0, "closed lips have a line of their own"
