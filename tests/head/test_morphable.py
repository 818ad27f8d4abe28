"""The embedded head: shapes, names, sides, parts, lids and teeth; reading it."""

import pytest
import torch

from vividtalk_core.errors import MissingFileError, WeightsError
from vividtalk_core.face.landmark_model import eye_opening
from vividtalk_core.geometry import project
from vividtalk_core.head import morphable
from vividtalk_core.head.morphable import iris_vertices, landmark_positions, load_morphable, shape, triangles_of
from vividtalk_core.head.topology import (
    INNER_LIP_PAIRS,
    INNER_LIPS,
    LEFT_EYE_CORNERS,
    LEFT_LID_PAIRS,
    OUTER_LIPS,
    RIGHT_LID_PAIRS,
)
from vividtalk_core.hub import resolve_weights, save_tensors
from vividtalk_core.mesh_to_video.rasterizer import rasterize
from vividtalk_core.structures import ARKIT_NAMES, CROP

PARTS = ("skin", "cavity", "left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue",
         "upper_gums", "lower_gums", "lashes")  # fmt: skip


def beta(**coefficients):
    """β [52]; a name without its side sets both."""
    values = torch.zeros(len(ARKIT_NAMES))
    for name, value in coefficients.items():
        for side in (name,) if name in ARKIT_NAMES else (name + "Left", name + "Right"):
            values[ARKIT_NAMES.index(side)] = value
    return values


def head(model, **coefficients):
    return shape(model, torch.zeros(len(model.id_basis)), beta(**coefficients))


def seen(model, vertices, part):
    """Pixels of a part in a frontal 256² picture of vertices [V, 3]."""
    triangles = triangles_of(model, *(p for p in PARTS if p != "lashes"))
    fragments = rasterize(project(vertices)[None], triangles, CROP, CROP)
    faces = fragments.triangle_index[fragments.triangle_index >= 0]
    inside = torch.isin(triangles[faces], triangles_of(model, part)).all(-1)
    return int(inside.sum())


def test_embedded_head(head_model):
    assert 6000 <= len(head_model.mean_shape) <= 7000
    assert len(head_model.id_basis) == 80
    assert head_model.exp_names == ARKIT_NAMES
    assert head_model.part_names == PARTS
    assert 150 <= len(head_model.lip_vertices) <= 450
    assert all(len(triangles_of(head_model, part)) > 50 for part in PARTS)
    assert resolve_weights().file("head.safetensors").stat().st_size <= 5.5e6


def test_triangles_face_outwards(head_model):
    a, b, c = head_model.mean_shape[triangles_of(head_model, "skin", "cavity")].unbind(1)
    volume = float((torch.linalg.cross(a, b) * c).sum() / 6)
    assert 2 < volume < 5  # litres


def test_origin_is_inside_the_head_between_the_ears(head_model):
    skin = head_model.mean_shape[triangles_of(head_model, "skin").unique()]
    assert (skin[skin[:, 1].abs() < 0.2, 0].amax() > 0.6) and (skin[:, 2].amin() < -0.5 < 0.9 < skin[:, 2].amax())


@pytest.mark.parametrize("name", [n for n in ARKIT_NAMES if n.endswith("Left") and n not in ("jawLeft", "mouthLeft")])
def test_left_is_the_subjects_left(head_model, name):
    """+x, as the viewer's right; and the right-hand twin mirrors it."""
    moves = [head_model.exp_basis[ARKIT_NAMES.index(n)].norm(dim=-1) for n in (name, name[:-4] + "Right")]
    middle = [float((m * head_model.mean_shape[:, 0]).sum() / m.sum()) for m in moves]
    assert middle[0] > 0.05
    assert middle[1] == pytest.approx(-middle[0], abs=0.01)


@pytest.mark.parametrize("name", ["jawLeft", "mouthLeft"])
def test_left_moves_to_the_subjects_left(head_model, name):
    assert head_model.exp_basis[ARKIT_NAMES.index(name)][head_model.lip_vertices, 0].mean() > 0.02


def test_landmarks_are_symmetric(head_model):
    points = landmark_positions(head_model, head_model.mean_shape)
    mirrored = torch.cdist(points * torch.tensor([-1.0, 1, 1]), points).amin(1)
    assert mirrored.max() < 0.01


def test_landmarks_lie_on_the_skin(head_model):
    skin = set(map(tuple, triangles_of(head_model, "skin").sort(1).values.tolist()))
    assert all(tuple(t) in skin for t in head_model.landmark_vertices.sort(1).values.tolist())
    assert torch.allclose(head_model.landmark_weights.sum(1), torch.ones(468), atol=1e-5)
    assert head_model.landmark_weights.min() >= -1e-6


def test_lips_are_where_the_landmarks_say(head_model):
    points = landmark_positions(head_model, head(head_model, jawOpen=0.4))
    upper, lower = (points[list(side), 1] for side in zip(*INNER_LIP_PAIRS, strict=True))
    assert (upper - lower).min() > 0.03
    corners = head_model.landmark_vertices[list(INNER_LIPS + OUTER_LIPS)].flatten()
    assert torch.isin(corners, head_model.lip_vertices).float().mean() > 0.95


def test_lower_teeth_follow_the_jaw_and_upper_ones_do_not(head_model):
    jaw = head_model.exp_basis[ARKIT_NAMES.index("jawOpen")]
    assert jaw[triangles_of(head_model, "upper_teeth").unique()].abs().max() == 0
    assert jaw[triangles_of(head_model, "lower_teeth").unique(), 1].max() < -0.05


