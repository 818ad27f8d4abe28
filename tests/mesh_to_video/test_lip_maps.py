"""Gaussian maps of lip landmarks: where the bumps are, and what their difference says."""

import math

import pytest
import torch

from vividtalk_core.geometry import project
from vividtalk_core.head.drive import face_mesh
from vividtalk_core.head.morphable import landmark_positions
from vividtalk_core.head.topology import INNER_LIPS, OUTER_LIPS
from vividtalk_core.mesh_to_video.lip_maps import LANDMARKS, SIGMA_PX, SIZE, lip_maps
from vividtalk_core.structures import CROP, MeshSequence


@pytest.fixture(scope="module")
def mesh(synthetic_face):
    return face_mesh(synthetic_face)


def moved(mesh, x=0.0, y=0.0, frames=1):
    """The mesh shifted in camera space."""
    return MeshSequence(mesh.vertices.repeat(frames, 1, 1) + torch.tensor([x, y, 0.0]), mesh.triangles, mesh.fps)


def far_away(mesh):
    """A reference whose bumps lie outside the maps: what is left are the driven ones."""
    return moved(mesh, x=100.0)


def test_every_second_landmark_of_both_contours_has_a_map(synthetic_face, mesh):
    assert len(LANDMARKS) == 20
    assert set(LANDMARKS) <= set(OUTER_LIPS) | set(INNER_LIPS)
    assert lip_maps(synthetic_face, mesh, moved(mesh, frames=3)).shape == (3, 20, SIZE, SIZE)


def test_the_same_mesh_gives_exactly_nothing(synthetic_face, mesh):
    assert (lip_maps(synthetic_face, mesh, mesh) == 0).all()


def test_each_bump_lies_on_its_landmark(synthetic_face, mesh):
    maps = lip_maps(synthetic_face, far_away(mesh), mesh)[0]
    points = project(landmark_positions(synthetic_face.model, mesh.vertices[0])[list(LANDMARKS)])[:, :2] / (CROP / SIZE)
    ticks = torch.arange(SIZE) + 0.5
    mass = maps.sum((1, 2))
    x = (maps.sum(1) * ticks).sum(-1) / mass
    y = (maps.sum(2) * ticks).sum(-1) / mass
    torch.testing.assert_close(torch.stack((x, y), -1), points, atol=0.02, rtol=0)


def test_a_bump_is_a_gaussian_of_the_stated_width(synthetic_face, mesh):
    maps = lip_maps(synthetic_face, far_away(mesh), mesh)[0]
    torch.testing.assert_close(maps.sum((1, 2)), torch.full((20,), 2 * math.pi * SIGMA_PX**2), rtol=1e-3, atol=0)
    assert maps.amax() <= 1
    points = project(landmark_positions(synthetic_face.model, mesh.vertices[0])[LANDMARKS[0]])[:2] / (CROP / SIZE)
    column, row = points.floor().long().tolist()
    squared = float(((points - torch.tensor([column + 0.5, row + 0.5])) ** 2).sum())
    assert float(maps[0, row, column]) == pytest.approx(math.exp(-squared / (2 * SIGMA_PX**2)), rel=1e-4)


def test_motion_is_positive_where_lips_go_and_negative_where_they_were(synthetic_face, mesh):
    maps = lip_maps(synthetic_face, mesh, moved(mesh, y=-0.2))[0]
    rows = torch.arange(SIZE) + 0.5
    gone = (maps.clamp(max=0).abs().sum(2) * rows).sum(-1) / maps.clamp(max=0).abs().sum((1, 2))
    come = (maps.clamp(min=0).sum(2) * rows).sum(-1) / maps.clamp(min=0).sum((1, 2))
    assert (come > gone + 2).all()
    torch.testing.assert_close(maps.sum((1, 2)), torch.zeros(20), atol=0.01, rtol=0)


def test_swapping_the_meshes_swaps_the_sign(synthetic_face, mesh):
    other = moved(mesh, x=0.1)
    forwards, backwards = lip_maps(synthetic_face, mesh, other), lip_maps(synthetic_face, other, mesh)
    torch.testing.assert_close(forwards, -backwards)


def test_frames_are_independent(synthetic_face, mesh):
    driven = moved(mesh, frames=2)
    driven.vertices[1] += torch.tensor([0.0, -0.1, 0.0])
    maps = lip_maps(synthetic_face, mesh, driven)
    assert (maps[0] == 0).all()
    assert torch.equal(maps[1:], lip_maps(synthetic_face, mesh, moved(mesh, y=-0.1)))
