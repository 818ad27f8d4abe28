import math

import pytest
import torch

from vividtalk_core.geometry import (
    CAMERA_DISTANCE,
    fit_similarity,
    identity_grid,
    inside_polygon,
    pixel_centres,
    polygon_distance,
    polygon_mask,
    project,
    rotation_angles,
    rotation_matrix,
    unproject,
    vertex_normals,
    warp,
)

SQUARE = torch.tensor([[0.0, 0], [4, 0], [4, 4], [0, 4]])
ARROW = torch.tensor([[0.0, 0], [6, 1], [3, 2], [5, 6], [-1, 4], [1, 2.5]])  # not convex
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


@pytest.mark.parametrize("polygon", [SQUARE, ARROW.flip(0)])
def test_inside_a_polygon_is_where_it_winds_around(polygon):
    points = torch.rand(400, 2, generator=torch.Generator().manual_seed(4)) * 9 - 2
    plain = [winding(point, polygon.tolist()) != 0 for point in points.tolist()]
    assert inside_polygon(points.view(20, 20, 2), polygon).flatten().tolist() == plain


def test_a_polygon_mask_holds_its_inside_and_its_border():
    mask = polygon_mask(SQUARE + 2, 12, 10)
    expected = torch.zeros(12, 10, dtype=torch.bool)
    expected[2:7, 2:7] = True
    assert torch.equal(mask, expected)


@pytest.fixture(scope="module")
def cloud():
    return torch.rand(60, 3, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.2, -0.4, 0.1), (0.0, 0.0, 3.0), (-1.0, 1.4, -2.0)])
def test_rigid_motion_is_recovered(cloud, angles):
    rotation, shift = rotation_matrix(torch.tensor(angles)), torch.tensor([0.3, -0.2, 0.5])
    fit = fit_similarity(cloud, cloud @ rotation.T + shift, scaled=False)
    torch.testing.assert_close(fit.rotation, rotation, atol=1e-5, rtol=0)
    torch.testing.assert_close(fit.translation, shift, atol=1e-5, rtol=0)


def test_rigid_motion_of_a_mirrored_cloud_is_still_a_rotation(cloud):
    found = fit_similarity(cloud, cloud * torch.tensor([-1.0, 1.0, 1.0]), scaled=False).rotation
    assert float(torch.det(found)) == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(found @ found.T, torch.eye(3), atol=1e-5, rtol=0)


def test_rigid_motion_is_the_best_one_under_noise(cloud):
    rotation = rotation_matrix(torch.tensor([0.1, 0.2, 0.3]))
    noisy = cloud @ rotation.T + 0.01 * torch.randn(cloud.shape, generator=torch.Generator().manual_seed(1))
    fit = fit_similarity(cloud, noisy, scaled=False)

    def error(matrix, shift):
        return float(((cloud @ matrix.T + shift - noisy) ** 2).sum())

    best = error(fit.rotation, fit.translation)
    for angles in torch.eye(3) * 0.01:
        assert best < error(fit.rotation @ rotation_matrix(angles), fit.translation)
    assert best <= error(rotation, torch.zeros(3))


def plain_similarity(source, target, weight):
    """Weighted Umeyama 1991, Eq. 40–42, one point at a time in double precision: rotation, scale, translation."""
    share = (weight / weight.sum()).double()
    source, target = source.double(), target.double()
    source_mean = sum(w * p for w, p in zip(share, source, strict=True))
    target_mean = sum(w * p for w, p in zip(share, target, strict=True))
    triples = list(zip(share, source, target, strict=True))
    covariance = sum(w * torch.outer(q - target_mean, p - source_mean) for w, p, q in triples)
    spread = sum(w * (p - source_mean).square().sum() for w, p, _ in triples)
    u, s, vt = torch.linalg.svd(covariance)
    sign = torch.ones(len(s), dtype=torch.float64)
    sign[-1] = torch.sign(torch.det(u) * torch.det(vt))
    rotation, scale = u @ torch.diag(sign) @ vt, (s * sign).sum() / spread
    return rotation, scale, target_mean - scale * rotation @ source_mean


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_similarity_is_that_of_a_plain_loop_for_each_of_a_batch(size, weighted):
    generator = torch.Generator().manual_seed(2)
    source, targets = torch.randn(20, size, generator=generator), torch.randn(4, 20, size, generator=generator)
    weight = torch.rand(20, generator=generator) if weighted else None
    fit = fit_similarity(source, targets, weight)
    mapped = fit.apply(source)
    for number, target in enumerate(targets):
        rotation, scale, shift = plain_similarity(source, target, torch.ones(20) if weight is None else weight)
        torch.testing.assert_close(fit.rotation[number].double(), rotation, atol=1e-5, rtol=0)
        torch.testing.assert_close(fit.scale[number].double(), scale, atol=1e-5, rtol=0)
        torch.testing.assert_close(fit.translation[number].double(), shift, atol=1e-5, rtol=0)
        expected = scale * source.double() @ rotation.T + shift
        torch.testing.assert_close(mapped[number].double(), expected, atol=1e-5, rtol=0)
    back = fit_similarity(targets, source, weight)  # many sources, one target
    torch.testing.assert_close(back.rotation, fit.rotation.mT, atol=1e-5, rtol=0)


def test_normals_turn_with_the_head(head_model):
    rotation = rotation_matrix(torch.tensor([0.3, -0.4, 0.2]))
    normals = vertex_normals(head_model.mean_shape, head_model.triangles)
    moved = vertex_normals(head_model.mean_shape @ rotation.T, head_model.triangles)
    torch.testing.assert_close(moved, normals @ rotation.T, atol=1e-4, rtol=0)


def test_normals_are_weighted_by_area_and_batched():
    """A corner of a large and a small triangle leans towards the large one's normal."""
    corners = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, -1]])
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])  # facing +z with 16, and -x with 4
    normals = vertex_normals(corners.expand(2, -1, -1), triangles)
    expected = torch.tensor([-4.0, 0, 16]) / math.hypot(4, 16)
    torch.testing.assert_close(normals[:, 0], expected.expand(2, 3))
    torch.testing.assert_close(normals[0, 1], torch.tensor([0.0, 0, 1]))
