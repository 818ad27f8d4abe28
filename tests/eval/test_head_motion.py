import math

import pytest
import torch

from vividtalk_core.errors import SettingsError
from vividtalk_core.eval.head_motion import (
    audio_beats,
    beat_alignment,
    diversity,
    energy_below,
    follows_loudness,
    motion_beats,
    perplexity,
    reconstruction_rms,
    seed_distance,
    speed,
)
from vividtalk_core.structures import HeadMotion


def sway(hertz, degrees=5.0, seconds=8, fps=25.0):
    """Yaw that swings, pitch and roll at rest."""
    yaw = math.radians(degrees) * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * fps)) / fps)
    zero = torch.zeros_like(yaw)
    return HeadMotion(torch.stack((zero, yaw, zero), 1), torch.zeros(len(yaw), 3), fps)


def still(frames=100):
    return HeadMotion(torch.zeros(frames, 3), torch.zeros(frames, 3), 25.0)


def clicks(seconds, times):
    """A log-mel [M, 80] that is quiet but for short bursts."""
    mel = torch.full((round(seconds * 100), 80), -12.0)
    for time in times:
        mel[round(time * 100) : round(time * 100) + 6] = -4.0
    return mel


def test_diversity_is_the_mean_deviation_in_degrees():
    assert diversity(sway(1.0)) == pytest.approx(5 / math.sqrt(2) / 3, rel=0.01)
    assert diversity(still()) == 0


def test_energy_below():
    slow, fast = sway(1.0), sway(5.0)
    assert energy_below(slow) > 0.999
    assert energy_below(fast) < 0.001
    both = HeadMotion(slow.rotation + fast.rotation, slow.translation, 25.0)
    assert energy_below(both) == pytest.approx(0.5, abs=0.01)
    assert energy_below(both, 6.0) > 0.99
    assert energy_below(still()) == 1.0


def test_speed_is_in_degrees_per_second():
    turn = HeadMotion(torch.arange(10.0)[:, None] * torch.tensor([0.0, 0.01, 0.0]), torch.zeros(10, 3), 25.0)
    torch.testing.assert_close(speed(turn), torch.full((9,), math.degrees(0.25)))


def test_reconstruction_rms_counts_angles_only():
    error = torch.zeros(4, 6)
    error[:, 3:] = 9.0
    assert reconstruction_rms(error) == 0
    error[:, :3] = math.radians(2)
    assert reconstruction_rms(error) == pytest.approx(2)


def test_perplexity():
    assert perplexity(torch.arange(8).repeat(3), 16) == pytest.approx(8)
    assert perplexity(torch.zeros(5, dtype=torch.long), 16) == pytest.approx(1)


def test_beats_of_sound_are_its_onsets():
    times = [0.5, 1.2, 2.4]
    torch.testing.assert_close(audio_beats(clicks(3, times)), torch.tensor(times), atol=0.03, rtol=0)
    assert not len(audio_beats(torch.full((300, 80), -12.0)))


def test_beats_of_a_head_are_where_it_turns_back():
    beats = motion_beats(sway(1.0, seconds=4))
    torch.testing.assert_close(beats, torch.arange(0.25, 4, 0.5), atol=0.04, rtol=0)
    assert not len(motion_beats(still()))


def test_beat_alignment_falls_with_distance():
    pose = sway(1.0, seconds=4)  # turns back at 0.25 s, 0.75 s, …
    on = beat_alignment(pose, clicks(4, [0.75, 1.75, 2.75]))
    off = beat_alignment(pose, clicks(4, [1.0, 2.0, 3.0]))
    assert on > 0.95
    assert off == pytest.approx(math.exp(-(0.25**2) / 0.02), abs=0.04)
    assert beat_alignment(still(), clicks(4, [1.0])) == 0.0


def test_follows_loudness():
    time_s = torch.arange(200) / 25
    louder = torch.sin(2 * math.pi * 0.25 * time_s)  # a phrase of two seconds, then a pause
    yaw = (0.01 * (1.2 + louder)).cumsum(0)
    pose = HeadMotion(torch.stack((0 * yaw, yaw, 0 * yaw), 1), torch.zeros(200, 3), 25.0)
    mel = -6 + 2 * louder.repeat_interleave(4)[:, None].expand(-1, 80)
    assert follows_loudness(pose, mel) > 0.98
    assert follows_loudness(pose, -12 - mel) < -0.98
    assert follows_loudness(still(200), mel) == 0.0


def test_seed_distance():
    pose = sway(1.0)
    other = HeadMotion(pose.rotation + math.radians(3), pose.translation, 25.0)
    assert seed_distance([pose, pose]) == 0
    assert seed_distance([pose, other]) == pytest.approx(3, rel=1e-4)
    with pytest.raises(SettingsError, match="two motions or more; got 1"):
        seed_distance([pose])
