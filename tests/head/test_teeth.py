"""Teeth and tongue are rigid and sit behind the portrait's own lips."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.head.drive import head_shape
from vividtalk_core.head.morphable import landmark_positions, shape, triangles_of
from vividtalk_core.head.teeth import LIP_SEAM, LOWER_EDGE, UPPER_EDGE, front_edge, place_teeth
from vividtalk_core.structures import ARKIT_NAMES

PARTS = ("upper_teeth", "lower_teeth", "tongue")
GUMS = ("upper_gums", "lower_gums")


def part(face, name):
    return triangles_of(face.model, name).unique()


def with_lips_shifted(face, by):
    """A portrait whose landmarks put the lips elsewhere than the 3DMM."""
    offsets = torch.zeros_like(face.vertex_offsets)
    offsets[face.model.lip_vertices] = torch.tensor(by)
    return replace(face, vertex_offsets=offsets)


def expressive(face, **coefficients):
    own = torch.zeros(52)
    for name, value in coefficients.items():
        own[ARKIT_NAMES.index(name)] = value
    return replace(face, exp_coefficients=own)


def test_biting_edges_lie_where_the_closed_lips_meet(synthetic_face):
    head = head_shape(synthetic_face)
    seam = landmark_positions(synthetic_face.model, synthetic_face.model.mean_shape)[list(LIP_SEAM), 1].mean()
    for name, edge, side in (("upper_teeth", UPPER_EDGE, -1.0), ("lower_teeth", LOWER_EDGE, 1.0)):
        found = front_edge(head[part(synthetic_face, name)], side)
        assert found == pytest.approx(float(seam) + edge, abs=1e-5)


def test_only_teeth_and_tongue_are_placed(synthetic_face):
    head = synthetic_face.model.mean_shape + 0.01
    placed = place_teeth(synthetic_face, head)
    rest = torch.ones(len(head), dtype=torch.bool)
    rest[triangles_of(synthetic_face.model, *PARTS, *GUMS).unique()] = False
    assert torch.equal(placed[rest], head[rest])
    assert torch.equal(head, synthetic_face.model.mean_shape + 0.01)  # the given head is left as it was


@pytest.mark.parametrize("name", PARTS + GUMS)
def test_they_are_moved_as_a_whole(synthetic_face, name):
    face = with_lips_shifted(synthetic_face, (0.02, 0.05, 0.03))
    vertices = part(face, name)
    shift = place_teeth(face, face.model.mean_shape)[vertices] - face.model.mean_shape[vertices]
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), atol=1e-6, rtol=0)
    assert shift[0, 0] == shift[0, 2] == 0  # up or down, never sideways


@pytest.mark.parametrize("rise", [-0.06, 0.06])
def test_teeth_follow_lips_that_lie_higher_or_lower(synthetic_face, rise):
    own = head_shape(synthetic_face)
    other = head_shape(with_lips_shifted(synthetic_face, (0.0, rise, 0.0)))
    for name in PARTS:
        vertices = part(synthetic_face, name)
        torch.testing.assert_close(other[vertices, 1] - own[vertices, 1], torch.full((len(vertices),), rise))


def test_a_stray_offset_of_the_teeth_themselves_is_dropped(synthetic_face):
    offsets = torch.zeros_like(synthetic_face.vertex_offsets)
    teeth = part(synthetic_face, "upper_teeth")
    offsets[teeth] = torch.rand(len(teeth), 3)
    bent = replace(synthetic_face, vertex_offsets=offsets)
    torch.testing.assert_close(head_shape(bent)[teeth], head_shape(synthetic_face)[teeth])


def test_the_jaw_carries_the_lower_teeth_and_not_the_upper(synthetic_face):
    closed, opened = (head_shape(face) for face in (synthetic_face, expressive(synthetic_face, jawOpen=0.6)))
    upper, lower = (part(synthetic_face, name) for name in PARTS[:2])
    torch.testing.assert_close(opened[upper], closed[upper], atol=2e-3, rtol=0)
    assert (opened[lower, 1] - closed[lower, 1]).mean() < -0.05
    jaw = synthetic_face.model.exp_basis[ARKIT_NAMES.index("jawOpen")][lower] * 0.6
    torch.testing.assert_close(opened[lower] - closed[lower], jaw, atol=1e-5, rtol=0)


def test_a_smile_does_not_bend_the_teeth(synthetic_face):
    smile = expressive(synthetic_face, mouthSmileLeft=1.0, mouthSmileRight=1.0)
    for name in PARTS[:2]:
        row = part(synthetic_face, name)
        one, other = head_shape(synthetic_face)[row], head_shape(smile)[row]
        torch.testing.assert_close(torch.cdist(one, one), torch.cdist(other, other), atol=2e-3, rtol=0)


def test_another_identity_has_its_own_seam(synthetic_face):
    alpha = torch.zeros_like(synthetic_face.id_coefficients)
    alpha[0] = 2.0
    face = replace(synthetic_face, id_coefficients=alpha)
    seam = landmark_positions(face.model, shape(face.model, alpha, torch.zeros(52)))[list(LIP_SEAM), 1].mean()
    edge = front_edge(head_shape(face)[part(face, "upper_teeth")], -1.0)
    assert edge == pytest.approx(float(seam) + UPPER_EDGE, abs=1e-5)


def test_thefront_edge_ignores_the_molars():
    row = torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.2, 0.95], [0.0, -5.0, 0.5], [0.0, 5.0, 0.5]])
    assert front_edge(row, -1.0) == 0.0
    assert front_edge(row, 1.0) == pytest.approx(0.2)
