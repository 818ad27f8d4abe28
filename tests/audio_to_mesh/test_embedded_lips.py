"""What the embedded weights do with speech, silence, noise and music: the mouth of the mean head, in IOD."""

import math
from pathlib import Path

import pytest
import torch

from vividtalk_core import pipeline
from vividtalk_core.audio.encoder import encode_audio
from vividtalk_core.audio.waveform import read_audio
from vividtalk_core.audio_to_mesh.articulation import generate_expression
from vividtalk_core.head.mouth_shape import lip_curves
from vividtalk_core.pipeline import load_models
from vividtalk_core.structures import Expression

RATE, FPS = 16_000, 25.0


@pytest.fixture(scope="module")
def models():
    return load_models()


@pytest.fixture(scope="module")
def speech():
    waveform, rate = read_audio(Path(pipeline.__file__).parent / "assets/demo/speech.flac")
    assert rate == RATE
    return waveform[0]


@pytest.fixture(params=["parallel", "causal"])
def opening(request, models):
    """A function: sound [N] → how far the inner lips are apart [T], IOD above the head at rest."""
    head = models.face.head
    rest = Expression.from_rest(torch.zeros(1, 52), torch.zeros(1, len(head.lip_vertices), 3), FPS)

    def run(sound):
        curves = generate_expression(
            models.audio_to_mesh.expression(request.param), encode_audio(sound[None], RATE, FPS)
        )
        return lip_curves(curves, head)[0] - lip_curves(rest, head)[0]

    return run


def test_speech_opens_and_closes_the_mouth(opening, speech):
    aperture = opening(speech)
    assert aperture.quantile(0.9) > 0.06
    assert aperture.quantile(0.1) < 0.02


def test_silence_closes_the_mouth_within_a_fifth_of_a_second(opening, speech):
    cut = round(2.4 * RATE)
    aperture = opening(torch.cat((speech[:cut], torch.zeros(2 * RATE))))
    assert aperture[55:60].max() > 0.05
    assert aperture[60 + 5 :].max() < 0.015


def test_noise_and_music_do_not_make_it_chatter(opening):
    generator = torch.Generator().manual_seed(0)
    time_s = torch.arange(4 * RATE) / RATE
    chord = sum(torch.sin(2 * math.pi * hertz * time_s) for hertz in (220, 277, 330, 440))
    swelling = 0.05 * chord * (0.6 + 0.4 * torch.sin(2 * math.pi * 2 * time_s))
    for sound in (0.05 * torch.randn(4 * RATE, generator=generator), swelling):
        aperture = opening(sound)[5:-5]
        assert aperture.max() < 0.03
        assert aperture.diff().abs().mean() < 0.003


def test_the_end_of_a_clip_does_not_reach_its_beginning(opening, speech):
    whole, cut = opening(speech), opening(speech[: 100 * 640])
    # the level that the sound is brought to is the clip's, which moves the curves a little
    assert (whole[:60] - cut[:60]).abs().max() < 0.01
