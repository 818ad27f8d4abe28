"""The light of a portrait: what a matte head of known light shows is found again."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.geometry import vertex_normals
from vividtalk_core.mesh_to_video.light import RANGE, brightness, harmonics, light_direction, portrait_light
from vividtalk_core.mesh_to_video.rasterizer import interpolate
from vividtalk_core.mesh_to_video.source_view import view_source


@pytest.fixture(scope="module")
def view(synthetic_face):
    return view_source(synthetic_face)


def light_of(view):
    return portrait_light(view.face, view.mesh, view.fragments, view.regions)


def lit_view(view, light):
    """The portrait painted in one colour and lit."""
    normals = vertex_normals(view.mesh.vertices[0], view.mesh.triangles)
    seen = interpolate(normals, view.mesh.triangles, view.fragments)[0]
    shade = (harmonics(F.normalize(seen, dim=-1)) @ light).clamp(0.05, 1.6)
    image = (0.5 * shade).expand(1, 3, 256, 256).contiguous()
    return replace(view, face=replace(view.face, image=image))


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_the_lit_side_is_found(view, side):
    light = torch.zeros(9)
    light[0], light[3] = 1.0, 0.35 * side
    found = light_of(lit_view(view, light))
    left, right = torch.tensor([[-0.6, 0.0, 0.8], [0.6, 0.0, 0.8]])
    assert float(brightness(found, right) - brightness(found, left)) * side == pytest.approx(0.42, abs=0.12)
    assert float(light_direction(found)[0]) * side > 0.5
    assert light_direction(found).norm() == pytest.approx(1, abs=1e-5)


def test_an_even_light_stays_even(view):
    light = torch.zeros(9)
    light[0] = 1
    found = light_of(lit_view(view, light))
    normals = F.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).abs(), dim=-1)
    torch.testing.assert_close(brightness(found, normals), torch.ones(50), atol=0.03, rtol=0)


def test_a_dark_beard_does_not_turn_the_light(view):
    light = torch.zeros(9)
    light[0], light[3] = 1.0, 0.3
    clean = lit_view(view, light)
    image = clean.face.image.clone()
    image[:, :, 190:, :] *= 0.3
    bearded = replace(clean, face=replace(clean.face, image=image))
    normals = torch.tensor([[-0.6, 0.0, 0.8], [0.0, 0.0, 1.0], [0.6, 0.0, 0.8]])
    one, other = (brightness(light_of(v), normals) for v in (clean, bearded))
    assert float(other[2] / other[0]) == pytest.approx(float(one[2] / one[0]), rel=0.15)


def test_without_skin_the_light_is_even(view):
    found = light_of(replace(view, face=replace(view.face, face_mask=torch.zeros(1, 1, 256, 256))))
    assert found.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0]


def test_brightness_is_bounded():
    light = torch.zeros(9)
    light[3] = 10.0
    found = brightness(light, torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]]))
    assert found.tolist() == pytest.approx(RANGE)


def test_the_view_of_a_portrait_holds_its_light(synthetic_face, view):
    assert torch.equal(view.light, light_of(view))
