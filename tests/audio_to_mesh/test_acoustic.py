from pathlib import Path

import pytest
import torch

from vividtalk_core.audio.encoder import MEL, encode_audio
from vividtalk_core.audio.speech import BANDS, analyse, band_energy, speaking_and_stress
from vividtalk_core.audio.waveform import read_audio
from vividtalk_core.audio_to_mesh.acoustic import AcousticSettings, acoustic_expression
from vividtalk_core.filters import blur_rows
from vividtalk_core.structures import ARKIT_NAMES, AudioFeatures

RATE = 16_000
DEFAULT = AcousticSettings()
DEMO = Path(__file__).parents[2] / "vividtalk_core" / "assets" / "demo"


@pytest.fixture(scope="module")
def speech():
    return read_audio(DEMO / "speech.flac")[0][0]


def column(expression, name):
    return expression.coefficients[:, ARKIT_NAMES.index(name)]


def express(waveform, fps=25.0, settings=DEFAULT):
    return acoustic_expression(encode_audio(waveform, RATE, fps, MEL), 4, settings)


def noise(seconds):
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(0))


def vowel(seconds, formants, pitch=120):
    """Harmonics of a voice under resonances of 100 Hz width, as RMS 0.1."""
    time = torch.arange(round(seconds * RATE)) / RATE
    voice = torch.zeros_like(time)
    for harmonic in range(1, 40):
        hertz = harmonic * pitch
        gain = sum(1 / (1 + ((hertz - formant) / 100) ** 2) for formant in formants) / harmonic**0.5
        voice += gain * torch.sin(2 * torch.pi * hertz * time + harmonic)
    return 0.1 * voice / voice.std()


