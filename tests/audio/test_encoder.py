import json

import pytest
import torch

from vividtalk_core.audio import encoder as encoder_module
from vividtalk_core.audio.encoder import MEL, encode_audio, mel_rows, mel_windows
from vividtalk_core.audio.mel import band_centres, log_mel, mel_bank
from vividtalk_core.errors import MissingFileError, WeightsError
from vividtalk_core.time_grid import sample_rows

RATE = 16_000


def noise(seconds, seed=0):
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=["wav2vec2", "hubert"])
def speech_model(request, tmp_path_factory):
    from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

    config_class, model_class = {"wav2vec2": (Wav2Vec2Config, Wav2Vec2Model), "hubert": (HubertConfig, HubertModel)}[
        request.param
    ]
    torch.manual_seed(0)
    config = config_class(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        num_feat_extract_layers=2,
        conv_kernel=(10, 4),
        conv_stride=(10, 4),
        feat_extract_norm="layer",
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    folder = tmp_path_factory.mktemp(request.param)
    model_class(config).save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_tone_lands_in_its_band():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)
    mel = log_mel(tone)
    assert mel.shape == (100, 80)
    assert abs(float(band_centres()[mel[50].argmax()]) - 1000) < 40


def test_mel_against_a_direct_sum():
    signal = noise(0.1)
    mel = log_mel(signal)
    frame = 4  # samples 520 … 919 around its centre at 720
    window = torch.hann_window(400)
    power = torch.fft.rfft(signal[520:920] * window, 512).abs() ** 2 * 4 / 400**2
    torch.testing.assert_close(mel[frame], (mel_bank() @ power + 1e-7).log())
    assert log_mel(torch.zeros(1)).shape == (1, 80)


def test_mel_looks_at_25_ms_only():
    long = noise(130)  # more than two blocks
    torch.testing.assert_close(log_mel(long)[7000:7100], log_mel(long[6998 * 160 : 7102 * 160])[2:102])


@pytest.mark.parametrize("fps", [25.0, 29.97, 30.0, 60.0])
@pytest.mark.parametrize("seconds", [0.3, 0.77, 1.234])
def test_a_click_lands_in_its_video_frame(fps, seconds):
    audio = 1e-4 * noise(2)
    audio[round(seconds * RATE)] = 1.0
    features = mel_rows(encode_audio(audio, RATE, fps, MEL)).exp().sum(1)
    middle = (float(features.argmax()) + 0.5) / fps
    assert abs(middle - seconds) <= 0.5 / fps + 0.005  # half a frame, half a mel step


def test_features_at_25_fps_are_the_four_mel_frames_of_a_video_frame():
    result = encode_audio(noise(1).expand(2, -1), RATE, encoder=MEL)
    assert mel_rows(result).shape == (25, 320)
    assert (result.fps, result.duration_s) == (25.0, 1.0)
    torch.testing.assert_close(mel_rows(result)[10].view(4, 80), result.mel[40:44])


def test_features_depend_on_a_bounded_window():
    mel = log_mel(noise(4))
    whole, piece = mel_windows(mel, 120, 30.0), mel_windows(mel[100:200], 30, 30.0)
    torch.testing.assert_close(whole[32:58], piece[2:28])


def test_level_does_not_matter():
    loud = encode_audio(noise(1), RATE)
    quiet = encode_audio(noise(1) * 0.01, RATE)
    torch.testing.assert_close(loud.mel, quiet.mel, atol=1e-3, rtol=0)
    torch.testing.assert_close(loud.states, quiet.states, atol=0.02, rtol=0.02)


def test_sample_rows():
    rows = torch.tensor([[0.0], [10.0], [30.0]])
    at = torch.tensor([-1.0, 0.5, 1.25, 9.0], dtype=torch.float64)
    torch.testing.assert_close(sample_rows(rows, at)[:, 0], torch.tensor([0.0, 5.0, 15.0, 30.0]))


def test_hidden_states_fifty_times_a_second(speech_model):
    result = encode_audio(noise(2), RATE, 24.0, str(speech_model))
    assert result.frame_count == 48
    assert result.states.shape == (100, 16)
    assert result.mel.shape == (200, 80)
    assert torch.equal(result.states, encode_audio(noise(2), RATE, 25.0, str(speech_model)).states)


def test_hidden_states_of_long_audio_come_in_segments(speech_model, monkeypatch):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(speech_model).eval()
    field, stride = encoder_module._receptive_field(model)
    assert (field, stride) == (40, 40)
    signal = noise(3)
    monkeypatch.setattr(encoder_module, "SEGMENT_S", 1.0)
    monkeypatch.setattr(encoder_module, "MARGIN_S", 0.1)
    starts = encoder_module._starts(signal, stride)
    with torch.no_grad():
        parts = [encoder_module._segment_states(model, signal, start, field, stride) for start in starts]
        whole = model.feature_extractor(signal[None])
        pieces = [model.feature_extractor(signal[None, s : s + RATE]) for s in starts]
    assert sum(map(len, parts)) == whole.shape[-1] == 1200
    torch.testing.assert_close(torch.cat(pieces, -1), whole)  # the convolutions have no error at the cuts


@pytest.mark.parametrize("samples", [1, 39, 200])
def test_very_short_audio_has_a_state(speech_model, samples):
    assert encode_audio(noise(1)[:samples], RATE, 25.0, str(speech_model)).states.shape == (1, 16)


def test_missing_models_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingFileError, match=r"none@abc is neither a folder .* use the encoder \"whisper\""):
        encoder_module.load_speech_model("vividtalk/none@abc")
    with pytest.raises(MissingFileError, match=r"neither a folder with config.json and model.safetensors"):
        encoder_module.load_speech_model(str(tmp_path))


def test_a_pickled_checkpoint_is_not_read(speech_model, tmp_path):
    (tmp_path / "config.json").write_text((speech_model / "config.json").read_text())
    torch.save({"evil": 1}, tmp_path / "pytorch_model.bin")
    with pytest.raises(MissingFileError, match="safetensors"):
        encoder_module.load_speech_model(str(tmp_path))


def test_other_models_are_refused(tmp_path):
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertModel(config).save_pretrained(tmp_path, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
    with pytest.raises(WeightsError, match=r"is a bert model; a speech model like Whisper"):
        encode_audio(noise(0.1), RATE, 25.0, str(tmp_path))
