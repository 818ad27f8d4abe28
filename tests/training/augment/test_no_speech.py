"""Sounds that are no speech: every kind has the length that was asked for, and a seed means one sound."""

import pytest
import torch

from vividtalk_core.training.augment import no_speech
from vividtalk_core.training.augment.no_speech import KINDS, make_no_speech


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1600, 48_000])
def test_every_kind_fills_its_length(kind, count):
    sound = kind(count, draw())
    assert sound.shape == (count,)
    assert bool(sound.isfinite().all())
    assert sound.std() > 0


def test_a_hum_is_a_tone_and_noise_is_not():
    def flatness(sound):  # 1 for white noise, 0 for a tone
        power = torch.fft.rfft(sound).abs().square()[10:]
        return float(power.log().mean().exp() / power.mean())

    assert flatness(no_speech._hum(16_000, draw())) < 0.02
    assert flatness(no_speech._steady_noise(16_000, draw(2))) > 0.1


def test_a_seed_is_one_sound_of_half_scale():
    first, again, other = make_no_speech(1.5, draw(1)), make_no_speech(1.5, draw(1)), make_no_speech(1.5, draw(2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (24_000,)
    assert float(first.abs().max()) == pytest.approx(0.5)