def utterance(*parts):
    """Sounds with half a second of silence before, between and after."""
    gap = torch.zeros(RATE // 2)
    return torch.cat([gap, *(piece for part in parts for piece in (part, gap))])


def test_speech_moves_as_speech_does(speech):
    expression = express(speech)
    jaw = column(expression, "jawOpen")
    assert expression.coefficients.shape == (151, 52)
    assert expression.lip_offsets.shape == (151, 4, 3)
    assert expression.baseline == "rest" and not expression.neutral_coefficients.any()
    assert 0.2 < jaw.quantile(0.95) < 0.4 and jaw.max() < 0.5
    assert (jaw < 0.05).float().mean() > 0.08  # it closes, too
    assert 0.5 < jaw.diff().abs().mean() * 25 < 1.5  # per second
    assert expression.coefficients.min() >= 0
    assert max(column(expression, name).max() for name in ("browInnerUp", "browOuterUpLeft")) <= 0.25
    assert column(expression, "eyeBlinkLeft").max() == 0


@pytest.mark.parametrize("gain", [0.01, 0.1, 0.9])
def test_quiet_speakers_move_as_much(speech, gain):
    torch.testing.assert_close(
        column(express(speech * gain), "jawOpen"), column(express(speech), "jawOpen"), atol=2e-3, rtol=0
    )


def test_speech_over_noise_still_moves_and_noise_alone_does_not(speech):
    ten_db = noise(len(speech) / RATE) / 0.1 * speech.std() * 10 ** (-10 / 20)
    clean, noisy = column(express(speech), "jawOpen"), column(express(speech + ten_db), "jawOpen")
    assert torch.corrcoef(torch.stack((clean, noisy)))[0, 1] > 0.75
    time = torch.arange(3 * RATE) / RATE
    chord = sum(torch.sin(2 * torch.pi * hertz * time) for hertz in (220, 277, 330, 660)) / 40
    for steady in (noise(3), chord, torch.zeros(3 * RATE)):
        assert express(steady).coefficients.max() < 0.02


def test_silence_closes_the_mouth_within_200_ms(speech):
    cut = round(3.1 * RATE)  # inside a word
    expression = express(torch.cat([speech[:cut], torch.zeros(RATE)]), 100.0)
    jaw = column(expression, "jawOpen")
    assert jaw[300:310].max() > 0.03
    assert jaw[330:].max() < 0.005


def test_vowels_have_their_shapes():
    uh, ah, ee, oo = (
        vowel(0.4, formants) for formants in ((500, 1500, 2500), (750, 1250, 2500), (280, 2250, 2900), (300, 800, 2200))
    )
    expression = express(utterance(uh, ah, ee, oo, uh, oo))

    def mean(name, number):
        start = 0.6 + 0.9 * number
        return float(column(expression, name)[round(start * 25) : round((start + 0.2) * 25)].mean())

    assert mean("jawOpen", 1) > 1.4 * max(mean("jawOpen", 2), mean("jawOpen", 3)) > 0
    assert mean("mouthStretchLeft", 2) > 0.02 > mean("mouthStretchLeft", 3)
    assert mean("mouthPucker", 3) > 0.1 > mean("mouthPucker", 2)
    assert mean("mouthLowerDownLeft", 1) > 0.1


def test_lips_meet_before_a_vowel_without_burst_and_stay_apart_in_hiss():
    ah = vowel(0.3, (750, 1250, 2500))
    pause = torch.zeros(round(0.09 * RATE))
    hiss = torch.diff(noise(0.3), prepend=torch.zeros(1)) / 2  # above 4 kHz mostly
    apa, asa = torch.cat([ah, pause, ah]), torch.cat([ah, hiss[: len(pause)], ah])
    result = express(utterance(apa, asa), 100.0)
    in_apa, in_asa = slice(80, 90), slice(199, 208)
    assert analyse(encode_audio(utterance(apa, asa), RATE, encoder=MEL).mel).closure[84] > 0.9
    opening, closing = column(result, "jawOpen"), column(result, "mouthClose")
    assert (opening - closing)[in_apa].min() < 0.02 < 0.08 < opening[in_asa].min()
    assert column(result, "mouthPressLeft")[in_apa].max() > 0.15
    assert column(result, "mouthPressLeft")[in_asa].max() < 0.05
    assert column(result, "mouthUpperUpLeft")[in_asa].min() > 0.04


def test_a_sung_note_keeps_the_mouth_open():
    note = vowel(1.5, (300, 800, 2200))
    assert column(express(utterance(vowel(0.3, (750, 1250, 2500)), note)), "jawOpen")[35:65].min() > 0.05


def test_other_frame_rates_sample_the_same_curve(speech):
    slow, fast = column(express(speech, 25.0), "jawOpen"), column(express(speech, 75.0), "jawOpen")
    torch.testing.assert_close(fast[1::3], slow, atol=1e-5, rtol=0)  # equal centres


def test_the_mouth_depends_on_a_bounded_window(speech):
    mel = encode_audio(speech, RATE, encoder=MEL).mel
    changed = mel.clone()
    changed[400:] = changed[400:].roll(1, 0)  # the clip's levels stay
    speech_a, speech_b = analyse(mel), analyse(changed)
    torch.testing.assert_close(speech_a.opening[:350], speech_b.opening[:350])
    torch.testing.assert_close(speech_a.closure[:350], speech_b.closure[:350])


def test_settings(speech):
    still = express(speech, settings=AcousticSettings(jaw=0, lips=0, brows=0))
    assert still.coefficients.max() == 0
    default, strong = express(speech), express(speech, settings=AcousticSettings(jaw=0.18))
    torch.testing.assert_close(column(strong, "jawOpen"), column(default, "jawOpen") / 2)
    early = express(speech, settings=AcousticSettings(lead_s=0.04))
    torch.testing.assert_close(column(early, "jawOpen")[:-1], column(default, "jawOpen")[1:])
    left, right = column(default, "mouthLowerDownLeft"), column(default, "mouthLowerDownRight")
    assert 0 < (left / right - 1)[left > 0.1].abs().max() < 0.07
    other = express(speech, settings=AcousticSettings(seed=1))
    assert not torch.equal(column(other, "mouthLowerDownLeft"), left)
    for wrong in ({"jaw": -1.0}, {"attack_s": 0.0}, {"lips": float("nan")}):
        with pytest.raises(ValueError, match="strengths must be 0 or more and smoothing times above 0"):
            AcousticSettings(**wrong)


def test_length_follows_the_features():
    mel = torch.full((3, 80), -10.0)
    assert len(acoustic_expression(AudioFeatures(mel, 7, 25.0, 0.28), 0).coefficients) == 7


def test_bands():
    energy = band_energy(torch.arange(80.0).expand(2, -1))
    assert energy.shape == (2, len(BANDS) - 1)
    assert (energy[0].diff() > 0).all()


def test_blur_is_normalised_and_looks_further_to_one_side():
    impulse = torch.zeros(41, 1)
    impulse[20] = 1
    out = blur_rows(impulse, 2.0, 5.0)[:, 0]
    torch.testing.assert_close(out.sum(), torch.tensor(1.0))
    torch.testing.assert_close(out[18] / out[20], torch.exp(torch.tensor(-0.5)))  # rises early by `before`
    torch.testing.assert_close(out[25] / out[20], torch.exp(torch.tensor(-0.5)))  # falls late by `after`
    torch.testing.assert_close(blur_rows(torch.ones(3, 2), 2.0, 5.0), torch.ones(3, 2))


def test_stress_is_where_it_is_louder():
    level = torch.full((600,), 0.4)
    level[300:330] = 1.0
    speaking, stress = speaking_and_stress(level)
    assert speaking.min() > 0.3
    assert abs(int(stress.argmax()) - 315) < 10
    assert stress[:150].max() < 0.05
