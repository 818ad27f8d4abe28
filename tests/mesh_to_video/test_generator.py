"""Stage 2 in closed form, on the mean head before a random picture."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.filters import blur
from vividtalk_core.geometry import vertex_normals
from vividtalk_core.head.drive import drive_mesh
from vividtalk_core.mesh_to_video.dense_motion import estimate_motion
from vividtalk_core.mesh_to_video.generator import compose, generate_frames, painted_alpha, smooth_change
from vividtalk_core.mesh_to_video.generator_network import FrameGenerator
from vividtalk_core.mesh_to_video.interior import mouth_palette
from vividtalk_core.mesh_to_video.lip_maps import lip_maps
from vividtalk_core.mesh_to_video.ncc import ncc_colors, reference_texture, render_ncc
from vividtalk_core.mesh_to_video.paint import paint_over
from vividtalk_core.mesh_to_video.paste import crop_portrait, paste_back
from vividtalk_core.mesh_to_video.preview import draw_flow, draw_landmarks, draw_mesh
from vividtalk_core.mesh_to_video.regions import find_regions
from vividtalk_core.mesh_to_video.source_view import view_source
from vividtalk_core.structures import (
    ARKIT_NAMES,
    DenseMotion,
    Expression,
    GeneratedFrames,
    HeadMotion,
    MeshSequence,
    NccRender,
    Paint,
)


@pytest.fixture(scope="module")
def view(synthetic_face):
    return view_source(synthetic_face)


@pytest.fixture(scope="module")
def driven(synthetic_face, view):
    """Three frames: still, mouth open, head turned; with everything that stage 2 makes of them."""
    coefficients, rotation = torch.zeros(3, 52), torch.zeros(3, 3)
    coefficients[1, ARKIT_NAMES.index("jawOpen")] = 0.5
    rotation[2] = torch.tensor([0.05, 0.15, 0.1])
    lips = torch.zeros(3, len(synthetic_face.model.lip_vertices), 3)
    expression = Expression(coefficients, lips, 25.0, torch.zeros(52), lips[0])
    mesh = drive_mesh(synthetic_face, expression, HeadMotion(rotation, torch.zeros(3, 3), 25.0))
    render = render_ncc(view, mesh)
    motion = estimate_motion(render)
    return mesh, render, motion, generate_frames(render, motion)


@pytest.fixture(scope="module")
def portrait(synthetic_face):
    crop = synthetic_face.crop
    canvas = torch.rand(1, 3, crop.height, crop.width, generator=torch.Generator().manual_seed(1))
    canvas[:, :, crop.top : crop.top + 256, crop.left : crop.left + 256] = synthetic_face.image
    return canvas


def test_regions_are_where_their_names_say(synthetic_face):
    model, regions = synthetic_face.model, find_regions(synthetic_face.model)
    inner = model.mean_shape[regions.inner_face > 0.5]
    assert inner[:, 2].amin() > -0.1
    assert regions.rigid.sum() > 50
    assert model.mean_shape[regions.rigid][:, 1].mean() > model.mean_shape[:, 1].mean()
    assert not (regions.eyes & regions.interior).any()
    lashes = model.part_names.index("lashes")
    assert not regions.drawn[model.triangle_parts == lashes].any()


def test_ncc_spans_zero_to_one(synthetic_face):
    colors = ncc_colors(synthetic_face.model)
    assert colors.amin(0).tolist() == [0, 0, 0]
    assert colors.amax(0).tolist() == [1, 1, 1]


def test_ncc_marks_the_same_surface_point_in_every_frame(driven):
    _, render, _, _ = driven
    covered = render.fragments.triangle_index >= 0
    assert (render.ncc.movedim(1, -1)[~covered] == 0).all()
    assert covered[0].float().mean() > 0.1


def test_projected_texture_is_the_portrait_outside_the_face(synthetic_face, driven):
    _, render, _, _ = driven
    torch.testing.assert_close(render.projected_texture[0, :, :8], synthetic_face.image[0, :, :8])
    assert (render.projected_texture[0] - render.ncc[0]).abs().amax(0).amin() < 1e-4


def test_lip_maps_are_zero_without_motion_and_signed_with_it(synthetic_face, driven, view):
    mesh, render, _, _ = driven
    assert (render.lip_maps[0] == 0).all()
    assert render.lip_maps[1].amax() > 0.2
    assert render.lip_maps[1].amin() < -0.2
    torch.testing.assert_close(lip_maps(synthetic_face, view.mesh, mesh), render.lip_maps)


def test_normals_point_out_of_a_tetrahedron():
    corners = torch.tensor([[1.0, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])
    triangles = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    normals = vertex_normals(corners, triangles)
    assert ((normals * corners).sum(-1) > 0.9).all()


def test_no_motion_is_exactly_no_flow_and_no_paint(driven):
    _, _, motion, frames = driven
    assert (motion.flow[0] == 0).all()
    assert all((paint.alpha[0] == 0).all() for paint in frames.paints)


def test_flow_points_back_to_where_the_surface_was(synthetic_face, driven, view):
    """On the face the flow is the difference of the two projections of one surface point, by definition."""
    _, render, motion, _ = driven
    from vividtalk_core.geometry import project

    vertices = render.mesh.vertices[2]
    nose = int((synthetic_face.model.mean_shape[:, 2] * (view.regions.inner_face > 0.9)).argmax())
    there, here = project(vertices[nose])[:2], view.pixels[nose, :2]
    x, y = (there - 0.5).round().long().tolist()
    flow_px = motion.flow[2, y, x] * 128
    torch.testing.assert_close(flow_px, here - there, atol=0.7, rtol=0.1)


def test_motion_dies_out_before_the_border(driven):
    _, _, motion, _ = driven
    for edge in (motion.flow[:, 0], motion.flow[:, -1], motion.flow[:, :, 0], motion.flow[:, :, -1]):
        assert (edge == 0).all()


def test_an_open_mouth_is_painted_inside_and_only_there(driven):
    _, _, _, frames = driven
    alpha = frames.paints[0].alpha
    assert alpha[1].mean() > 0.02
    assert alpha[1].mean() > 10 * alpha[2].mean()
    assert frames.paints[0].color[1].amax() <= 1


def test_paint_over_leaves_the_rest_untouched():
    image = torch.rand(1, 3, 64, 64)
    alpha = torch.zeros(1, 1, 20, 20)
    alpha[:, :, 8:12, 8:12] = 1
    paint = Paint(torch.ones(1, 3, 20, 20), alpha, torch.tensor([[10.0, 10.0, 30.0, 30.0]]))
    out = paint_over(image, paint, 1.0)
    assert torch.equal(out[..., 40:], image[..., 40:])
    assert (out[0, :, 19, 19] > 0.9).all()


def test_palette_is_no_brighter_than_white(synthetic_face, view):
    palette = mouth_palette(view)
    for color in (palette.enamel, palette.tongue, palette.cavity):
        assert 0 <= color.amin() <= color.amax() <= 0.92
    assert palette.cavity.mean() < palette.enamel.mean()


def test_blur_keeps_a_constant_and_the_shape():
    torch.testing.assert_close(blur(torch.full((2, 3, 9, 9), 0.3), 2.0), torch.full((2, 3, 9, 9), 0.3))


def test_zero_motion_gives_the_portrait_back_bit_for_bit(synthetic_face, driven, portrait):
    out = paste_back(portrait, synthetic_face, driven[3])
    assert torch.equal(out[0], portrait[0])


def test_what_does_not_move_is_the_portraits_own(synthetic_face, driven, portrait):
    out = paste_back(portrait, synthetic_face, driven[3])
    crop = synthetic_face.crop
    outside = torch.ones(crop.height, crop.width, dtype=torch.bool)
    outside[crop.top : crop.top + 256, crop.left : crop.left + 256] = False
    assert torch.equal(out[:, :, outside], portrait.expand(3, -1, -1, -1)[:, :, outside])
    assert (out[1] != portrait[0]).any()


def test_paste_agrees_with_the_composed_crop(synthetic_face, driven, portrait):
    """At a crop of 256 px native and composed frames are the same picture, but for the interpolation."""
    crop = synthetic_face.crop
    out = paste_back(portrait, synthetic_face, driven[3])[:, :, crop.top : crop.top + 256, crop.left : crop.left + 256]
    assert (out - compose(synthetic_face, driven[3])).abs().mean() < 0.01


def test_a_crop_that_overhangs_repeats_the_border(synthetic_face, portrait):
    crop = replace(synthetic_face.crop, left=-10, top=-5)
    part = crop_portrait(portrait, crop)
    assert part.shape == (1, 3, 256, 256)
    assert torch.equal(part[0, :, 100, 0], portrait[0, :, 95, 0])


def test_an_overhanging_crop_is_pasted_inside_the_portrait(synthetic_face, driven, portrait):
    face = replace(synthetic_face, crop=replace(synthetic_face.crop, left=-60, top=-50))
    out = paste_back(portrait, face, driven[3])
    assert out.shape == (3, *portrait.shape[1:])
    assert torch.isfinite(out).all()


def test_progress_reports_and_may_cancel(synthetic_face, driven, portrait):
    seen = []
    paste_back(portrait, synthetic_face, driven[3], lambda done, total, frame: seen.append((done, total, frame.shape)))
    assert seen[-1] == (3, 3, portrait.shape[1:])

    def cancel(done, total, frame):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        estimate_motion(driven[1], progress=cancel)


def test_another_portrait_is_refused(synthetic_face, driven):
    with pytest.raises(ValueError, match="340×300 portrait, this one is 64×64"):
        paste_back(torch.rand(1, 3, 64, 64), synthetic_face, driven[3])


def test_another_heads_mesh_is_refused(view):
    mesh = MeshSequence(torch.zeros(1, 7, 3), torch.zeros(1, 3, dtype=torch.int64), 25.0)
    with pytest.raises(ValueError, match="The mesh has 7 vertices"):
        render_ncc(view, mesh)


def test_previews_are_pictures(synthetic_face, driven):
    mesh, _, motion, _ = driven
    for picture, frames in (
        (draw_landmarks(synthetic_face), 1),
        (draw_mesh(synthetic_face, mesh), 3),
        (draw_flow(motion), 3),
    ):
        assert picture.shape == (frames, 3, 256, 256)
        assert 0 <= picture.amin() <= picture.amax() <= 1
    assert (draw_flow(motion)[0] == 1).all()


# ---- what the generator changes


@pytest.fixture(scope="module")
def corrected(synthetic_face, view, driven, frame_generator):
    """The same frames with the changes of a small random generator."""
    _, render, motion, _ = driven
    return generate_frames(render, motion, model=frame_generator)


def test_what_the_generator_changes_has_no_noise_of_single_pixels():
    base = 0.2 + 0.3 * torch.rand(1, 3, 64, 64)
    noise = torch.zeros(1, 3, 64, 64)
    noise[..., ::2, ::2] = 0.2
    broad = torch.zeros(1, 3, 64, 64)
    broad[..., 16:48, 16:48] = 0.2
    change = smooth_change(base, base + noise + broad) - base
    torch.testing.assert_close(change[..., 30:34, 30:34], torch.full((1, 3, 4, 4), 0.25), atol=0.005, rtol=0)
    assert torch.equal(smooth_change(base, base), base)


def test_changes_are_one_more_layer_over_what_the_closed_form_made(synthetic_face, driven, corrected):
    closed = driven[3]
    assert len(corrected.paints) == len(closed.paints) + 1
    *interior, changes, seam = corrected.paints
    for mine, its in zip((*interior, seam), closed.paints, strict=True):
        assert torch.equal(mine.color, its.color) and torch.equal(mine.alpha, its.alpha)
    assert torch.equal(changes.beneath, compose(synthetic_face, closed))
    assert changes.box.tolist() == [[0, 0, 256, 256]] * 3
    expected = changes.beneath + changes.alpha * (changes.color - changes.beneath)
    torch.testing.assert_close(compose(synthetic_face, corrected), expected, atol=1e-5, rtol=0)
    assert (expected - changes.beneath).abs().amax() > 1e-3


def test_strength_is_how_much_of_them_is_laid_on(synthetic_face, view, driven, corrected, frame_generator):
    _, render, motion, closed = driven
    none = generate_frames(render, motion, model=frame_generator, strength=0.0)
    assert len(none.paints) == len(closed.paints)
    half = generate_frames(render, motion, model=frame_generator, strength=0.5).paints[-2]
    torch.testing.assert_close(half.alpha, corrected.paints[-2].alpha / 2)
    assert torch.equal(half.color, corrected.paints[-2].color)


def test_an_untrained_generator_changes_nothing(synthetic_face, view, driven, portrait, frame_generator):
    _, render, motion, closed = driven
    untrained = FrameGenerator(frame_generator.config).eval()
    frames = generate_frames(render, motion, model=untrained)
    assert frames.paints[-2].alpha[1:].amax() > 0.1
    pasted = [paste_back(portrait, synthetic_face, each) for each in (frames, closed)]
    torch.testing.assert_close(*pasted, atol=1e-5, rtol=0)  # a larger window is warped: bicubic taps round otherwise


def test_a_still_frame_and_the_background_keep_every_bit(synthetic_face, view, driven, corrected, portrait):
    alpha = corrected.paints[-2].alpha
    assert (alpha[0] == 0).all() and alpha[1].any() and alpha[2].any()
    shut = view.follow * view.border == 0
    assert (alpha[:, 0, shut] == 0).all()
    out = paste_back(portrait, synthetic_face, corrected)
    assert torch.equal(out[0], portrait[0])
    crop, closed = synthetic_face.crop, paste_back(portrait, synthetic_face, driven[3])
    inside = (..., slice(crop.top, crop.top + 256), slice(crop.left, crop.left + 256))
    # the rim of background that the head carries is sampled in another window: equal but for rounding
    torch.testing.assert_close(out[inside][..., shut], closed[inside][..., shut], atol=1e-5, rtol=0)
    assert not torch.equal(out, closed)


def test_each_frame_is_corrected_alone(synthetic_face, view, driven, corrected, frame_generator):
    mesh = driven[0]
    for index in range(3):
        single = render_ncc(view, mesh.frames(slice(index, index + 1)))
        motion = estimate_motion(single)
        alone = generate_frames(single, motion, model=frame_generator).paints[-2]
        assert torch.equal(alone.color[0], corrected.paints[-2].color[index])
        assert torch.equal(alone.alpha[0], corrected.paints[-2].alpha[index])


def test_painted_alpha_is_what_no_layer_left_clear(driven, corrected):
    closed, changed = painted_alpha(driven[3]), painted_alpha(corrected)
    assert closed.shape == (3, 1, 256, 256)
    assert (closed[0] == 0).all() and closed[1].amax() > 0.9
    torch.testing.assert_close(1 - changed, (1 - closed) * (1 - corrected.paints[-2].alpha), atol=1e-5, rtol=0)


def test_the_generators_pass_is_reported_too(synthetic_face, view, driven, frame_generator):
    seen = []
    _, render, motion, _ = driven
    generate_frames(render, motion, frame_generator, progress=lambda *report: seen.append(report))
    assert seen == [(frame, 3, None) for frame in (1, 2, 3)] * 2


def test_half_precision_is_hardly_seen(monkeypatch, synthetic_face, view, driven, frame_generator):
    _, render, motion, _ = driven
    # whatever this machine has
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    plain = generate_frames(render, motion, model=frame_generator)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    fast = generate_frames(render, motion, model=frame_generator)
    assert fast.paints[-2].color.dtype == fast.paints[-2].alpha.dtype == torch.float32
    difference = (compose(synthetic_face, fast) - compose(synthetic_face, plain)).abs()
    assert 0 < difference.amax() < 3 / 255
    assert (fast.paints[-2].alpha[0] == 0).all()


def test_the_reference_texture_is_that_of_the_portraits_own_mesh(synthetic_face, view):
    target = render_ncc(view, view.mesh).projected_texture
    assert torch.equal(reference_texture(view), target)


def test_parts_of_a_clip_joined_are_the_clip(view, driven, corrected, frame_generator):
    """Chunks of every value of stage 2, made apart and joined, are bit for bit the values of the whole clip."""
    mesh, render, motion, _ = driven
    parts = [slice(0, 2), slice(2, 3)]
    renders = [render_ncc(view, mesh.frames(part)) for part in parts]
    motions = [estimate_motion(part) for part in renders]
    frames = [generate_frames(*pair, frame_generator) for pair in zip(renders, motions, strict=True)]
    joined = NccRender.joined(renders, 3)
    for name in ("ncc", "face_mask", "projected_texture", "lip_maps"):
        assert torch.equal(getattr(joined, name), getattr(render, name))
    assert torch.equal(joined.fragments.barycentric, render.fragments.barycentric)
    assert torch.equal(joined.mesh.vertices, mesh.vertices) and joined.view is view
    assert torch.equal(DenseMotion.joined(motions, 3).flow, motion.flow)
    together = GeneratedFrames.joined(frames, 3)
    assert together.frame_count == 3 and len(together.paints) == len(corrected.paints)
    for found, expected in zip(together.paints, corrected.paints, strict=True):
        for name in ("color", "alpha", "box", "beneath"):
            one, other = getattr(found, name), getattr(expected, name)
            assert (one is None and other is None) or torch.equal(one, other)
