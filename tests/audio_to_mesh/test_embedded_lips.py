"""What the embedded weights do with speech, silence, noise and music: the mouth of the mean head, in IOD."""

import math
from pathlib import Path

import pytest
import torch

from vividtalk_core import pipeline
from vividtalk_core.audio.encoder import MEL, WHISPER, encode_audio
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


@pytest.fixture(params=[("parallel", WHISPER), ("parallel", MEL), ("causal", MEL)], ids=["parallel", "mel", "causal"])
def opening(request, models):
    """A function: sound [N] → how far the inner lips are apart [T], IOD above the head at rest."""
    head = models.face.head
    rest = Expression.from_rest(torch.zeros(1, 52), torch.zeros(1, len(head.lip_vertices), 3), FPS)

    def run(sound):
        mode, encoder = request.param
        features = encode_audio(sound[None], RATE, FPS, encoder)
        curves = generate_expression(models.audio_to_mesh.expression(mode, encoder), features)
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


def chords(seconds):
    """A progression of plucked chords with a bass, a beat of noise and vibrato."""
    time_s = torch.arange(round(seconds * RATE)) / RATE
    beat = (time_s * 2).floor()
    since = time_s - beat / 2
    sound = torch.zeros_like(time_s)
    for number, root in enumerate((220.0, 174.6, 130.8, 196.0)):
        here = beat % 4 == number
        for step in (-12, 0, 4, 7, 12):
            hertz = root * 2 ** (step / 12)
            for harmonic in (1, 2, 3):
                tone = torch.sin(2 * math.pi * harmonic * hertz * time_s + 0.3 * torch.sin(2 * math.pi * 5 * time_s))
                sound += torch.where(here, tone / harmonic, 0.0) * torch.exp(-3 * since)
    drum = torch.randn(len(sound), generator=torch.Generator().manual_seed(0)) * torch.exp(-40 * since)
    return 0.05 * sound + 0.1 * drum


def test_the_mouth_is_shut_during_music_and_speaks_when_speech_begins(opening, speech):
    intro_s = 3.0
    aperture, plain = opening(torch.cat((chords(intro_s), speech))), opening(speech)
    start = round(intro_s * FPS)
    assert aperture[: start - 5].quantile(0.95) < 0.03
    assert aperture[: start - 5].max() < 0.06
    # as without the music, from a fifth of a second after the beginning at the latest
    r = torch.corrcoef(torch.stack((aperture[start + 5 : start + 60], plain[5:60])))[0, 1]
    assert r > 0.9


def test_the_end_of_a_clip_does_not_reach_its_beginning(opening, speech):
    whole, cut = opening(speech), opening(speech[: 100 * 640])
    # the level that the sound is brought to is the clip's, which moves the curves a little
    assert (whole[:60] - cut[:60]).abs().max() < 0.01
