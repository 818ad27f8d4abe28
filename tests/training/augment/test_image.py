from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.geometry import warp
from vividtalk_core.training.augment.geometry import mirror
from vividtalk_core.training.augment.image import PictureAugmentation, augment_pictures

SIZE, RUN = 64, 2
PROBABILITIES = ("mirror", "crop", "tone", "balance", "hue", "grey", "curve", "style", "smooth", "ink", "posterise",
                 "soften", "shrink", "jpeg")  # fmt: skip
NEVER = replace(PictureAugmentation(), **dict.fromkeys(PROBABILITIES, 0.0))
ALWAYS = replace(NEVER, **dict.fromkeys(PROBABILITIES, 1.0))


def make_batch(size):
    """Sources, and as targets the same picture twice: what is done to one must be done to the others."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(size, 3, 8, 8, generator=generator)
    source = F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
    alpha = torch.zeros(size, RUN, 1, SIZE, SIZE)
    alpha[..., 20:40, 20:40] = 0.5
    target = source[:, None].expand(-1, RUN, -1, -1, -1)
    return {
        "source": source,
        "target": target,
        "flow": torch.zeros(size, RUN, SIZE, SIZE, 2),
        "scene": torch.cat((target, alpha), 2),
        "paint": torch.cat((target * alpha, alpha), 2),
        "mask": (alpha > 0).float(),
        "points": SIZE * torch.rand(size, RUN, 478, 2, generator=generator),
        "source_lips": SIZE * torch.rand(size, 20, 2, generator=generator),
    }


def augment(settings, batch=None, seed=0):
    return augment_pictures(batch or make_batch(4), torch.Generator().manual_seed(seed), settings)


def test_nothing_is_changed_when_nothing_happens():
    batch = make_batch(2)
    found = augment(NEVER, batch)
    assert list(found) == list(batch) and all(torch.equal(found[name], batch[name]) for name in batch)


def test_shapes_ranges_and_the_batch_itself():
    batch = make_batch(4)
    before = {name: value.clone() for name, value in batch.items()}
    found = augment(ALWAYS, batch)
    for name, value in found.items():
        assert value.shape == batch[name].shape and value.dtype == torch.float32 and value.isfinite().all(), name
        assert torch.equal(before[name], batch[name]), name
    for name in ("source", "target", "scene", "paint", "mask"):
        assert found[name].min() >= 0 and found[name].max() <= 1, name
    assert (found["source"][0] - found["source"][1]).abs().mean() > 0.02


def test_all_random_numbers_come_from_the_generator():
    torch.manual_seed(0)
    first = augment(PictureAugmentation())
    torch.manual_seed(1)
    again, other = augment(PictureAugmentation()), augment(PictureAugmentation(), seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["source"], other["source"])


@pytest.mark.parametrize(
    "kind", [name for name in PROBABILITIES if name not in ("smooth", "ink", "posterise", "mirror")]
)
def test_each_change_alone_is_the_same_for_source_and_targets(kind):
    styles = {"smooth": 1.0, "ink": 1.0, "posterise": 1.0} if kind == "style" else {}
    batch = make_batch(3)
    found = augment(replace(NEVER, **{kind: 1.0}, **styles), batch)
    assert not torch.equal(found["source"], batch["source"])
    for frame in range(RUN):
        torch.testing.assert_close(found["target"][:, frame], found["source"], atol=1e-5, rtol=0)
    warped = warp(found["source"], found["flow"][:, 0])
    torch.testing.assert_close(warped, found["target"][:, 0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["tone", "balance", "hue", "grey", "curve"])
def test_paint_takes_the_colors_of_the_pictures(kind):
    found = augment(replace(NEVER, **{kind: 1.0}))
    inside = found["paint"][..., 20:40, 20:40]
    expected = found["target"][..., 20:40, 20:40] * 0.5
    torch.testing.assert_close(inside[:, :, :3], expected, atol=2e-4, rtol=0)
    assert not found["paint"][..., :20].any()


@pytest.mark.parametrize("kind", ["style", "soften", "shrink", "jpeg"])
def test_paint_keeps_its_style_and_gets_no_file_losses(kind):
    batch = make_batch(2)
    found = augment(replace(NEVER, **{kind: 1.0}, smooth=1.0, ink=1.0), batch)
    assert torch.equal(found["paint"], batch["paint"])


@pytest.mark.parametrize("kind", ["tone", "curve", "style", "soften", "shrink", "jpeg"])
def test_the_scene_looks_like_the_portrait_it_is_made_of(kind):
    batch = make_batch(2)
    found = augment(replace(NEVER, **{kind: 1.0}, smooth=1.0, ink=1.0), batch)
    assert not torch.equal(found["source"], batch["source"])
    torch.testing.assert_close(found["scene"][:, :, :3], found["target"])
    assert torch.equal(found["scene"][:, :, 3:], batch["scene"][:, :, 3:])


def test_mirror_is_that_of_the_view():
    batch = make_batch(2)
    found = augment(replace(NEVER, mirror=1.0), batch)
    expected = mirror({name: value[1] for name, value in batch.items()})
    assert all(torch.equal(found[name][1], value) for name, value in expected.items())


def test_changes_happen_as_often_as_they_are_asked_for():
    """Half of 200 samples are mirrored: within three standard deviations."""
    batch = {name: value.expand(200, *value.shape[1:]) for name, value in make_batch(1).items()}
    found = augment(replace(NEVER, mirror=0.5), {name: batch[name] for name in ("source", "target")})
    changed = (found["source"] != batch["source"]).flatten(1).any(1).sum()
    assert 79 <= int(changed) <= 121


def test_crops_move_within_their_bounds():
    centre = torch.full((100, 478, 2), SIZE / 2)
    centre[:, 0, 0] += 10.0  # landmark 0 lies on the midline
    batch = {name: value.expand(100, *value.shape[1:]) for name, value in make_batch(1).items() if name != "points"}
    settings = replace(NEVER, crop=1.0, shift_px=3.0, rotation_deg=6.0, scale=(0.9, 1.1))
    found = augment(settings, batch | {"source_points": centre})["source_points"]
    shift = found[:, 1] - SIZE / 2
    arm = found[:, 0] - found[:, 1]
    scale, angle = arm.norm(dim=-1) / 10, torch.atan2(arm[:, 1], arm[:, 0]).rad2deg()
    for values, low, high in ((shift, -3, 3), (scale, 0.9, 1.1), (angle, -6, 6)):
        assert low - 1e-3 <= values.min() < low + (high - low) / 10
        assert high + 1e-3 >= values.max() > high - (high - low) / 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.pop("target"), r"lack \['target'\] and hold \[\]"),
        (lambda b: b.update(depth=b["source"]), r"lack \[\] and hold \['depth'\], which are not of \['flow',"),
    ],
)
def test_names_that_do_not_fit(change, message):
    batch = make_batch(1)
    change(batch)
    with pytest.raises(ValueError, match=message):
        augment(NEVER, batch)
