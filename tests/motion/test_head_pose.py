import logging
import math
from pathlib import Path

import pytest
import torch

from vividtalk_core.audio.encoder import MEL, encode_audio
from vividtalk_core.audio.waveform import read_audio
from vividtalk_core.errors import MismatchError, SettingsError
from vividtalk_core.geometry import rotation_matrix
from vividtalk_core.motion.head_pose import SwaySettings, fit_to_length, idle_pose, relative_to_frame, still_pose
from vividtalk_core.structures import HeadMotion

DEMO = Path(__file__).parents[2] / "vividtalk_core" / "assets" / "demo"


def ramp(frames, fps=25.0):
    line = torch.arange(float(frames))[:, None]
    return HeadMotion(line * torch.tensor([0.01, 0.02, 0.03]), line * torch.tensor([0.1, 0.0, 0.0]), fps)


def spectrum_share(curve, fps, low, high):
    power = torch.fft.rfft(curve - curve.mean(0), dim=0).abs().square().sum(1)
    hertz = torch.fft.rfftfreq(len(curve), 1 / fps)
    return float(power[(hertz >= low) & (hertz < high)].sum() / power.sum())


def test_still():
    pose = still_pose(5, 30)
    assert pose.rotation.shape == pose.translation.shape == (5, 3)
    assert pose.rotation.abs().max() == pose.translation.abs().max() == 0
    assert pose.fps == 30.0
    with pytest.raises(SettingsError, match="between 1 and 120; got 0"):
        still_pose(5, 0)


@pytest.mark.parametrize("seed", range(4))
def test_idle_stays_in_its_limits_and_bands(seed):
    pose = idle_pose(3000, 25.0, seed)
    degrees = pose.rotation.rad2deg()
    assert (degrees.abs().amax(0) <= torch.tensor(SwaySettings().limits_deg)).all()
    assert (degrees[25:].std(0) > torch.tensor([0.8, 1.2, 0.5])).all()
    assert spectrum_share(degrees[100:], 25.0, 0, 1) > 0.9
    assert spectrum_share(degrees[100:], 25.0, 3, 13) < 0.005
    assert degrees.diff(dim=0).abs().max() * 25 < 15  # degrees per second
    assert 0.01 < pose.translation.abs().max() < 0.15


def test_idle_starts_from_the_portrait_without_a_jump():
    for seed in range(20):
        pose = idle_pose(20, 25.0, seed)
        assert pose.rotation[0].abs().max() == pose.translation[0].abs().max() == 0
        assert pose.rotation[:3].abs().max() < math.radians(0.15)


def test_idle_is_a_function_of_seed_and_time():
    long = idle_pose(500, 25.0, 3)
    assert torch.equal(idle_pose(50, 25.0, 3).rotation, long.rotation[:50])
    torch.testing.assert_close(idle_pose(1000, 50.0, 3).rotation[::2], long.rotation)
    assert not torch.allclose(idle_pose(500, 25.0, 4).rotation, long.rotation, atol=0.01)


def test_amplitude():
    torch.testing.assert_close(idle_pose(50, 25.0, 0, 0.5).rotation, idle_pose(50, 25.0, 0).rotation / 2)
    assert idle_pose(50, 25.0, 0, 0.0).rotation.abs().max() == 0
    for wrong in (-1.0, float("nan")):
        with pytest.raises(SettingsError, match=f"must be 0 or more; got {wrong}"):
            idle_pose(5, 25.0, 0, wrong)


def test_head_turns_about_the_neck():
    settings = SwaySettings()
    pose = idle_pose(200, 25.0, 1)
    neck = torch.tensor(settings.pivot)
    moved = rotation_matrix(pose.rotation) @ neck + pose.translation
    torch.testing.assert_close(moved, neck.expand(200, 3), atol=1e-5, rtol=0)


def test_speech_adds_nods_and_pauses_calm():
    speech = encode_audio(*read_audio(DEMO / "speech.flac"), encoder=MEL)
    silence = encode_audio(torch.zeros(16_000 * 6), 16_000, encoder=MEL)
    alone = idle_pose(150, 25.0, 0).rotation
    spoken = idle_pose(150, 25.0, 0, features=speech).rotation
    quiet = idle_pose(150, 25.0, 0, features=silence).rotation
    torch.testing.assert_close(quiet, alone * SwaySettings().quiet_share)
    assert 0.5 < (spoken - alone)[:, 0].rad2deg().max() < 2.6  # downwards
    torch.testing.assert_close(idle_pose(80, 25.0, 0, features=speech).rotation, spoken[:80])


def test_relative_to_frame_undoes_the_first_frame():
    pose = HeadMotion(0.6 * torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), torch.randn(9, 3), 25.0)
    relative = relative_to_frame(pose)
    assert relative.rotation[0].abs().max() == relative.translation[0].abs().max() == 0
    back = rotation_matrix(relative.rotation) @ rotation_matrix(pose.rotation[:1])
    torch.testing.assert_close(back, rotation_matrix(pose.rotation), atol=1e-5, rtol=0)
    torch.testing.assert_close(relative.translation + pose.translation[0], pose.translation)


def test_fit_cuts_keeps_and_plays_to_and_fro(caplog):
    pose = ramp(4)
    with caplog.at_level(logging.INFO, "vividtalk"):
        assert torch.equal(fit_to_length(pose, 4, 25.0).rotation, pose.rotation)
        assert caplog.text == ""
        assert torch.equal(fit_to_length(pose, 3, 25.0).rotation, pose.rotation[:3])
        looped = fit_to_length(pose, 11, 25.0)
    steps = (looped.translation[:, 0] * 10).round().int().tolist()
    assert steps == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2]
    assert "has 4 frames at 25 fps; it is cut to the clip's 3" in caplog.text
    assert "played forwards and backwards to fill the clip's 11" in caplog.text


def test_fit_holds():
    held = fit_to_length(ramp(3), 6, 25.0, loop=False)
    torch.testing.assert_close(held.translation[:, 0], torch.tensor([0.0, 0.1, 0.2, 0.2, 0.2, 0.2]))
    assert torch.equal(fit_to_length(ramp(1), 4, 25.0).rotation, ramp(1).rotation.expand(4, 3))


def test_fit_retimes(caplog):
    with caplog.at_level(logging.INFO, "vividtalk"):
        fitted = fit_to_length(ramp(60, 60.0), 25, 25.0)
    assert fitted.fps == 25.0
    assert "resampled from 60 to 25 fps" in caplog.text
    torch.testing.assert_close(fitted.translation[10:12, 0].diff(), torch.tensor([0.24]), atol=1e-5, rtol=0)


def test_fit_errors():
    with pytest.raises(SettingsError, match="at least 1 frame; got 0"):
        fit_to_length(ramp(3), 0, 25.0)
    for verb in (lambda pose: fit_to_length(pose, 3, 25.0), relative_to_frame):
        with pytest.raises(MismatchError, match="has 0 frames"):
            verb(HeadMotion(torch.zeros(0, 3), torch.zeros(0, 3), 25.0))
