import math

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.geometry import pixel_centres, warp
from vividtalk_core.head.morphable import landmark_positions
from vividtalk_core.head.topology import FACE_OVAL, LEFT_IRIS, LEFT_LID_PAIRS, RIGHT_IRIS, RIGHT_LID_PAIRS
from vividtalk_core.mesh_to_video.lip_maps import LANDMARKS
from vividtalk_core.mesh_to_video.ncc import ncc_colors
from vividtalk_core.training.augment.geometry import mirror, mirrored_landmarks, mirrored_lips, move_crop

SIZE, RUN = 64, 2


def smooth_noise(*shape, seed=0, knots=6):
    noise = torch.randn(math.prod(shape), 1, knots, knots, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=(SIZE, SIZE), mode="bicubic").view(*shape, SIZE, SIZE)


def make_sample():
    """A source, its targets warped from it by a flow that fades to zero at the border, and random maps and points."""
    generator = torch.Generator().manual_seed(1)
    centres = pixel_centres(SIZE, SIZE)
    fade = ((torch.minimum(centres, SIZE - centres).amin(-1) - 2) / 12).clamp(0, 1)
    source = smooth_noise(3).sigmoid()
    flow = smooth_noise(RUN, 2, seed=2, knots=4).movedim(1, -1) * fade[..., None] * 0.06
    disc = ((centres - SIZE / 2).norm(dim=-1) < 20).float()
    place = torch.stack((centres[..., 0] / SIZE, centres[..., 1] / SIZE, torch.full((SIZE, SIZE), 0.5))) * disc
    points = {"source_points": (478,), "points": (RUN, 478), "source_lips": (20,), "lips": (RUN, 20)}
    return {
        "source": source,
        "target": warp(source[None], flow),
        "source_ncc": place,
        "ncc": place.expand(RUN, -1, -1, -1),
        "source_mask": disc[None],
        "mask": disc.expand(RUN, 1, -1, -1),
        "flow": flow,
        "occlusion": 1 - disc.expand(RUN, 1, -1, -1) / 2,
        "scene": torch.rand(RUN, 4, SIZE, SIZE, generator=generator),
        "paint": torch.rand(RUN, 4, SIZE, SIZE, generator=generator),
        "follow": disc[None],
        "step": flow[0] * 0.3,
        "step_mask": disc[None],
    } | {name: SIZE * torch.rand(*shape, 2, generator=generator) for name, shape in points.items()}


# ---- mirror


def test_landmarks_in_a_mirror_are_the_heads_symmetry(head_model):
    order = mirrored_landmarks()
    points = landmark_positions(head_model, head_model.mean_shape)
    mirrored = points[order[:468]] * torch.tensor([-1.0, 1.0, 1.0])
    assert (mirrored - points).norm(dim=-1).max() < 0.01  # model units, a millimetre
    assert torch.equal(order[order], torch.arange(478))
    for right, left in zip(sum(RIGHT_LID_PAIRS, ()), sum(LEFT_LID_PAIRS, ()), strict=True):
        assert order[right] == left
    assert set(order[list(FACE_OVAL)].tolist()) == set(FACE_OVAL)
    assert order[list(RIGHT_IRIS)].tolist() == [LEFT_IRIS[k] for k in (0, 3, 2, 1, 4)]


def test_lips_in_a_mirror_are_those_landmarks():
    order, landmarks = mirrored_lips(), mirrored_landmarks()
    assert torch.equal(order[order], torch.arange(20))
    assert [LANDMARKS[place] for place in order] == landmarks[list(LANDMARKS)].tolist()


def test_mirrored_code_is_the_code_of_the_other_side(head_model):
    colors = landmark_positions(head_model, ncc_colors(head_model))  # [468, 3]
    sample = make_sample() | {"ncc": colors.T[None, :, None, :].expand(RUN, 3, 1, 468)}
    mirrored = mirror(sample)["ncc"][0, :, 0].flip(-1).T
    torch.testing.assert_close(mirrored, colors[mirrored_landmarks()[:468]], atol=5e-3, rtol=0)


def test_mirrored_twice_is_the_sample():
    sample = make_sample()
    twice = mirror(mirror(sample))
    assert list(twice) == list(sample)
    for name, value in sample.items():
        torch.testing.assert_close(twice[name], value, msg=name)


