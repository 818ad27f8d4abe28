"""Our part of Whisper's encoder beside the one of transformers, and that windows do not show."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.audio import whisper
from vividtalk_core.audio.encoder import embedded_encoder, encode_audio, load_speech_model, speech_states
from vividtalk_core.audio.whisper import (
    WhisperConfig,
    WhisperEncoder,
    from_transformers,
    hear,
    mel_filters,
    whisper_mel,
)

RATE = 16_000
TINY = WhisperConfig(width=64, taps=(1, 2))


def noise(seconds, seed=0):
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def tiny(config=TINY):
    torch.manual_seed(0)
    return WhisperEncoder(config).eval()


@pytest.fixture(scope="module")
def reference():
    """A random Whisper of transformers with four layers for 2 s of sound."""
    from transformers import WhisperConfig as Config
    from transformers import WhisperModel

    torch.manual_seed(1)
    config = Config(
        d_model=128,
        encoder_layers=4,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=512,
        decoder_ffn_dim=16,
        max_source_positions=100,
        vocab_size=60,
        pad_token_id=1,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=1,
    )
    return WhisperModel(config).eval()


def test_states_are_those_of_transformers(reference):
    ours, mel = from_transformers(reference), torch.randn(1, 200, 80)
    assert ours.config == WhisperConfig(128, (2,), reach=0)  # the lower half
    with torch.no_grad():
        theirs = reference.encoder(mel.mT, output_hidden_states=True).hidden_states[2]
        torch.testing.assert_close(ours(mel), theirs, atol=1e-4, rtol=1e-4)


def test_a_folder_of_transformers_is_an_encoder(reference, tmp_path):
    reference.save_pretrained(tmp_path)
    assert isinstance(load_speech_model(str(tmp_path)), WhisperEncoder)
    assert encode_audio(noise(1), RATE, 25.0, str(tmp_path)).states.shape == (50, 128)


def test_mel_is_that_of_transformers():
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor()
    torch.testing.assert_close(mel_filters(80).double(), torch.from_numpy(extractor.mel_filters), atol=1e-7, rtol=1e-4)
    # as loud as the fixed ceiling: then theirs, which is that of the loudest band, cuts off at the same level
    signal = noise(2)
    power = (whisper_mel(signal, 0, 199) * 4 - 4).max()
    signal = signal * 10 ** ((whisper.CEILING - power) / 2)
    theirs = torch.from_numpy(extractor(signal.numpy(), sampling_rate=RATE)["input_features"][0]).T
    # our frames lie a step later, so that a state lies in the middle of its 20 ms: moved by that, they are the same
    ours = whisper_mel(torch.nn.functional.pad(signal, (whisper.HOP, 0)), 0, 190)
    torch.testing.assert_close(ours[5:], theirs[5:190], atol=2e-3, rtol=0)


@pytest.mark.parametrize("reach", [0, 4])
def test_states_depend_on_their_own_window_only(monkeypatch, reach):
    monkeypatch.setattr(whisper, "KEPT", 20)
    monkeypatch.setattr(whisper, "MARGIN", 5)
    net, signal = tiny(replace(TINY, reach=reach)), noise(3)
    whole = torch.cat(list(hear(net, signal)))
    assert whole.shape == (150, 128)
    # the first two windows reach to state 49 at most, and the convolutions a little further
    cut = torch.cat(list(hear(net, signal[: round(1.0 * RATE)])))
    torch.testing.assert_close(cut[:40], whole[:40], atol=1e-5, rtol=1e-5)
    other = signal.clone()
    other[2 * RATE :] = 0
    assert torch.equal(torch.cat(list(hear(net, other)))[:80], whole[:80])


def test_attention_reaches_as_far_as_the_config_says():
    net, signal = tiny(replace(TINY, reach=4)), noise(3)
    changed = signal.clone()
    changed[RATE:] = 0  # from state 50 on; the window of the mel is 25 ms, the convolutions reach one state
    first, second = (torch.cat(list(hear(net, sound))) for sound in (signal, changed))
    far = 2 * 4 + 2
    torch.testing.assert_close(first[: 50 - far], second[: 50 - far], atol=1e-6, rtol=1e-6)
    assert (first[50 - far + 2 : 50] - second[50 - far + 2 : 50]).abs().max() > 1e-4


def test_parts_are_of_one_size_however_long_the_sound():
    parts = list(hear(tiny(), noise(20)))
    assert [len(part) for part in parts] == [whisper.KEPT] * 3 + [100]


@pytest.mark.parametrize(("samples", "states"), [(1, 1), (320, 1), (321, 2), (16_000, 50)])
def test_every_20_ms_have_a_state(samples, states):
    assert torch.cat(list(hear(tiny(), noise(1)[:samples]))).shape == (states, 128)


def test_a_click_lands_in_its_state():
    """Convolutions with strides 1 and 2 centre a state on the first of its two mel frames."""
    signal = torch.zeros(RATE)
    signal[round(0.53 * RATE)] = 1.0  # the middle of state 26, 0.52 to 0.54 s
    loudness = whisper_mel(signal, 0, 100).sum(1)
    assert loudness.argmax() == 2 * 26
    assert loudness[51] == pytest.approx(float(loudness[53]), abs=1e-3)


def test_the_embedded_encoder_is_loaded_once_and_tells_speech_sounds_apart():
    assert embedded_encoder() is embedded_encoder()
    states = speech_states(noise(1), "whisper")
    assert states.shape == (50, 512) and states.dtype == torch.float16
    assert bool(states.isfinite().all())
