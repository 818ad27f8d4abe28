"""Batches of pairs, and where the losses look."""

import pytest
import torch

from vividtalk_core.geometry import warp
from vividtalk_core.training.dataset.image_pairs import (
    PairData,
    by_frame,
    compose_base,
    cut,
    image_metrics,
    pixel_weights,
    textures,
    windows,
)


@pytest.fixture
def frames(pair_folder):
    return by_frame(PairData(pair_folder, 0.5, None).batch(torch.Generator().manual_seed(0), 3))


def test_a_batch_has_the_frames_of_runs_beside_their_portraits(frames):
    assert frames["target"].shape == (6, 3, 256, 256)
    assert frames["source"].shape == (6, 3, 256, 256)
    assert frames["points"].shape == (6, 478, 2)
    assert frames["mask"].shape == frames["follow"].shape == (6, 1, 256, 256)
    assert all(values.dtype == torch.float32 for values in frames.values())
    assert float(frames["target"].amax()) <= 1
    assert not {"step", "step_mask"} & frames.keys()


def test_people_are_drawn_from_their_own_split(pair_folder):
    data = PairData(pair_folder, 0.5, None)
    assert [shard.identity for shard in data.shards] == ["ada"]
    (held_out,) = data.held_out(8)
    torch.testing.assert_close(held_out["source"][0], data.validation[0].source.float() / 255)


def test_a_split_without_portraits_is_reported(pair_folder):
    (pair_folder / "pairs" / "ben.safetensors").unlink()
    with pytest.raises(ValueError, match="1 portraits to train on and 0 to validate with"):
        PairData(pair_folder, 0.5, None)


def test_textures_are_ncc_inside_and_portrait_outside(frames):
    pt_ref, pt_driven, maps = textures(frames)
    inside, outside = frames["mask"][0, 0] == 1, frames["mask"][0, 0] == 0
    torch.testing.assert_close(pt_driven[0][:, inside], frames["ncc"][0][:, inside])
    torch.testing.assert_close(pt_ref[0][:, outside], frames["source"][0][:, outside])
    assert maps.shape == (6, 20, 64, 64)
    assert not maps.any()  # the lips of this clip do not move


def test_paint_covers_the_warped_portrait(frames):
    flow = torch.zeros(6, 256, 256, 2)
    torch.testing.assert_close(compose_base(frames, flow), frames["source"])
    frames["paint"] = torch.tensor((0.5, 0.0, 0.0, 0.5))[:, None, None].expand(6, 4, 256, 256)
    torch.testing.assert_close(compose_base(frames, flow)[:, 0], frames["source"][:, 0] / 2 + 0.5)
    moved = compose_base(frames | {"paint": torch.zeros(6, 4, 256, 256)}, frames["flow"])
    torch.testing.assert_close(moved, warp(frames["source"], frames["flow"]))


def test_the_scene_lies_between_the_warped_portrait_and_the_paint(frames):
    red, half_green = ((1.0, 0.0, 0.0, 1.0), (0.0, 0.5, 0.0, 0.5))
    scene, paint = (torch.tensor(layer)[:, None, None].expand(6, 4, 256, 256) for layer in (red, half_green))
    picture = compose_base(frames | {"scene": scene, "paint": paint}, frames["flow"])
    torch.testing.assert_close(picture, torch.tensor((0.5, 0.5, 0.0))[:, None, None].expand_as(picture))


def test_mouth_and_eyes_weigh_more(frames):
    weight = pixel_weights(frames, 4.0, 3.0)[0, 0]
    points = frames["points"][0].long()
    mouth, eye, corner = points[13], points[159], torch.tensor((4, 4))
    at = [float(weight[y, x]) for x, y in (mouth, eye, corner)]
    assert at == pytest.approx([4.0, 3.0, 0.25], abs=0.05)


def test_windows_lie_around_landmarks_and_inside_the_crop(frames):
    corners = windows(frames, 64, (13, 14))
    middle = frames["points"][:, [13, 14]].mean(1)
    assert (corners + 32 - middle).abs().max() <= 1
    images = torch.arange(256.0).expand(6, 1, 256, 256)
    assert cut(images, corners, 64)[0, 0, 0, 0] == corners[0, 0]
    frames["points"] = frames["points"] - 200
    assert windows(frames, 64).min() == 0


def test_figures_are_per_region(frames):
    predicted = frames["target"].clone()
    predicted[:, :, 128:] += 0.1  # the mouth, and some of the face
    metrics = image_metrics(predicted, frames)
    assert metrics["mouth_psnr"] == pytest.approx(20, abs=0.1)
    assert 20.1 < metrics["face_psnr"] < 40
