import math

import pytest
import torch

from vividtalk_core.audio.mel import band_centres, log_mel
from vividtalk_core.audio.waveform import read_audio, to_mono_16k
from vividtalk_core.hub import EMBEDDED
from vividtalk_core.structures import SAMPLE_RATE
from vividtalk_core.training.augment.channel import (
    CODECS,
    NOISES,
    add_noise,
    add_room,
    code,
    equalise,
    make_noise,
)
from vividtalk_core.training.augment.mel import (
    MelAugmentation,
    add_mel_noise,
    augment_mel,
    colour_bands,
    mask_spans,
    warp_bands,
)
from vividtalk_core.training.augment.speech import SpeechAugmentation, augment_speech, retime
from vividtalk_core.training.augment.voice import shift_voice
from vividtalk_core.training.sampling import between, choice, happens, ratio

NEVER = SpeechAugmentation(voice=0, tempo=0, equaliser=0, room=0, noise=0, codec=0, gain_db=(0.0, 0.0))
STILL = MelAugmentation(warp=0, colour=0, noise=0, masks=0, gain_db=(0.0, 0.0))


def random_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def time_axis(seconds):
    return torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def tone(hz, seconds=1.0):
    return 0.3 * torch.sin(2 * math.pi * hz * time_axis(seconds))


def vowel(f0=120.0, formant=1000.0, seconds=1.0):
    """Harmonics under one formant 300 Hz wide."""
    t = time_axis(seconds)
    level = [1 / (1 + ((k * f0 - formant) / 150) ** 2) for k in range(1, int(7000 / f0))]
    return 0.1 * sum(a * torch.sin(2 * math.pi * k * f0 * t) for k, a in enumerate(level, 1))


def power(waveform):
    return torch.fft.rfft(waveform * torch.hann_window(len(waveform))).abs().square()