def test_upper_teeth_end_just_below_the_upper_lip(head_model):
    lip = landmark_positions(head_model, head_model.mean_shape)[13, 1]
    edge = head_model.mean_shape[triangles_of(head_model, "upper_teeth").unique(), 1].amin()
    assert 0.02 < lip - edge < 0.06


@pytest.mark.parametrize(
    "face", [{}, {"mouthSmile": 0.7}, {"mouthPucker": 1}, {"mouthPress": 0.7}, {"jawOpen": 0.3, "mouthClose": 0.3}]
)
def test_closed_lips_hide_the_teeth(head_model, face):
    vertices = head(head_model, **face)
    assert seen(head_model, vertices, "upper_teeth") + seen(head_model, vertices, "lower_teeth") <= 4


def test_open_mouth_shows_teeth_and_cavity_hides_at_rest(head_model):
    opened = head(head_model, jawOpen=0.4)
    assert seen(head_model, opened, "upper_teeth") > 30
    assert seen(head_model, head(head_model), "cavity") == 0


def test_inside_follows_identity(head_model):
    """Where the lips go, the teeth go; where the lids go, the eyes go."""
    landmarks = torch.stack([landmark_positions(head_model, b) for b in head_model.id_basis])
    for part, around in (("upper_teeth", INNER_LIPS), ("left_eye", sum(LEFT_LID_PAIRS, ()))):
        inside = head_model.id_basis[:, triangles_of(head_model, part).unique()].mean(1)  # [I, 3]
        outside = landmarks[:, list(around)].mean(1)
        assert torch.corrcoef(torch.stack((inside[:, 1], outside[:, 1])))[0, 1] > 0.8


def test_blink_closes_the_lids(head_model):
    points = landmark_positions(head_model, torch.stack((head(head_model), head(head_model, eyeBlink=1))))
    assert eye_opening(points, LEFT_LID_PAIRS, LEFT_EYE_CORNERS)[0] > 0.2
    for pairs in (LEFT_LID_PAIRS, RIGHT_LID_PAIRS):
        upper, lower = (points[1, list(side), 1] for side in zip(*pairs, strict=True))
        assert (upper - lower).mean().abs() < 0.012  # about a millimetre: they meet and hardly cross


def test_eyes_look_where_they_should(head_model):
    left, right = iris_vertices(head_model)
    assert head_model.mean_shape[left, 0] > 0 > head_model.mean_shape[right, 0]
    basis = {name: head_model.exp_basis[ARKIT_NAMES.index(name)] for name in ARKIT_NAMES}
    assert basis["eyeLookOutLeft"][left, 0] > 0.03
    assert basis["eyeLookOutRight"][right, 0] < -0.03
    assert basis["eyeLookUpLeft"][left, 1] > 0.02


def test_pose_weight_is_one_on_the_face_and_zero_at_the_collar(head_model):
    points = head_model.mean_shape
    face = landmark_positions(head_model, head_model.pose_weight[:, None].expand(-1, 3))[:, 0]
    assert face.min() > 0.85
    assert face.median() > 0.99
    assert head_model.pose_weight[points[:, 1] < points[:, 1].amin() + 0.02].max() < 0.05
    assert (head_model.pose_weight >= 0).all()
    assert (head_model.pose_weight <= 1).all()


def test_mean_face_fills_half_of_the_crop(head_model):
    points = project(landmark_positions(head_model, head_model.mean_shape))
    size = (points[:, :2].amax(0) - points[:, :2].amin(0)).max()
    assert 0.4 * CROP < size < 0.6 * CROP


def test_shape_is_the_linear_model(head_model):
    generator = torch.Generator().manual_seed(0)
    alpha, betas = torch.randn(80, generator=generator), torch.rand(3, 52, generator=generator)
    reference = head_model.mean_shape.clone().expand(3, -1, -1).clone()
    for i, component in enumerate(head_model.id_basis):
        reference += alpha[i] * component
    for t in range(3):
        for e, component in enumerate(head_model.exp_basis):
            reference[t] += betas[t, e] * component
    assert torch.allclose(shape(head_model, alpha, betas), reference, atol=1e-4)


def test_landmark_positions_are_barycentric(head_model):
    vertices = head_model.mean_shape
    expected = sum(
        weight * vertices[vertex]
        for vertex, weight in zip(head_model.landmark_vertices[13], head_model.landmark_weights[13], strict=True)
    )
    assert torch.allclose(landmark_positions(head_model, vertices)[13], expected, atol=1e-6)


def test_triangles_of_names_what_there_is(head_model):
    with pytest.raises(ValueError, match=r"no part \['beard'\]; its parts are \['skin', 'cavity'"):
        triangles_of(head_model, "skin", "beard")


def test_to_device_keeps_everything(head_model):
    moved = morphable.to_device(head_model, "cpu")
    assert moved.exp_names == head_model.exp_names
    assert torch.equal(moved.triangles, head_model.triangles)


def test_load_says_what_is_missing(tmp_path):
    path = tmp_path / "head.safetensors"
    save_tensors(path, {"mean_shape": torch.zeros(4, 3), "beard": torch.zeros(1)}, {"config": '{"exp_names": ["a"]}'})
    with pytest.raises(
        WeightsError, match=r"not a head 3DMM: missing .*'id_basis'.*'part_names'.*unexpected \['beard'\]"
    ):
        load_morphable(path)


def test_load_refuses_a_truncated_file(tmp_path):
    whole = resolve_weights().file("head.safetensors").read_bytes()
    path = tmp_path / "head.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="truncated"):
        load_morphable(path)
    with pytest.raises(MissingFileError):
        load_morphable(tmp_path / "none.safetensors")
