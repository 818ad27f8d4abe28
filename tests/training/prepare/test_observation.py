"""Clips at 25 frames per second, and sound that lies where the picture is."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.structures import SAMPLE_RATE, Audio
from vividtalk_core.training.prepare.av_offset import LagSettings
from vividtalk_core.training.prepare.observation import Observation, aligned_sound, lag_of, retimed, sound_of


@pytest.fixture
def observation():
    """50 frames of a ramp."""
    ramp = torch.arange(50.0)
    return Observation(
        coefficients=ramp[:, None].expand(-1, 52) / 50,
        lip_offsets=ramp[:, None, None].expand(-1, 4, 3),
        rotation=ramp[:, None].expand(-1, 3),
        translation=ramp[:, None].expand(-1, 3),
        aperture=ramp,
        width=ramp,
        upper_face=ramp[:, None].expand(-1, 3),
        bad={"no face found": ramp == 20, "turned": ramp > 47},
        id_coefficients=torch.zeros(7),
        sound=torch.zeros(0),
    )


def test_retimed_is_the_same_motion(observation):
    result = retimed(observation, 50.0)
    centres = torch.arange(25) * 2 + 0.5  # frame 0 of 25 fps lies between frames 0 and 1 of 50 fps
    assert torch.allclose(result.aperture, centres)
    assert torch.allclose(result.coefficients[:, 3], centres / 50)
    assert torch.allclose(result.lip_offsets[:, 1, 2], centres)
    assert torch.allclose(result.rotation[:, 1], centres)
    assert torch.allclose(result.upper_face[:, 2], centres)
    assert result.bad["no face found"].nonzero()[:, 0].tolist() == [10]
    assert result.valid.tolist() == [i not in (10, 24) for i in range(25)]


def test_25_fps_is_left_alone(observation):
    result = retimed(observation, 25.0)
    assert torch.equal(result.coefficients, observation.coefficients)
    assert torch.equal(result.valid, observation.valid)


def test_slower_clips_gain_frames(observation):
    result = retimed(observation, 15.0)
    assert len(result.aperture) == 83
    assert (result.aperture.diff()[1:-1] - 0.6).abs().max() < 1e-4
    assert result.bad["no face found"].sum() in (3, 4)  # a frame beside a bad one is half of it


@pytest.mark.parametrize("lag", [0, 3, -2])
def test_sound_moves_forward_by_its_lag(lag):
    frames = 10
    sound = torch.zeros(frames * 640 + 100)
    sound[640 * 5 + 7] = 0.5
    aligned = aligned_sound(sound, frames, lag)
    assert aligned.dtype == torch.int16
    assert aligned.shape == (6400,)
    assert int(aligned[640 * (5 - lag) + 7]) == 16384
    assert int((aligned != 0).sum()) == 1


def test_sound_is_cut_and_filled_to_the_picture():
    assert aligned_sound(torch.ones(100), 3, 0).tolist() == [32767] * 100 + [0] * 1820
    assert aligned_sound(torch.zeros(0), 3, 5).shape == (0,)


def test_no_sound_and_silence_are_the_same(observation):
    assert sound_of(None).shape == (0,)
    assert sound_of(Audio(torch.zeros(2, 800), 8000)).shape == (0,)
    assert sound_of(Audio(torch.ones(2, 800), 8000)).shape == (1600,)
    assert lag_of(observation, LagSettings()) is None
    with_sound = replace(observation, sound=torch.rand(SAMPLE_RATE * 2) - 0.5)
    assert lag_of(with_sound, LagSettings()).seconds == pytest.approx(47 / 25)


def test_shapes_are_checked(observation):
    with pytest.raises(ValueError, match=r"rotation must be \[T, 3\], T = 50; got \[4, 3\]"):
        replace(observation, rotation=torch.zeros(4, 3))
