"""Lags: known shifts are found, weak evidence is not acted on."""

import math

import pytest
import torch

from vividtalk_core.training.prepare.av_offset import (
    Lag,
    LagSettings,
    estimate_lag,
    expected_aperture,
    shift_of,
)

FPS = 25.0


def syllables(frames, seed=0):
    """[T] a mouth that opens at uneven times."""
    noise = torch.randn(frames + 40, generator=torch.Generator().manual_seed(seed))
    kernel = torch.exp(-0.5 * (torch.arange(-6.0, 7.0) / 2) ** 2)
    return torch.nn.functional.conv1d(noise[None, None], kernel[None, None])[0, 0, :frames].clamp(min=0)


def all_valid(frames):
    return torch.ones(frames, dtype=torch.bool)


@pytest.mark.parametrize("late", [-9, -3, 0, 1, 6, 12])
def test_known_shift_is_found(late):
    frames = 250
    aperture = syllables(frames + 40)
    from_sound = aperture.roll(late)[20 : frames + 20]
    lag = estimate_lag(from_sound, aperture[20 : frames + 20], all_valid(frames), FPS)
    assert lag.frames == late
    assert lag.z > 5
    assert lag.correlation > 0.95
    assert lag.seconds == 10


def test_slow_changes_do_not_count():
    frames = 300
    aperture = syllables(frames + 4)
    drift = 5 * torch.sin(torch.arange(frames) / frames * 2 * math.pi)
    lag = estimate_lag(aperture[:frames] + drift, aperture[4:] + drift.flip(0), all_valid(frames), FPS)
    assert lag.frames == 4
    assert lag.z > 4


def test_bad_frames_do_not_count():
    frames = 250
    aperture = syllables(frames)
    from_sound = aperture.roll(3)
    valid = all_valid(frames)
    broken = aperture.clone()
    broken[100:140] = 20 * syllables(40, seed=9)
    valid[100:140] = False
    lag = estimate_lag(from_sound, broken, valid, FPS)
    assert lag.frames == 3
    assert lag.seconds == pytest.approx(8.4)


def test_sound_of_another_has_a_low_correlation():
    lag = estimate_lag(syllables(500, 1), syllables(500, 2), all_valid(500), FPS)
    assert lag.correlation < LagSettings().least_correlation


def test_still_mouth_has_no_lag():
    lag = estimate_lag(syllables(100), torch.zeros(100), all_valid(100), FPS)
    assert lag.correlation == 0
    assert shift_of(lag) == (0, "")
    none = estimate_lag(syllables(100), torch.zeros(100), torch.zeros(100, dtype=torch.bool), FPS)
    assert none.seconds == 0


def test_clip_shorter_than_the_lags_that_are_tried():
    curve = torch.tensor([0.0, 1.0, 0.2, 0.9, 0.1])
    lag = estimate_lag(curve, curve, all_valid(5), FPS)
    assert abs(lag.frames) < 5
    assert shift_of(lag) == (0, "")


def test_expected_aperture_follows_the_vowels():
    """Half a second of a harmonic sound, half a second of nothing, three times."""
    time = torch.arange(3 * 16000) / 16000
    voice = sum(torch.sin(2 * math.pi * 140 * k * time) / k for k in range(1, 30))
    on = (time % 1) < 0.5
    expected = expected_aperture(0.1 * voice * on, 75, FPS)
    assert expected.shape == (75,)
    middle = expected.view(3, 25)
    assert middle[:, 3:10].mean() > 5 * middle[:, 16:23].mean()


@pytest.mark.parametrize(
    ("frames", "z", "correlation", "seconds", "shift", "reason"),
    [
        (6, 9.0, 0.5, 20.0, 6, ""),
        (-5, 3.0, 0.5, 4.5, -5, ""),
        (1, 9.0, 0.5, 20.0, 0, ""),  # tolerated
        (6, 2.9, 0.5, 20.0, 0, ""),  # not sure
        (6, 9.0, 0.5, 3.0, 0, ""),  # too short to be sure
        (9, 9.0, 0.5, 20.0, 0, r"sound out of sync: it is \+9 frames late"),
        (0, 2.0, 0.1, 20.0, 0, r"sound out of sync: it does not follow the lips \(r = 0\.10\)"),
        (0, 2.0, 0.1, 5.0, 0, ""),  # too short to be reliable
    ],
)
def test_what_follows_from_an_estimate(frames, z, correlation, seconds, shift, reason):
    found, why = shift_of(Lag(frames, z, correlation, seconds))
    assert found == shift
    assert why == reason.replace("\\", "")
