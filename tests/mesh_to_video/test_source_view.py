"""The view of the portrait for stage 2: what it shows, what follows the head, where nothing may move."""

import math
from dataclasses import replace

import pytest
import torch

from vividtalk_core.filters import blur
from vividtalk_core.head.drive import face_mesh
from vividtalk_core.head.morphable import triangles_of
from vividtalk_core.head.topology import FACE_OVAL
from vividtalk_core.mesh_to_video.source_view import (
    BORDER_PX,
    COLLAR,
    FADE_PX,
    rasterize_mesh,
    view_source,
)
from vividtalk_core.structures import HeadMotion


@pytest.fixture(scope="module")
def view(synthetic_face):
    return view_source(synthetic_face)


def turned(face, yaw_deg):
    pose = HeadMotion(torch.tensor([[0.0, math.radians(yaw_deg), 0.0]]), face.pose.translation, 25.0)
    return replace(face, pose=pose)


def test_the_portrait_shows_the_front_and_not_the_back(synthetic_face, view):
    model = synthetic_face.model
    nose = model.landmark_vertices[4]
    assert (view.confidence[nose] > 0.9).all()
    behind = model.mean_shape[:, 2] < -0.5
    assert view.confidence[behind].amax() < 0.05
    assert 0 <= view.confidence.amin() <= view.confidence.amax() <= 1


def test_what_is_behind_closed_lips_is_not_shown(synthetic_face, view):
    teeth = triangles_of(synthetic_face.model, "upper_teeth", "lower_teeth", "tongue").unique()
    assert view.confidence[teeth].mean() < 0.02


def test_turning_the_head_hides_one_cheek(synthetic_face):
    model = synthetic_face.model
    x, z = model.mean_shape[:, 0], model.mean_shape[:, 2]
    cheek = (z > 0) & (x.abs() > 0.5) & (model.mean_shape[:, 1].abs() < 0.4)
    turned_right = view_source(turned(synthetic_face, 40)).confidence
    far, near = turned_right[cheek & (x > 0)].mean(), turned_right[cheek & (x < 0)].mean()
    assert near > 2 * far


def test_eyes_are_where_the_eyeballs_are_seen(synthetic_face, view):
    eyes = view.eyes[0, 0]
    assert eyes.sum() > 50
    middle = synthetic_face.landmarks[:468, 0].mean()
    columns = torch.arange(256) + 0.5
    for iris, side in ((468, columns < middle), (473, columns > middle)):
        part = eyes[:, side]
        centre = (part.sum(0) * columns[side]).sum() / part.sum()
        assert abs(float(centre - synthetic_face.landmarks[iris, 0])) < 3


def test_lashes_are_not_drawn(synthetic_face, view):
    lashes = synthetic_face.model.part_names.index("lashes")
    seen = view.fragments.triangle_index
    assert seen.shape == (1, 256, 256)
    assert not (synthetic_face.model.triangle_parts[seen[seen >= 0]] == lashes).any()


def test_rasterising_reports_its_progress(synthetic_face, view):
    seen = []
    rasterize_mesh(face_mesh(synthetic_face), view.regions, lambda *report: seen.append(report))
    assert seen == [(1, 1, None)]


def test_the_person_follows_and_the_far_background_stands(synthetic_face, view):
    x, y = synthetic_face.landmarks[4, :2].long().tolist()
    assert view.follow[y, x] > 0.99
    assert view.follow[:, :5].amax() < 0.01
    assert view.follow[250:].amax() < 0.01  # below the collar
    assert 0 <= view.follow.amin() <= view.follow.amax() <= 1 + 1e-6


def test_the_face_follows_even_where_the_matte_misses_it(synthetic_face):
    face = replace(synthetic_face, person_mask=torch.zeros(1, 1, 256, 256))
    oval = face.landmarks[list(FACE_OVAL), :2]
    x, y = oval.mean(0).long().tolist()
    follow = view_source(face).follow
    assert follow[y, x] > 0.99
    away = round(float(oval[:, 0].amax())) + FADE_PX + 12
    assert follow[y, away:].amax() < 0.01


def test_a_person_who_fills_the_crop_stands_still_below_the_collar(synthetic_face):
    follow = view_source(replace(synthetic_face, person_mask=torch.ones(1, 1, 256, 256))).follow
    rows = synthetic_face.landmarks[list(FACE_OVAL), 1]
    chin, brow = float(rows.amax()), float(rows.amin())
    collar = round(chin + COLLAR * (chin - brow))
    assert follow[: round(chin) - 8].amin() > 0.99
    if collar + 8 < 256:
        assert follow[collar + 8 :].amax() < 0.01
    assert (follow.diff(dim=0) <= 1e-5).all()  # downwards it only ever falls


def test_follow_has_no_edge(view):
    assert view.follow.diff(dim=0).abs().amax() < 0.12
    assert view.follow.diff(dim=1).abs().amax() < 0.12


def test_the_border_is_zero_outside_and_one_inside(view):
    border = view.border
    for edge in (border[0], border[-1], border[:, 0], border[:, -1]):
        assert (edge == 0).all()
    inside = BORDER_PX + 1
    assert (border[inside:-inside, inside:-inside] == 1).all()
    torch.testing.assert_close(border, border.flip(0))
    torch.testing.assert_close(border, border.T)


@pytest.mark.parametrize(("sigma", "size"), [(0.6, (7, 9)), (1.0, (5, 16)), (3.0, (24, 20))])
def test_blur_is_a_plain_sum_over_neighbours(sigma, size):
    image = torch.rand(*size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    radius = max(1, round(2.5 * sigma))
    reach = range(-radius, radius + 1)
    weights = {step: math.exp(-((step / sigma) ** 2) / 2) for step in reach}
    total = sum(weights.values())
    height, width = size
    expected = torch.zeros(size)
    for dy in reach:
        for dx in reach:
            rows = (torch.arange(height) + dy).clamp(0, height - 1)
            columns = (torch.arange(width) + dx).clamp(0, width - 1)
            expected += weights[dy] * weights[dx] / total**2 * image[rows][:, columns]
    torch.testing.assert_close(blur(image, sigma), expected, atol=1e-5, rtol=0)


def test_blur_treats_every_leading_dimension_alone():
    image = torch.rand(2, 3, 8, 8)
    out = blur(image, 1.5)
    for frame in range(2):
        for channel in range(3):
            assert torch.equal(out[frame, channel], blur(image[frame, channel], 1.5)), "to the last bit: chunks"
