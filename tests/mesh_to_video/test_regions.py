"""Parts of the head found from its mean shape, and the distance to a polygon against a plain loop."""

import math

import pytest
import torch

from vividtalk_core.head.morphable import landmark_positions, triangles_of
from vividtalk_core.head.topology import FACE_OVAL, INNER_LIPS
from vividtalk_core.mesh_to_video.regions import EYE_SETBACK, OVAL_SOFTNESS, find_regions, polygon_distance

SQUARE = torch.tensor([[0.0, 0], [4, 0], [4, 4], [0, 4]])
ARROW = torch.tensor([[0.0, 0], [6, 1], [3, 2], [5, 6], [-1, 4], [1, 2.5]])  # not convex


def segment_distance(point, start, end):
    length = math.dist(start, end) ** 2
    share = ((point[0] - start[0]) * (end[0] - start[0]) + (point[1] - start[1]) * (end[1] - start[1])) / length
    share = min(1, max(0, share))
    return math.dist(point, [a + share * (b - a) for a, b in zip(start, end, strict=True)])


def winding(point, corners):
    """Turns of the polygon around the point: 0 outside."""
    total = 0.0
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ax, ay, bx, by = ax - point[0], ay - point[1], bx - point[0], by - point[1]
        total += math.atan2(ax * by - ay * bx, ax * bx + ay * by)
    return round(total / (2 * math.pi))


def plain_distance(points, polygon):
    corners = polygon.tolist()
    edges = list(zip(corners, corners[1:] + corners[:1], strict=True))
    values = []
    for point in points.tolist():
        distance = min(segment_distance(point, *edge) for edge in edges)
        values.append(distance if winding(point, corners) else -distance)
    return torch.tensor(values)


@pytest.mark.parametrize("polygon", [SQUARE, ARROW, SQUARE.flip(0), ARROW.flip(0)])
def test_distance_is_that_of_a_plain_loop(polygon):
    points = torch.rand(400, 2, generator=torch.Generator().manual_seed(3)) * 9 - 2
    torch.testing.assert_close(polygon_distance(points, polygon), plain_distance(points, polygon), atol=1e-5, rtol=0)


@pytest.mark.parametrize("polygon", [SQUARE, ARROW])
def test_points_on_edges_and_corners_are_at_zero(polygon):
    shares = torch.tensor([0.0, 0.25, 0.5, 1.0])[:, None, None]
    on_edge = polygon + shares * (polygon.roll(-1, 0) - polygon)
    assert polygon_distance(on_edge, polygon).abs().amax() < 1e-6


def test_a_ray_through_a_corner_is_counted_once():
    points = torch.tensor([[-1.0, 2.5], [-1.0, 2.0], [2.0, 2.0], [0.9, 2.5], [1.1, 2.5]])  # at the height of corners
    torch.testing.assert_close(polygon_distance(points, ARROW), plain_distance(points, ARROW))


def test_distance_keeps_the_shape_and_survives_double_corners():
    twice = torch.cat((SQUARE, SQUARE[-1:]))
    points = torch.rand(3, 5, 2) * 4
    distance = polygon_distance(points, twice)
    assert distance.shape == (3, 5)
    torch.testing.assert_close(distance, polygon_distance(points, SQUARE))


def test_the_mouths_inside_is_teeth_tongue_and_cavity(head_model):
    regions = find_regions(head_model)
    parts = {"upper_teeth", "lower_teeth", "tongue"}
    found = {head_model.part_names[i] for i in head_model.triangle_parts[regions.teeth_and_tongue].unique()}
    assert found == parts
    found = {head_model.part_names[i] for i in head_model.triangle_parts[regions.interior].unique()}
    assert found == parts | {"cavity"}


def test_only_eyeballs_are_set_back(head_model):
    regions = find_regions(head_model)
    balls = triangles_of(head_model, "left_eye", "right_eye").unique()
    assert (regions.setback[balls] == EYE_SETBACK).all()
    assert regions.setback.count_nonzero() == len(balls)
    assert regions.eyes.sum() == len(triangles_of(head_model, "left_eye", "right_eye"))


def test_what_is_rigid_neither_speaks_nor_bends_with_the_neck(head_model):
    rigid = find_regions(head_model).rigid
    assert head_model.exp_basis[:, rigid].abs().amax() < 1e-3
    assert (head_model.pose_weight[rigid] > 0.999).all()
    assert not rigid[head_model.lip_vertices].any()


def test_trust_is_full_inside_the_oval_and_gone_behind_the_head(head_model):
    inner = find_regions(head_model).inner_face
    points = landmark_positions(head_model, head_model.mean_shape)
    lips = head_model.landmark_vertices[list(INNER_LIPS)].flatten()
    assert (inner[lips] == 1).all()
    assert (inner[head_model.mean_shape[:, 2] < -0.1] == 0).all()
    beyond = head_model.mean_shape[:, 1] < points[list(FACE_OVAL), 1].amin() - OVAL_SOFTNESS  # the neck
    assert beyond.any()
    assert (inner[beyond] == 0).all()
