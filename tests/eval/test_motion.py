"""A background that moves, a jolt at the start, flicker."""

import math

import pytest
import torch

from vividtalk_core.eval.motion import (
    BackgroundMotion,
    SecondDifference,
    background_mask,
    brightness,
    face_box,
    flicker,
    startup_jitter,
)
from vividtalk_core.head.mouth_shape import EYES

SIZE = 100


def face(frames, noise=0.0):
    """Landmarks [T, 478, 2] that fill the box 40..60, 40..70, with a jitter of `noise` [T] px."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(478, 2, generator=generator) * torch.tensor([20.0, 30.0]) + 40
    points[0], points[1] = torch.tensor([40.0, 40.0]), torch.tensor([60.0, 70.0])
    points[EYES[0]], points[EYES[1]] = torch.tensor([45.0, 50.0]), torch.tensor([55.0, 50.0])
    jitter = torch.randn(frames, 478, 2, generator=generator)
    return points + jitter * torch.as_tensor(noise).reshape(-1, 1, 1)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_box_holds_the_face_of_all_frames():
    points = face(3)
    points[2] += 5
    torch.testing.assert_close(face_box(points), torch.tensor([40.0, 40.0, 65.0, 75.0]))


def test_the_background_is_beside_and_above_the_head():
    mask = background_mask(face(2), SIZE, SIZE)
    assert mask[:25].all() and not mask[25:, 25:75].any()  # half a face above it; three quarters of one to each side
    assert mask[50, :25].all() and mask[50, 75:].all()
    assert not mask[55:].any()  # where shoulders are


def measured(frames):
    meter = BackgroundMotion(face(len(frames)))
    for frame in frames:
        meter.add(frame)
    return meter.ratio()


def test_a_still_background_does_not_move():
    frames = torch.full((4, 3, SIZE, SIZE), 0.5)
    frames[:, :, 40:70, 40:60] = noise(4, 3, 30, 20)
    assert measured(frames) == 0


def test_a_picture_that_moves_as_a_whole_has_ratio_one():
    assert measured(noise(5, 3, SIZE, SIZE)) == pytest.approx(1, abs=0.1)


def test_without_background_or_motion_the_metric_is_nan():
    assert math.isnan(measured(torch.full((3, 3, SIZE, SIZE), 0.5)))
    assert math.isnan(measured(noise(1, 3, SIZE, SIZE)))
    close = BackgroundMotion(face(3))
    for frame in noise(3, 3, 70, 70)[:, :, 30:, 30:]:
        close.add(frame)  # a frame that the face fills
    assert math.isnan(close.ratio())


def test_startup_jitter_is_that_of_the_start_over_that_of_the_rest():
    steady = startup_jitter(face(100, 0.1), 25.0)
    assert steady == pytest.approx(1, abs=0.1)
    jolt = torch.full((100,), 0.1)
    jolt[:10] = 0.5
    assert startup_jitter(face(100, jolt), 25.0) == pytest.approx(5, rel=0.1)


def test_startup_jitter_needs_a_clip_that_moves():
    assert math.isnan(startup_jitter(face(20, 0.1), 25.0))
    assert math.isnan(startup_jitter(face(100), 25.0))


def test_flicker_is_the_second_difference_of_brightness():
    points = face(1)
    steady = torch.stack([brightness(torch.full((3, SIZE, SIZE), 0.1 * t), points) for t in range(4)])
    assert flicker(steady) == pytest.approx(0, abs=1e-4)  # a fade is no flicker
    jumping = torch.stack([brightness(torch.full((3, SIZE, SIZE), 0.1 * (t % 2)), points) for t in range(4)])
    assert flicker(jumping) == pytest.approx(255 * 0.2, rel=1e-4)
    assert math.isnan(flicker(steady[:2]))


def test_brightness_looks_at_the_face_only():
    image = noise(3, SIZE, SIZE)
    other = image.clone()
    other[:, :39] = 0
    torch.testing.assert_close(brightness(other, face(1)), brightness(image, face(1)))
    assert brightness(image, face(1)).shape == (16, 16)


def test_second_differences_count_in_the_regions_of_the_middle_frame():
    frames = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(5, 2, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.5
    jitter = SecondDifference()
    for frame, regions in zip(frames, masks, strict=True):
        jitter.add(frame, tuple(regions))
    for region, mean in enumerate(jitter.means()):
        expected = [
            (frames[t + 1] - 2 * frames[t] + frames[t - 1])[:, masks[t, region]].abs().mean().item() for t in (1, 2, 3)
        ]
        assert mean == pytest.approx(255 * sum(expected) / 3, rel=1e-5)


def test_steady_change_has_no_jitter():
    everywhere, nowhere = torch.ones(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    jitter = SecondDifference()
    for step in range(2):
        jitter.add(torch.full((3, 4, 4), step / 8), (everywhere, nowhere))
    assert all(math.isnan(mean) for mean in jitter.means()), "two frames have no second difference"
    jitter.add(torch.full((3, 4, 4), 2 / 8), (everywhere, nowhere))
    assert jitter.means() == [0, 0]
