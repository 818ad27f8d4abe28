"""Curves from elsewhere: Live Link Face, our own files, and a rig whose names are shifted against their columns."""

import math

import numpy as np
import pytest
import torch

from vividtalk_core.motion.files import write_curves
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion
from vividtalk_core.training.prepare.curve_sets import JAW, RIG, name_columns, observe_curves

JAW_OPEN = ARKIT_NAMES.index("jawOpen")
NAMES = ["brow_lower_l", *sorted({column for columns in RIG.values() for column in columns}), "tooth_d"]
SECONDS, RATE = 4, 16000


def loud(time):
    """0..1, two syllables a second."""
    return (0.5 - 0.5 * torch.cos(2 * math.pi * 2 * time)) * ((time % 2) < 1.5)


@pytest.fixture
def speech():
    """[N] a hum in syllables."""
    time = torch.arange(SECONDS * RATE) / RATE
    return 0.1 * loud(time) * sum(torch.sin(2 * math.pi * 150 * k * time) / k for k in range(1, 25))


@pytest.fixture
def wav(tmp_path, speech):
    import wave

    with wave.open(str(tmp_path / "take.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((speech * 20000).to(torch.int16).numpy().tobytes())
    return tmp_path / "take.wav"


@pytest.fixture
def weights():
    """[T, K] at 30 fps in the order of NAMES: the jaw follows the loudness, both sides move alike."""
    generator = torch.Generator().manual_seed(0)
    time = (torch.arange(SECONDS * 30) + 0.5) / 30
    table = torch.zeros(len(time), len(NAMES))
    table[:, NAMES.index(JAW)] = 0.6 * loud(time)
    for left, right in (("mouth_pucker_l", "mouth_pucker_r"), ("mouth_press_l", "mouth_press_r")):
        table[:, NAMES.index(left)] = table[:, NAMES.index(right)] = 0.3 * torch.rand(len(time), generator=generator)
    return table


def rig(path, weights, names):
    np.savez(path, weights=weights.numpy().astype(np.float16), names=np.array(names), fps=np.float64(30))
    return path


@pytest.mark.parametrize("shift", [0, 1, -1])
def test_rig_is_read_whatever_place_its_names_stand_at(tmp_path, wav, weights, head_model, shift):
    names = np.roll(NAMES, -shift)
    seen = observe_curves(rig(tmp_path / "take.npz", weights, names), wav, head_model)
    assert seen.coefficients.shape == (SECONDS * 25, 52)
    assert set(seen.known) == {"jawOpen", "mouthPucker", "mouthPressLeft", "mouthPressRight"}
    time = (torch.arange(SECONDS * 25) + 0.5) / 25
    assert (seen.coefficients[:, JAW_OPEN] - 0.6 * loud(time)).abs().max() < 0.05
    assert not seen.has_pose
    assert not seen.has_offsets
    assert seen.sound.shape == (SECONDS * RATE,)
    # a mouth at rest counts as closed, as landmarks see it
    rest = seen.coefficients[:, JAW_OPEN] < 0.01
    assert seen.aperture[rest].abs().max() < 0.03
    assert seen.aperture[~rest].max() > 0.1


def test_rig_whose_names_fit_nowhere(weights, speech):
    with pytest.raises(ValueError, match=r"names of x\.npz fit its columns at no shift: .*; found \+0: jaw 0\.\d\d"):
        name_columns("x.npz", weights, list(np.roll(NAMES, 7)), 30.0, speech)
    with pytest.raises(ValueError, match="at no shift"):  # nothing shows the right one
        name_columns("x.npz", weights, NAMES, 30.0, torch.zeros(0))


def test_other_rig(weights, speech):
    names = ["other" if name == JAW else name for name in NAMES]
    with pytest.raises(ValueError, match=r"x\.npz has no columns mouth_stretch_c: it is not the FACEGOOD rig"):
        name_columns("x.npz", weights, names, 30.0, speech)


def test_rig_with_wrong_arrays(tmp_path, wav, weights, head_model):
    with pytest.raises(ValueError, match=r"a\.npz must have finite weights \[T, 3\], .*; got \[120, \d+\]"):
        observe_curves(rig(tmp_path / "a.npz", weights, NAMES[:3]), wav, head_model)
    weights[3, 3] = torch.nan
    with pytest.raises(ValueError, match="must have finite weights"):
        observe_curves(rig(tmp_path / "a.npz", weights, NAMES), wav, head_model)
    np.savez(tmp_path / "b.npz", weights=weights.numpy())
    with pytest.raises(ValueError, match=r"b\.npz' has weights but no names and no fps"):
        observe_curves(tmp_path / "b.npz", wav, head_model)


def motion(lips, fps=60.0):
    frames = round(SECONDS * fps)
    coefficients = torch.zeros(frames, 52)
    coefficients[:, JAW_OPEN] = torch.linspace(0, 0.5, frames)
    offsets = 0.01 * torch.ones(frames, lips, 3)
    pose = HeadMotion(torch.linspace(0, 0.3, frames)[:, None].expand(-1, 3).contiguous(), torch.zeros(frames, 3), fps)
    return Expression(coefficients, offsets, fps, coefficients[0], offsets[0]), pose


def test_live_link_file(tmp_path, wav, head_model):
    write_curves(tmp_path / "take.csv", *motion(0))
    seen = observe_curves(tmp_path / "take.csv", wav, head_model)
    assert seen.known == ("jawOpen",)
    assert seen.has_pose
    assert not seen.has_offsets
    assert seen.lip_offsets.shape == (SECONDS * 25, len(head_model.lip_vertices), 3)
    assert seen.rotation[-1].tolist() == pytest.approx([0.3] * 3, abs=0.01)
    assert seen.coefficients[:, JAW_OPEN].diff().mean() == pytest.approx(0.5 / 100, abs=1e-4)
    assert seen.valid.all()


def test_own_file_keeps_its_lip_offsets(tmp_path, wav, head_model):
    write_curves(tmp_path / "take.npz", *motion(len(head_model.lip_vertices)))
    seen = observe_curves(tmp_path / "take.npz", wav, head_model)
    assert seen.has_offsets
    assert torch.allclose(seen.lip_offsets, torch.tensor(0.01))
    write_curves(tmp_path / "other.json", *motion(3, fps=5.0))  # of another head
    assert not observe_curves(tmp_path / "other.json", wav, head_model).has_offsets


def test_pose_alone_teaches_no_mouth(tmp_path, wav, head_model):
    write_curves(tmp_path / "take.npz", None, motion(0)[1])
    with pytest.raises(ValueError, match=r"take\.npz has a head pose, but no coefficients to learn a mouth from"):
        observe_curves(tmp_path / "take.npz", wav, head_model)
