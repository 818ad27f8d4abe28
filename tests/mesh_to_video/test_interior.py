"""The mouth's inside: its colours and its light come from the portrait, its surfaces from the head."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.geometry import project
from vividtalk_core.head.drive import drive_mesh
from vividtalk_core.head.morphable import vertices_of
from vividtalk_core.mesh_to_video.interior import (
    BRIGHTEST,
    LOWER_TEETH,
    InteriorShader,
    Surfaces,
    lip_shadow,
    mouth_palette,
)
from vividtalk_core.mesh_to_video.source_view import view_source
from vividtalk_core.pixels import luma
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion

SIZE = (60, 80)  # h, w of a painting
BOX = torch.tensor([100.0, 150.0, 140.0, 180.0])  # px of the crop: 2 px of painting per px


@pytest.fixture(scope="module")
def view(synthetic_face):
    return view_source(synthetic_face)


@pytest.fixture(scope="module")
def shader(view):
    return InteriorShader(view)


def tinted(face, skin):
    """The portrait in one colour."""
    return replace(face, image=torch.tensor(skin).view(1, 3, 1, 1).expand(1, 3, 256, 256).contiguous())


def opened(face, yaw=0.0, **coefficients):
    """[V, 3] the portrait's mesh with some coefficients, turned."""
    row = torch.zeros(1, 52)
    for name, value in {"jawOpen": 0.5, **coefficients}.items():
        row[0, ARKIT_NAMES.index(name)] = value
    expression = Expression.from_rest(row, torch.zeros(1, len(face.model.lip_vertices), 3), 25.0)
    turn = torch.tensor([[0.0, yaw, 0.0]])
    return drive_mesh(face, expression, HeadMotion(turn, torch.zeros(1, 3), 25.0)).vertices[0]


def mouth_box(vertices, face):
    """[4] px of the crop around the teeth of a mesh."""
    teeth = project(vertices[None])[0, vertices_of(face.model, "upper_teeth", "lower_teeth"), :2]
    middle = (teeth.amin(0) + teeth.amax(0)) / 2
    return torch.cat((middle - 30, middle + 30))


def plain(part="", outward=1.0, depth=None, shader=None):
    """One kind of surface everywhere, facing the viewer."""
    full = torch.ones(9, 9)
    return Surfaces(
        enamel=full * {"upper": 1.0, "lower": LOWER_TEETH}.get(part, 0.0),
        gum=full.bool() & (part == "gum"),
        tongue=full.bool() & (part == "tongue"),
        aside=full * 0.2,
        depth=full * (shader.front if depth is None else depth),
        outward=full * outward,
        normal=torch.tensor([0.0, 0.0, 1.0]).expand(9, 9, 3),
    )


def test_a_black_and_white_portrait_gets_a_mouth_without_tint(synthetic_face, view):
    grey = replace(synthetic_face, image=synthetic_face.image.mean(1, keepdim=True).expand(-1, 3, -1, -1).contiguous())
    palette = mouth_palette(replace(view, face=grey))
    for color in (palette.enamel, palette.gum, palette.tongue, palette.cavity):
        assert float(color.amax() - color.amin()) < 1e-6
    assert palette.enamel.mean() > palette.gum.mean() > palette.tongue.mean() > palette.cavity.mean()


def test_a_coloured_portrait_gets_a_red_mouth_and_warm_teeth(synthetic_face, view):
    palette = mouth_palette(replace(view, face=tinted(synthetic_face, [0.8, 0.6, 0.5])))
    for color in (palette.enamel, palette.gum, palette.tongue, palette.cavity):
        assert color[0] > color[1]
        assert color[0] > color[2]
    # no more tinted than the skin
    assert palette.enamel[0] / palette.enamel[2] <= 0.8 / 0.5 + 1e-6


def test_amber_eyes_do_not_give_amber_teeth(synthetic_face, view):
    image = torch.tensor([0.8, 0.65, 0.58]).view(1, 3, 1, 1).expand(1, 3, 256, 256).contiguous()
    eyes = view.eyes[0, 0] > 0
    assert eyes.sum() > 12
    image[0, :, eyes] = torch.tensor([[0.8], [0.5], [0.1]])
    enamel = mouth_palette(replace(view, face=replace(synthetic_face, image=image))).enamel
    assert enamel[2] / enamel[0] > 0.65


def test_a_dark_portrait_gets_a_dark_mouth(synthetic_face, view):
    bright, dark = (
        mouth_palette(replace(view, face=tinted(synthetic_face, [v, 0.8 * v, 0.7 * v]))) for v in (0.8, 0.2)
    )
    for name in ("gum", "tongue", "cavity"):
        assert (getattr(dark, name) < 0.5 * getattr(bright, name)).all()
    # by the root: teeth of people in the dark are brighter beside their skin
    assert (dark.enamel < 0.6 * bright.enamel).all()
    assert luma(dark.enamel[:, None, None]) > 0.3 * luma(bright.enamel[:, None, None])


