"""Applying motion and paint to the portrait at its own resolution."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.geometry import warp
from vividtalk_core.mesh_to_video.paste import _moving_box, crop_portrait, paste_back, warp_part
from vividtalk_core.structures import Crop, DenseMotion, GeneratedFrames, Paint


def flow_at(rows, columns, shift_px, frames=1):
    """Flow that is the same inside a box of the crop and zero elsewhere; px of the crop."""
    flow = torch.zeros(frames, 256, 256, 2)
    flow[:, slice(*rows), slice(*columns)] = torch.tensor(shift_px) * 2 / 256
    return flow


def generated(flow, paints=()):
    return GeneratedFrames(DenseMotion(flow, torch.ones(len(flow), 1, 256, 256)), paints, 25.0)


def square_paint(box, frames=1, side=16):
    alpha = torch.zeros(frames, 1, side, side)
    alpha[:, :, 4:-4, 4:-4] = 1
    color = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(frames, 3, side, side)
    return Paint(color, alpha, torch.tensor([box]).expand(frames, 4))


def smooth_picture(height, width, seed=4):
    coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


def on_portrait(face, size, height=700, width=640, left=20, top=60):
    """The face at another native size, with its portrait."""
    return replace(face, crop=Crop(left, top, size, height, width)), smooth_picture(height, width)


@pytest.mark.parametrize("window", [(0, 0, 20, 30), (40, 25, 30, 22), (0, 70, 25, 26), (60, 64, 36, 32)])
def test_warping_a_part_is_warping_everything_and_cutting(window):
    left, top, width, height = window
    source = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    flow = 0.08 * torch.randn(1, 96, 96, 2, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    part = flow[:, top : top + height, left : left + width]
    whole = warp(source, flow, "bicubic").clamp(0, 1)[:, :, top : top + height, left : left + width]
    torch.testing.assert_close(warp_part(source, part, left, top), whole, atol=2e-4, rtol=0)


def test_a_part_without_flow_is_the_source():
    source = torch.rand(1, 3, 64, 64)
    out = warp_part(source, torch.zeros(1, 20, 24, 2), 10, 30)
    torch.testing.assert_close(out, source[:, :, 30:50, 10:34], atol=1e-5, rtol=0)


def test_a_whole_pixel_of_flow_reads_the_neighbour():
    source = torch.rand(1, 3, 64, 64)
    flow = torch.zeros(1, 16, 16, 2)
    flow[..., 0] = 3 * 2 / 64
    out = warp_part(source, flow, 20, 20)
    torch.testing.assert_close(out, source[:, :, 20:36, 23:39], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [128, 256, 600])
def test_motion_is_scaled_to_the_native_crop(synthetic_face, size):
    """About four px of the crop, so that they are whole px of the portrait, whatever the crop's native size."""
    face, portrait = on_portrait(synthetic_face, size)
    crop, scale = face.crop, size / 256
    step = round(4 * scale)
    out = paste_back(portrait, face, generated(flow_at((64, 192), (64, 192), [step / scale, 0.0])))
    rows = slice(crop.top + round(100 * scale), crop.top + round(150 * scale))
    left, right = crop.left + round(100 * scale), crop.left + round(150 * scale)
    expected = portrait[0, :, rows, left + step : right + step]
    torch.testing.assert_close(out[0, :, rows, left:right], expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("size", [128, 256, 600])
def test_outside_what_moves_every_bit_is_the_portraits(synthetic_face, size):
    face, portrait = on_portrait(synthetic_face, size)
    out = paste_back(portrait, face, generated(flow_at((100, 140), (80, 160), [3.0, -2.0])))
    crop, scale = face.crop, size / 256
    still = torch.ones(crop.height, crop.width, dtype=torch.bool)
    rows = [crop.top + round(edge * scale) for edge in (98, 142)]
    columns = [crop.left + round(edge * scale) for edge in (78, 162)]
    still[slice(*rows), slice(*columns)] = False
    assert torch.equal(out[0][:, still], portrait[0][:, still])
    assert not torch.equal(out, portrait)


@pytest.mark.parametrize("size", [128, 256, 600])
def test_paint_lands_where_its_box_says(synthetic_face, size):
    face, portrait = on_portrait(synthetic_face, size)
    grey = torch.full_like(portrait, 0.5)
    out = paste_back(
        grey, face, generated(flow_at((0, 0), (0, 0), [0.0, 0.0]), (square_paint([96.0, 120.0, 128.0, 152.0]),))
    )
    red = out[0, 0] - 0.5
    rows, columns = torch.arange(red.shape[0]) + 0.5, torch.arange(red.shape[1]) + 0.5
    x, y = float((red.sum(0) * columns).sum() / red.sum()), float((red.sum(1) * rows).sum() / red.sum())
    scale = size / 256
    assert x == pytest.approx(face.crop.left + 112 * scale, abs=0.1)
    assert y == pytest.approx(face.crop.top + 136 * scale, abs=0.1)
    assert float(red.sum()) * 2 == pytest.approx((16 * scale) ** 2, rel=0.05)


def test_paint_without_alpha_changes_nothing(synthetic_face):
    face, portrait = on_portrait(synthetic_face, 256)
    paint = square_paint([96.0, 120.0, 128.0, 152.0])
    blank = replace(paint, alpha=torch.zeros_like(paint.alpha))
    assert torch.equal(paste_back(portrait, face, generated(torch.zeros(1, 256, 256, 2), (blank,))), portrait)


def test_later_layers_lie_on_top(synthetic_face):
    face, portrait = on_portrait(synthetic_face, 256)
    red = square_paint([96.0, 120.0, 128.0, 152.0])
    blue = replace(red, color=red.color.flip(1))
    out = paste_back(portrait, face, generated(torch.zeros(1, 256, 256, 2), (red, blue)))
    middle = out[0, :, face.crop.top + 136, face.crop.left + 112]
    torch.testing.assert_close(middle, torch.tensor([0.0, 0.0, 1.0]), atol=1e-5, rtol=0)


def test_the_moving_box_holds_flow_and_paint():
    crop = Crop(0, 0, 512, 512, 512)
    flow = flow_at((100, 110), (50, 60), [1.0, 0.0])[0]
    assert _moving_box(flow, [], crop) == (98, 198, 122, 222)
    left, top, right, bottom = _moving_box(flow, [square_paint([20.0, 30.0, 40.0, 50.0])], crop)
    # of 16 × 16 samples the middle 8 × 8 show, with three more around them and a px of the crop
    assert (left, top, right, bottom) == (40, 60, 122, 222)
    assert _moving_box(torch.zeros(256, 256, 2), [], crop) == (0, 0, 0, 0)


def test_the_moving_box_stays_inside_the_portrait():
    flow = torch.full((256, 256, 2), 0.01)
    assert _moving_box(flow, [], Crop(-30, -20, 256, 200, 180)) == (30, 20, 210, 220)


def test_frames_are_independent(synthetic_face):
    face, portrait = on_portrait(synthetic_face, 300)
    flow = torch.cat([flow_at((90, 150), (90, 150), [shift, 0.0]) for shift in (0.0, 2.0, -3.0)])
    paint = square_paint([96.0, 120.0, 128.0, 152.0], frames=3)
    paint.alpha[0] = 0
    out = paste_back(portrait, face, generated(flow, (paint,)))
    assert torch.equal(out[0], portrait[0])
    for index in range(3):
        single = generated(
            flow[index : index + 1],
            (Paint(*(getattr(paint, name)[index : index + 1] for name in ("color", "alpha", "box"))),),
        )
        assert torch.equal(out[index : index + 1], paste_back(portrait, face, single))


def test_the_portrait_is_not_written_to(synthetic_face):
    face, portrait = on_portrait(synthetic_face, 256)
    before = portrait.clone()
    paste_back(portrait, face, generated(flow_at((0, 256), (0, 256), [5.0, 5.0])))
    assert torch.equal(portrait, before)


def test_values_stay_in_range_where_the_kernel_overshoots(synthetic_face):
    face, _ = on_portrait(synthetic_face, 256)
    portrait = (torch.rand(1, 3, 700, 640, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    out = paste_back(portrait, face, generated(flow_at((20, 230), (20, 230), [0.5, 0.5])))
    assert 0 <= out.amin() <= out.amax() <= 1


def test_the_crop_is_cut_as_it_is():
    portrait = torch.rand(1, 3, 60, 80)
    assert torch.equal(crop_portrait(portrait, Crop(5, 10, 40, 60, 80)), portrait[:, :, 10:50, 5:45])
    over = crop_portrait(portrait, Crop(60, 40, 40, 60, 80))
    assert torch.equal(over[:, :, :20, :20], portrait[:, :, 40:, 60:])
    assert torch.equal(over[:, :, 30, 30], portrait[:, :, 59, 79])


# ---- changes added as a difference


def changes(beneath, shift, frames=1):
    """A layer over the whole crop that brightens a square in its middle by `shift`."""
    alpha = torch.zeros(frames, 1, 256, 256)
    alpha[..., 96:160, 96:160] = 1
    beneath = beneath.expand(frames, -1, -1, -1)
    return Paint(beneath + shift, alpha, torch.tensor([[0.0, 0.0, 256.0, 256.0]]).expand(frames, 4), beneath)


@pytest.mark.parametrize("size", [200, 600])
def test_a_difference_keeps_the_portraits_own_detail(synthetic_face, size):
    """Every pixel of a noisy portrait is brightened; at 600 px the paint could not hold the noise."""
    face, _ = on_portrait(synthetic_face, size)
    noisy = 0.2 + 0.5 * torch.rand(1, 3, face.crop.height, face.crop.width)
    layer = changes(torch.full((1, 3, 256, 256), 0.4), 0.1)
    out = paste_back(noisy, face, generated(torch.zeros(1, 256, 256, 2), (layer,)))
    scale = size / 256
    rows = slice(face.crop.top + round(100 * scale), face.crop.top + round(156 * scale))
    columns = slice(face.crop.left + round(100 * scale), face.crop.left + round(156 * scale))
    torch.testing.assert_close(out[..., rows, columns], noisy[..., rows, columns] + 0.1, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [200, 600])
def test_outside_the_difference_every_bit_is_the_portraits(synthetic_face, size):
    face, portrait = on_portrait(synthetic_face, size)
    out = paste_back(portrait, face, generated(torch.zeros(1, 256, 256, 2), (changes(face.image, 0.1),)))
    still, scale = torch.ones(portrait.shape[2:], dtype=torch.bool), size / 256
    rows = [face.crop.top + round(edge * scale) for edge in (94, 162)]
    columns = [face.crop.left + round(edge * scale) for edge in (94, 162)]
    still[slice(*rows), slice(*columns)] = False
    assert torch.equal(out[0][:, still], portrait[0][:, still])
    assert not torch.equal(out, portrait)


def test_a_frame_of_a_difference_is_its_own(synthetic_face):
    face, portrait = on_portrait(synthetic_face, 300)
    layer = changes(face.image, 0.1, frames=2)
    layer.alpha[0] = 0
    out = paste_back(portrait, face, generated(torch.zeros(2, 256, 256, 2), (layer,)))
    assert torch.equal(out[0], portrait[0]) and not torch.equal(out[1], portrait[0])


def test_bright_changes_stay_in_range(synthetic_face):
    face, portrait = on_portrait(synthetic_face, 256)
    out = paste_back(portrait, face, generated(torch.zeros(1, 256, 256, 2), (changes(face.image, 0.9),)))
    assert out.amax() == 1