def test_mirror():
    sample = make_sample()
    mirrored = mirror(sample)
    for name in ("source", "target", "mask", "occlusion", "scene", "paint", "follow", "step_mask"):
        assert torch.equal(mirrored[name], sample[name].flip(-1)), name
    left = mirrored["ncc"][0, :, 10, 20], sample["ncc"][0, :, 10, SIZE - 1 - 20]
    assert not left[0].any() and not left[1].any(), "the background stays 0"
    middle, other = mirrored["ncc"][0, :, 30, 20], sample["ncc"][0, :, 30, SIZE - 1 - 20]
    torch.testing.assert_close(middle, torch.stack((1 - other[0], other[1], other[2])))
    assert torch.equal(
        mirrored["points"][1, 33], torch.tensor([SIZE, 0.0]) + sample["points"][1, 263] * torch.tensor([-1.0, 1])
    )
    warped = warp(mirrored["source"][None], mirrored["flow"])
    torch.testing.assert_close(warped, mirrored["target"], atol=1e-5, rtol=0)


# ---- crop


MOVES = [(1.0, 0.1, (0.0, 0.0)), (1.12, -0.08, (2.5, -1.0)), (0.9, 0.06, (-2.0, 3.0))]


@pytest.mark.parametrize(("scale", "angle", "shift"), MOVES)
def test_warp_and_move_commute(scale, angle, shift):
    moved = move_crop(make_sample(), scale, angle, shift)
    warped = warp(moved["source"][None], moved["flow"])
    inside = (slice(None), slice(None), slice(6, -6), slice(6, -6))  # growing cuts off what the rim is warped from
    assert (warped - moved["target"])[inside].abs().max() < 0.02
    still = warp(moved["source"][None], moved["flow"] * 0)
    assert (still - moved["target"])[inside].abs().max() > 0.1, "the flow matters"


@pytest.mark.parametrize(("scale", "angle", "shift"), MOVES)
def test_points_and_pixels_move_alike(scale, angle, shift):
    """The middle of a spot at each point, found in the moved picture, is the moved point."""
    points = torch.tensor([[20.0, 24], [44, 30], [30, 45]])
    away = (pixel_centres(SIZE, SIZE) - points[:, None, None]).norm(dim=-1)
    sample = make_sample() | {"source": torch.exp(-((away / 3) ** 2)), "source_points": points, "points": points[None]}
    moved = move_crop(sample, scale, angle, shift)
    weights = moved["source"][..., None]
    found = (pixel_centres(SIZE, SIZE) * weights).sum((1, 2)) / weights.sum((1, 2))
    torch.testing.assert_close(found, moved["source_points"], atol=0.05, rtol=0)
    assert torch.equal(moved["points"][0], moved["source_points"])
    lengths = [torch.pdist(value) for value in (points, found)]
    torch.testing.assert_close(lengths[1], scale * lengths[0], atol=0.05, rtol=0)


def test_a_turn_is_clockwise_and_a_shift_to_the_right():
    moved = move_crop(make_sample() | {"lips": torch.tensor([[[42.0, 32.0]]])}, 1.0, math.pi / 2, (1.0, 2.0))
    torch.testing.assert_close(moved["lips"], torch.tensor([[[33.0, 44.0]]]))


def test_vectors_turn_with_the_crop():
    sample = make_sample()
    sample["step"] = torch.tensor([0.1, 0.0]).expand(SIZE, SIZE, 2)
    moved = move_crop(sample, 2.0, math.pi / 2, (0.0, 0.0))
    torch.testing.assert_close(moved["step"], torch.tensor([0.0, 0.2]).expand(SIZE, SIZE, 2))


def test_beyond_the_old_crop_nothing_moves_and_the_border_goes_on():
    sample = make_sample()
    ones = {name: torch.ones_like(value) for name, value in sample.items()}
    moved = move_crop(ones | {"source": sample["source"], "occlusion": ones["occlusion"] * 0}, 1.0, 0.0, (10.0, 0.0))
    for name in ("ncc", "mask", "scene", "paint", "follow", "step_mask"):
        assert not moved[name][..., :10].any() and (moved[name][..., 10:] == 1).all(), name
    for name in ("flow", "step"):
        assert not moved[name][..., :10, :].any() and (moved[name][..., 10:, :] == 1).all(), name
    assert (moved["occlusion"][..., :10] == 1).all() and not moved["occlusion"][..., 10:].any()
    border = sample["source"][..., :1].expand(-1, -1, 9)
    torch.testing.assert_close(moved["source"][..., :9], border, atol=0.01, rtol=0)


def test_no_move_changes_nothing():
    sample = make_sample()
    for name, value in move_crop(sample, 1.0, 0.0, (0.0, 0.0)).items():
        torch.testing.assert_close(value, sample[name], atol=1e-4, rtol=0, msg=name)


def test_pictures_alone_can_move():
    sample = {name: value for name, value in make_sample().items() if name in ("source", "target")}
    assert list(move_crop(sample, 1.1, 0.0, (0.0, 0.0))) == ["source", "target"]