def test_without_a_face_mask_the_palette_is_still_one(synthetic_face, view):
    palette = mouth_palette(replace(view, face=replace(synthetic_face, face_mask=torch.zeros(1, 1, 256, 256))))
    assert all(torch.isfinite(color).all() for color in (palette.enamel, palette.tongue, palette.cavity))
    assert palette.enamel.amax() <= BRIGHTEST


def test_teeth_gums_tongue_and_cavity_are_separated(synthetic_face, shader):
    vertices = opened(synthetic_face)
    seen = shader.surfaces(vertices, mouth_box(vertices, synthetic_face), 2.0, 120, 120)
    assert seen.enamel.unique().tolist() == pytest.approx([0.0, LOWER_TEETH, 1.0])
    kinds = torch.stack((seen.enamel > 0, seen.gum, seen.tongue)).sum(0)
    assert kinds.amax() == 1, "each pixel shows one of them"
    assert (kinds == 0).any(), "or the cavity"
    assert seen.gum.any()
    assert seen.tongue.any()
    rows = torch.arange(120)[:, None].expand(120, 120)
    upper, lower = (rows[value].float().mean() for value in (seen.enamel == 1, seen.enamel == LOWER_TEETH))
    assert upper < lower


def test_each_part_has_its_own_colour(shader):
    colors = {
        part: shader.shade(plain(part, shader=shader))[:, 4, 4] for part in ("upper", "lower", "gum", "tongue", "")
    }
    torch.testing.assert_close(colors["lower"], colors["upper"] * LOWER_TEETH)
    assert colors["upper"].mean() > colors["gum"].mean() > colors[""].mean()
    assert colors["upper"].mean() > colors["tongue"].mean() > colors[""].mean()
    torch.testing.assert_close(colors[""], shader.palette.cavity)


def test_gaps_between_crowns_and_the_depth_of_the_mouth_are_dark(shader):
    front = shader.shade(plain("upper", shader=shader))
    assert (shader.shade(plain("upper", outward=0.0, shader=shader)) < 0.7 * front).all()
    assert (shader.shade(plain("upper", depth=shader.front - 0.5, shader=shader)) < 0.7 * front).all()


def test_lips_shade_what_is_behind_them_the_upper_one_most():
    opening = torch.zeros(60, 80)
    opening[20:40, 10:70] = 1
    shadow = lip_shadow(opening)
    assert shadow[30, 40] > shadow[38, 40] > shadow[21, 40]
    assert lip_shadow(torch.ones(60, 80))[30, 40] == 1


def test_only_what_is_seen_between_the_lips_is_computed(synthetic_face, shader):
    vertices = opened(synthetic_face)
    box = mouth_box(vertices, synthetic_face)
    opening = torch.zeros(120, 120)
    opening[50:80, 40:90] = 1
    color = shader.paint(vertices, box, 2, opening)
    moved = shader.paint(vertices, box + torch.tensor([5.0, 4.0, 5.0, 4.0]), 2, opening.roll((-8, -10), (0, 1)))
    torch.testing.assert_close(moved[:, 42:72, 30:80], color[:, 50:80, 40:90], atol=0.02, rtol=0)
    outside = torch.ones(120, 120, dtype=torch.bool)
    outside[50:80, 40:90] = False
    assert (color[:, outside] == shader.palette.cavity[:, None]).all()
    assert (shader.paint(vertices, box, 2, torch.zeros(120, 120)) == shader.palette.cavity[:, None, None]).all()


def test_teeth_are_rigid(synthetic_face, shader):
    """With the jaw at rest no expression of the lips changes a pixel of the teeth."""
    still, smiling = (
        opened(synthetic_face, **curves) for curves in ({}, {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8})
    )
    box = mouth_box(still, synthetic_face)
    one, other = (shader.surfaces(vertices, box, 2.0, 120, 120) for vertices in (still, smiling))
    assert torch.equal(one.enamel, other.enamel)


def test_the_light_of_the_portrait_shades_the_teeth(synthetic_face):
    ramp = torch.linspace(0.25, 0.9, 256).expand(1, 3, 256, 256).contiguous()
    shader = InteriorShader(view_source(replace(synthetic_face, image=ramp)))
    vertices = opened(synthetic_face)
    seen = shader.surfaces(vertices, mouth_box(vertices, synthetic_face), 2.0, 120, 120)
    color = shader.shade(seen).mean(0)
    upper = (seen.enamel == 1) & (seen.outward > 0.8)
    columns = torch.arange(120).expand(120, 120)
    assert color[upper & (columns > 75)].mean() > 1.08 * color[upper & (columns < 45)].mean()