def frequencies(waveform):
    return torch.linspace(0, SAMPLE_RATE / 2, len(waveform) // 2 + 1)


def pitch_of(waveform):
    """Hz of the highest peak of the autocorrelation between 60 and 400 Hz."""
    middle = waveform[len(waveform) // 4 : 3 * len(waveform) // 4]
    correlation = torch.fft.irfft(torch.fft.rfft(middle, n=2 * len(middle)).abs().square())
    low, high = SAMPLE_RATE // 400, SAMPLE_RATE // 60
    return SAMPLE_RATE / (low + int(correlation[low:high].argmax()))


def formant_of(waveform):
    """Hz, the centre of gravity of the power between 300 Hz and 3 kHz."""
    hz, level = frequencies(waveform), power(waveform)
    band = (hz > 300) & (hz < 3000)
    return float((hz * level)[band].sum() / level[band].sum())


def level_db(waveform, low, high):
    hz = frequencies(waveform)
    return float(10 * power(waveform)[(hz >= low) & (hz < high)].mean().log10())


def loudness(waveform, hop=160):
    return waveform[: len(waveform) // hop * hop].view(-1, hop).square().mean(1).sqrt()


def snr(clean, noisy):
    return float(10 * (clean.square().mean() / (noisy - clean).square().mean()).log10())


@pytest.fixture(scope="module")
def speech():
    return to_mono_16k(*read_audio(EMBEDDED / "demo" / "speech.flac"))[: 3 * SAMPLE_RATE]


# ---- the voice


@pytest.mark.parametrize("pitch", [0.75, 0.9, 1.2, 1.4])
def test_pitch_moves_alone(pitch):
    changed = shift_voice(vowel(), pitch=pitch)
    assert len(changed) == SAMPLE_RATE
    assert pitch_of(changed) == pytest.approx(120 * pitch, rel=0.03)
    assert formant_of(changed) == pytest.approx(formant_of(vowel()), rel=0.06)


@pytest.mark.parametrize("formant", [0.85, 1.2])
def test_formants_move_alone(formant):
    changed = shift_voice(vowel(), formant=formant)
    assert pitch_of(changed) == pytest.approx(120, rel=0.02)
    moved = formant_of(changed) / formant_of(vowel())
    assert (moved - 1) / (formant - 1) == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("tempo", [0.8, 1.25])
def test_tempo_moves_alone(tempo):
    changed = shift_voice(vowel(), tempo=tempo)
    assert len(changed) == round(SAMPLE_RATE / tempo)
    assert pitch_of(changed) == pytest.approx(120, rel=0.02)
    assert formant_of(changed) == pytest.approx(formant_of(vowel()), rel=0.05)


@pytest.mark.parametrize(
    "changes", [{"pitch": 1.3}, {"pitch": 0.8}, {"formant": 1.15}, {"tempo": 0.85}, {"tempo": 1.2}]
)
def test_loudness_stays_in_time(speech, changes):
    """The loudness of speech, moved by the tempo, is that of the changed voice, best at no delay."""
    before = retime(loudness(speech)[:, None], changes.get("tempo", 1.0))[:, 0]
    after = loudness(shift_voice(speech, **changes))
    count = min(len(before), len(after)) - 20
    assert abs(len(before) - len(after)) <= 1
    fit = [
        float(torch.corrcoef(torch.stack((before[10 : 10 + count], after[10 + lag : 10 + lag + count])))[0, 1])
        for lag in range(-5, 6)
    ]
    assert abs(fit.index(max(fit)) - 5) <= 1, "10 ms a step"
    assert max(fit) > 0.9


def test_bursts_stay_bursts():
    """A click, as the release of a p, stays where it is and short."""
    click = torch.zeros(SAMPLE_RATE)
    click[8000:8016] = 0.5
    for changes in ({"pitch": 1.25}, {"pitch": 0.8}, {"tempo": 0.9}):
        changed = shift_voice(click, **changes)
        where = 8008 / changes.get("tempo", 1.0)
        energy = changed.square()
        assert abs(float((energy * torch.arange(len(changed))).sum() / energy.sum()) - where) < 0.008 * SAMPLE_RATE
        near = energy[int(where) - 400 : int(where) + 400].sum() / energy.sum()
        assert near > 0.9, "within 25 ms"


def test_unchanged_is_a_copy(speech):
    same = shift_voice(speech)
    assert torch.equal(same, speech) and same.data_ptr() != speech.data_ptr()
    assert shift_voice(torch.zeros(0), pitch=2).shape == (0,)


@pytest.mark.parametrize("count", [1, 100, 511, 513, 16001])
def test_any_length(count):
    waveform = torch.randn(count, generator=random_generator())
    changed = shift_voice(waveform, 1.1, 0.9, 1.07)
    assert changed.shape == (round(count / 1.07),) and changed.isfinite().all()


def test_bad_factor():
    with pytest.raises(ValueError, match=r"formant must be a factor between 0.25 and 4; got 5"):
        shift_voice(torch.zeros(10), formant=5)


# ---- the channel


def test_colours_of_noise():
    white, pink = (make_noise(kind, 4 * SAMPLE_RATE, random_generator()) for kind in ("white", "pink"))
    for noise in (white, pink):
        assert float(noise.square().mean()) == pytest.approx(1, abs=1e-4)
    fall = [level_db(noise, 3000, 6000) - level_db(noise, 375, 750) for noise in (white, pink)]
    assert fall[0] == pytest.approx(0, abs=0.5) and fall[1] == pytest.approx(-9, abs=0.5), "three octaves"


def test_babble_is_the_others():
    others = [tone(300), tone(500, 0.7), torch.zeros(0)]
    babble = make_noise("babble", SAMPLE_RATE, random_generator(3), others)
    inside = sum(level_db(babble, f - 20, f + 20) for f in (300, 500)) / 2
    assert inside - level_db(babble, 1000, 2000) > 40
    with pytest.raises(ValueError, match="give at least one; got 0"):
        make_noise("babble", 10, random_generator(), [torch.zeros(0)])


@pytest.mark.parametrize("kind", NOISES)
def test_noise_has_its_level(speech, kind):
    noise = make_noise(kind, len(speech), random_generator(), [speech.flip(0)])
    assert snr(speech, add_noise(speech, noise, 12.0)) == pytest.approx(12, abs=0.1)
    assert torch.equal(noise, make_noise(kind, len(speech), random_generator(), [speech.flip(0)]))


def test_room_decays_as_asked():
    click = torch.zeros(SAMPLE_RATE)
    click[1000] = 1.0
    wet = add_room(click, 0.5, 3.0, random_generator())
    assert int(wet.abs().argmax()) == 1000, "the direct sound stays"
    assert not wet[:1000].abs().max() > 1e-6
    tail = wet[1001:].square()
    assert float(10 * (wet[1000] ** 2 / tail.sum()).log10()) == pytest.approx(3, abs=0.1)
    early, late = tail[800:2400].mean(), tail[4800:6400].mean()  # 0.25 s apart: 30 dB of 60 dB in 0.5 s
    assert float(10 * (early / late).log10()) == pytest.approx(30, abs=1.5)


def test_room_keeps_length_and_level(speech):
    wet = add_room(speech, 0.4, 5.0, random_generator())
    assert wet.shape == speech.shape and not torch.allclose(wet, speech)
    assert float(wet.norm()) == pytest.approx(float(speech.norm()), rel=1e-4)
    with pytest.raises(ValueError, match="rt60_s must be above 0; got 0"):
        add_room(speech, 0, 5.0, random_generator())


def test_equaliser_has_its_gains():
    noise = make_noise("white", 2 * SAMPLE_RATE, random_generator())
    changed = equalise(noise, torch.tensor([0.0, 12.0]))
    for low, high in ((100, 110), (950, 1000), (7000, 7500)):
        middle = math.sqrt(low * high)
        expected = 12 * math.log2(middle / 60) / math.log2(8000 / 60)
        assert level_db(changed, low, high) - level_db(noise, low, high) == pytest.approx(expected, abs=0.4)
    assert torch.allclose(equalise(noise, torch.zeros(6)), noise, atol=1e-5)


def test_codecs_take_away_what_they_should():
    noise = make_noise("white", 2 * SAMPLE_RATE, random_generator()) * 0.1
    telephone, low_pass = code(noise, "telephone", 0.5), code(noise, "low-pass", 1.0)
    for low, high, kept in ((50, 200, False), (500, 3000, True), (4200, 8000, False)):
        assert (level_db(telephone, low, high) > level_db(noise, low, high) - 1) == kept
    assert level_db(low_pass, 100, 2000) == pytest.approx(level_db(noise, 100, 2000), abs=0.2)
    assert level_db(low_pass, 3500, 8000) < level_db(noise, 3500, 8000) - 30
    assert len(code(noise, "crush", 1.0).unique()) <= 66
    assert len(code(noise, "mu-law", 1.0).unique()) <= 34


@pytest.mark.parametrize("kind", ["mu-law", "crush", "holes"])
def test_codecs_grow_worse(speech, kind):
    quality = [snr(speech, code(speech, kind, strength)) for strength in (0.0, 0.5, 1.0)]
    assert quality == sorted(quality, reverse=True) and quality[0] > 25 and 5 < quality[2] < 30


@pytest.mark.parametrize("kind", CODECS)
def test_codecs_keep_silence_and_length(kind):
    assert not code(torch.zeros(777), kind, 0.5).any()
    assert code(tone(300)[:777], kind, 0.5).shape == (777,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: code(torch.zeros(5), "mp3", 0.5), "must be one of mu-law, .*; got 'mp3'"),
        (lambda: code(torch.zeros(5), "crush", 1.5), "between 0 and 1; got 1.5"),
        (lambda: make_noise("brown", 5, random_generator()), "one of white, pink, babble; got 'brown'"),
    ],
)
def test_channel_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- all of it


def test_same_seed_same_speech(speech):
    settings = SpeechAugmentation()
    (one, tempo), (two, _), (three, _) = (
        augment_speech(speech, settings, random_generator(s), [speech]) for s in (7, 7, 8)
    )
    assert torch.equal(one, two) and (one.shape != three.shape or not torch.equal(one, three))
    assert len(one) == round(len(speech) / tempo)


def test_every_seed_gives_sound(speech):
    tempi = []
    for seed in range(25):
        changed, tempo = augment_speech(speech[:16000], SpeechAugmentation(), random_generator(seed), [speech])
        tempi.append(tempo)
        assert changed.isfinite().all() and 0.001 < changed.abs().max() < 10
    assert 1.0 in tempi and all(0.88 <= tempo <= 1.14 for tempo in tempi)


@pytest.mark.parametrize("only", ["voice", "tempo", "equaliser", "room", "noise", "codec"])
def test_each_change_has_its_switch(speech, only):
    settings = SpeechAugmentation(**{f: getattr(NEVER, f) for f in NEVER.__dataclass_fields__} | {only: 1.0})
    changed, tempo = augment_speech(speech, settings, random_generator(1))
    assert (tempo != 1) == (only == "tempo")
    assert changed.shape != speech.shape or not torch.allclose(changed, speech, atol=1e-4)


def test_nothing_drawn_nothing_changed(speech):
    changed, tempo = augment_speech(speech, NEVER, random_generator())
    assert torch.equal(changed, speech) and tempo == 1
    silent, _ = augment_speech(torch.zeros(1600), SpeechAugmentation(tempo=0), random_generator())
    assert torch.equal(silent, torch.zeros(1600)), "silence stays silence"


# ---- targets


def test_targets_follow():
    ramp = (torch.arange(100.0) + 0.5)[:, None].expand(100, 3)
    for tempo in (0.8, 1.0, 1.25):
        moved = retime(ramp, tempo)
        assert moved.shape == (round(100 / tempo), 3)
        expected = (torch.arange(len(moved)) + 0.5) * tempo
        assert torch.allclose(moved[2:-2, 0], expected[2:-2], atol=1e-4), "what is at t moves to t / tempo"


def test_targets_of_any_kind():
    offsets = torch.randn(10, 4, 3, generator=random_generator()).half()
    assert retime(offsets, 0.5).shape == (20, 4, 3) and retime(offsets, 0.5).dtype == torch.float16
    assert torch.equal(retime(offsets, 1.0), offsets)
    valid = torch.tensor([1, 0, 1], dtype=torch.uint8)
    assert retime(valid, 0.5).tolist() == [1, 1, 0, 0, 1, 1]
    assert retime(torch.zeros(0, 52), 1.1).shape == (0, 52)
    assert retime(torch.zeros(1, 2), 4.0).shape == (1, 2)
    with pytest.raises(ValueError, match="above 0; got 0"):
        retime(offsets, 0)


def test_speech_and_targets_stay_together(speech):
    """Loudness as a target at 25 fps, moved by the tempo, fits the sound that was moved."""
    settings = SpeechAugmentation(**{f: getattr(NEVER, f) for f in NEVER.__dataclass_fields__} | {"tempo": 1.0})
    changed, tempo = augment_speech(speech, settings, random_generator(2))
    target = retime(loudness(speech, 640), tempo)
    found = loudness(changed, 640)
    count = min(len(target), len(found))
    assert float(torch.corrcoef(torch.stack((target[:count], found[:count])))[0, 1]) > 0.95


# ---- mel


@pytest.mark.parametrize("factor", [0.85, 1.18])
def test_warp_is_the_formants_of_another(factor):
    """What a warp makes of a vowel is, band by band, the vowel with its formant moved."""
    before, after = (log_mel(vowel(100, f, 0.5)).exp().mean(0) for f in (1000, 1000 * factor))
    warped = warp_bands(before.log()[None], factor).exp()[0]
    centres = band_centres()
    speech_bands = (centres > 300) & (centres < 3000)
    gravity = [float((centres * m)[speech_bands].sum() / m[speech_bands].sum()) for m in (before, after, warped)]
    assert gravity[2] / gravity[0] == pytest.approx(gravity[1] / gravity[0], abs=0.04)


def test_warp_keeps_the_ends_and_order():
    ramp = band_centres()[None]
    for factor in (0.8, 0.95, 1.0, 1.1, 1.25):
        warped = warp_bands(ramp, factor)[0]
        assert warped[-1] == pytest.approx(float(ramp[0, -1])) and (warped.diff() >= 0).all()
        low = (ramp[0] > 200) & (ramp[0] < 3000)
        assert torch.allclose(warped[low], ramp[0][low] / factor, rtol=0.01)
    assert torch.allclose(warp_bands(ramp, 1.0), ramp)
    with pytest.raises(ValueError, match=r"between 0.5 and 2; got 3"):
        warp_bands(ramp, 3)


def test_colour_is_in_decibels():
    mel = torch.zeros(4, 80)
    coloured = colour_bands(mel, torch.tensor([0.0, 10.0, 0.0]))
    assert coloured[:, 0].abs().max() < 1e-6 and coloured.max() == pytest.approx(math.log(10), rel=0.02)


def test_mel_noise_fills_from_below():
    mel = torch.full((400, 80), -12.0)
    mel[:, 30] = 0.0
    noisy = add_mel_noise(mel, 20.0, random_generator())
    assert (noisy >= mel).all() and torch.allclose(noisy[:, 30], mel[:, 30], atol=0.5)
    rest = torch.cat((noisy[:, :30], noisy[:, 31:]), 1).exp().mean().log()
    assert float(rest) * 10 / math.log(10) == pytest.approx(-20, abs=4)


def test_masks_hide_at_most_what_is_allowed():
    for seed in range(20):
        mel = torch.randn(100, 80, generator=random_generator(99))
        masked = mask_spans(mel, 2, 0.12, 8, random_generator(seed))
        hidden = masked != mel
        assert (hidden.all(1)).sum() <= 24 and hidden.all(0).sum() <= 16
        assert torch.allclose(masked[hidden], mel.mean(0).expand(100, 80)[hidden])
    assert mask_spans(mel, 0, 0.12, 8, random_generator()) is mel
    assert mask_spans(mel[:3], 2, 0.12, 8, random_generator()).shape == (3, 80)


def test_augment_mel(speech):
    mel = log_mel(speech)
    one, two, three = (augment_mel(mel, MelAugmentation(), random_generator(s)) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three) and one.shape == mel.shape
    assert torch.equal(augment_mel(mel, STILL, random_generator()), mel)
    for seed in range(20):
        assert augment_mel(mel, MelAugmentation(), random_generator(seed)).isfinite().all()


# ---- probabilities


def test_draws():
    generator = random_generator()
    draws = [between((2.0, 4.0), generator) for _ in range(500)]
    assert 2 <= min(draws) < 2.1 and 3.9 < max(draws) <= 4
    ratios = torch.tensor([ratio((0.5, 2.0), generator) for _ in range(500)]).log()
    assert abs(float(ratios.mean())) < 0.06 and float(ratios.abs().max()) <= math.log(2) + 1e-6
    assert 0.2 < sum(happens(0.3, generator) for _ in range(500)) / 500 < 0.4
    assert not happens(0.0, generator) and {choice(("a", "b"), generator) for _ in range(20)} == {"a", "b"}
