"""Dental arches: anatomy in millimetres, surfaces that face outwards, and rigid motion."""

import numpy as np
import pytest

from vividtalk_core.assets.head_teeth import LOWER, MM, SURFACE_PARTS, UPPER, arch_motion, make_arch

ARCHES = pytest.mark.parametrize("arch", [UPPER, LOWER], ids=["upper", "lower"])


def of_part(surface, name):
    """Points [N, 3] mm of a part."""
    chosen = surface.triangles[surface.parts == SURFACE_PARTS.index(name)]
    return surface.points[np.unique(chosen)] / MM


@ARCHES
def test_an_arch_has_the_size_of_a_persons(arch):
    crowns = of_part(make_arch(arch), "teeth")
    width = crowns[:, 0].max() - crowns[:, 0].min()
    assert 48 < width < 62  # mm between the outsides of the first molars
    assert 28 < crowns[:, 2].max() - crowns[:, 2].min() < 40
    assert crowns[:, 2].max() == pytest.approx(0)


@ARCHES
def test_edges_of_the_front_teeth_lie_in_one_plane(arch):
    crowns = of_part(make_arch(arch), "teeth")
    front = crowns[crowns[:, 2] > -8]
    edge = (front[:, 1] * arch.side).max()
    assert edge == pytest.approx(0, abs=0.01)
    assert (crowns[:, 1] * arch.side <= 0.01).all()  # all else lies on the root's side of the edges


@ARCHES
def test_an_arch_is_symmetric(arch):
    points = of_part(make_arch(arch), "teeth")
    nearest = np.linalg.norm(points[:, None] * (-1, 1, 1) - points[None], axis=-1).min(1)
    assert nearest.max() < 0.01  # mm


@ARCHES
def test_fronts_of_crowns_and_gums_face_outwards(arch):
    surface = make_arch(arch)
    a, b, c = (surface.points[surface.triangles[:, k]] for k in range(3))
    normals, middle = np.cross(b - a, c - a), (a + b + c) / 3
    front = middle[:, 2] > -0.04
    # the gum everywhere, and crowns where they are foremost
    gum = surface.parts == SURFACE_PARTS.index("gums")
    assert (normals[front & gum, 2] > 0).mean() > 0.9
    # the backs, which face backwards, lie behind the edges of their crowns
    foremost = front & ~gum & (middle[:, 2] > -0.012)
    assert foremost.sum() > 20
    assert (normals[foremost, 2] > 0).mean() > 0.8


def test_crowns_are_as_wide_as_the_tables_say():
    """From mid-line to the contact of the central incisor with the lateral one."""
    crowns = of_part(make_arch(UPPER), "teeth")
    central = crowns[(crowns[:, 2] > -2.5) & (crowns[:, 0] > 0.01) & (crowns[:, 0] < 8.6)]
    assert central[:, 0].max() == pytest.approx(8.5, abs=0.5)


def test_an_affine_motion_of_the_band_is_that_of_the_arch():
    random = np.random.default_rng(0)
    band, points = random.normal(size=(40, 3)), random.normal(size=(7, 3))
    turn, shift = random.normal(size=(2, 3, 3)) * 0.1, random.normal(size=(2, 1, 3))
    moved = arch_motion(band, band @ turn + shift, points)
    np.testing.assert_allclose(moved, points @ turn + shift, atol=1e-9)
