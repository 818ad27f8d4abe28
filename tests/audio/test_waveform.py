import logging
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vividtalk_core.audio.waveform import analysis_gain, read_audio, resample, to_mono_16k
from vividtalk_core.errors import MediaError, MissingFileError, SettingsError
from vividtalk_core.time_grid import check_fps, frame_count

SPEECH = Path(__file__).parents[2] / "vividtalk_core" / "assets" / "demo" / "speech.flac"


def sine(hertz, rate, seconds=0.5):
    return torch.sin(2 * torch.pi * hertz * torch.arange(round(rate * seconds), dtype=torch.float64) / rate).float()


def write(path, samples, rate, codec, sample_format, layout, start=0):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout, stream.format = layout, sample_format
        frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout=layout)
        frame.rate, frame.pts = rate, start
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_speech_sample_is_what_the_provenance_says():
    waveform, rate = read_audio(SPEECH)
    assert waveform.shape == (1, 96_800)
    assert (rate, waveform.dtype) == (16_000, torch.float32)
    assert 0.2 < waveform.abs().max() < 1


@pytest.mark.parametrize(("codec", "form", "dtype"), [("pcm_s16le", "s16", np.int16), ("pcm_u8", "u8", np.uint8)])
def test_load_stereo_wav(tmp_path, codec, form, dtype):
    ramp = np.arange(200).reshape(1, -1).astype(dtype)  # packed: left, right, left, …
    write(tmp_path / "a.wav", ramp, 44_100, codec, form, "stereo")
    waveform, rate = read_audio(tmp_path / "a.wav")
    assert (rate, tuple(waveform.shape)) == (44_100, (2, 100))
    expected = (ramp.astype(float) - (128 if form == "u8" else 0)) / (128 if form == "u8" else 32768)
    np.testing.assert_allclose(waveform.numpy(), expected.reshape(-1, 2).T, atol=1e-6)


def test_sound_that_starts_after_the_picture_is_padded(tmp_path):
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=25), container.add_stream("pcm_s16le", rate=16_000)
        video.width = video.height = 32
        audio.layout, audio.format = "mono", "s16"
        for number in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            picture.pts = number
            container.mux(video.encode(picture))
        sound = av.AudioFrame.from_ndarray(np.full((1, 8000), 8192, np.int16), format="s16", layout="mono")
        sound.rate, sound.pts = 16_000, 8000  # half a second late
        container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    waveform, rate = read_audio(path)
    first = int(waveform[0].nonzero()[0])
    assert abs(first / rate - 0.5) < 0.002
    assert waveform[0, first] == 0.25


def test_load_errors(tmp_path):
    with pytest.raises(MissingFileError, match=r"no audio file .*none\.wav"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(MediaError, match=r"text\.wav' cannot be read as audio \(Invalid data"):
        read_audio(tmp_path / "text.wav")
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    with pytest.raises(MediaError, match=r"mute\.mp4' has no audio track"):
        read_audio(tmp_path / "mute.mp4")
    header = SPEECH.read_bytes()[:100]
    (tmp_path / "cut.flac").write_bytes(header)
    with pytest.raises(MediaError, match=r"cut\.flac"):
        read_audio(tmp_path / "cut.flac")


@pytest.mark.parametrize("rate", [4000, 8000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000])
def test_resampling_keeps_time_and_level(rate):
    out = to_mono_16k(sine(440, rate), rate)
    assert out.shape == (-(-round(rate * 0.5) * 16_000 // rate),)
    middle = slice(400, -400)
    torch.testing.assert_close(out[middle], sine(440, 16_000)[: len(out)][middle], atol=2e-4, rtol=0)


def test_resampling_removes_what_16_khz_cannot_hold():
    assert resample(sine(9500, 44_100), 44_100, 16_000)[400:-400].abs().max() < 1e-3
    assert resample(sine(3000, 8000), 8000, 16_000)[400:-400].abs().max() > 0.99  # no image either: it is the sine
    torch.testing.assert_close(
        resample(torch.ones(4410), 44_100, 16_000)[100:-100], torch.ones(1400), atol=1e-5, rtol=0
    )


def test_resampling_does_not_depend_on_its_blocks(monkeypatch):
    noise = torch.randn(300_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        resample(noise, 22_050, 16_000)[:50_000], resample(noise[:70_000], 22_050, 16_000)[:50_000]
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.float16, torch.float32, torch.float64])
def test_every_sample_type_has_the_same_level(dtype):
    wave = sine(200, 16_000)
    scaled = wave * 0.5 if dtype.is_floating_point else (wave.double() * 0.5 * (torch.iinfo(dtype).max + 1)).round()
    tolerance = {torch.int8: 5e-3, torch.float16: 5e-4}.get(dtype, 1e-4)
    torch.testing.assert_close(to_mono_16k(scaled.to(dtype), 16_000), 0.5 * wave, atol=tolerance, rtol=0)
    assert to_mono_16k(torch.full((8,), 128, dtype=torch.uint8), 16_000).abs().max() == 0


def test_shapes_and_channels():
    wave = torch.rand(6, 500)
    mono = to_mono_16k(wave, 16_000)
    torch.testing.assert_close(mono, wave.mean(0))
    assert torch.equal(to_mono_16k(wave[None], 16_000), mono)
    assert torch.equal(to_mono_16k(wave[0], 16_000), wave[0])


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (torch.zeros(1, 0), 16_000, r"empty: its shape is \[1, 0\]"),
        (torch.zeros(2, 1, 9), 16_000, r"batch of 2"),
        (torch.zeros(1, 1, 1, 9), 16_000, r"\[N\], \[C, N\] or \[1, C, N\]; got \[1, 1, 1, 9\]"),
        (torch.zeros(9, 100), 16_000, r"at most 8 channels.*\[9, 100\]"),
        (torch.zeros(9), 3999, r"4000 and 192000 Hz; got 3999"),
        (torch.zeros(9, dtype=torch.bool), 16_000, r"numbers; got torch.bool"),
        (torch.tensor([0.0, float("nan"), float("inf")]), 16_000, r"2 of 3 samples that are NaN or infinite"),
    ],
)
def test_bad_waveforms(waveform, rate, message):
    with pytest.raises(MediaError, match=message):
        to_mono_16k(waveform, rate)


def test_silence_is_allowed_and_logged(caplog):
    with caplog.at_level(logging.WARNING, "vividtalk"):
        assert to_mono_16k(torch.zeros(100), 16_000).shape == (100,)
    assert "silent: every sample is 0" in caplog.text


def test_channels_that_cancel_are_named(caplog):
    wave = torch.sin(torch.arange(1600) / 5)
    with caplog.at_level(logging.WARNING, "vividtalk"):
        assert not to_mono_16k(torch.stack((wave, -wave)), 16_000).any()
    assert "silent: its 2 channels cancel each other" in caplog.text


def test_frames_and_fps():
    assert [frame_count(s, 25) for s in (0, 0.001, 0.99, 1, 6.05)] == [1, 1, 25, 25, 151]
    assert frame_count(10, 29.97) == 300
    assert check_fps(30) == 30.0
    for wrong in (0.5, 121, float("nan")):
        with pytest.raises(SettingsError, match=rf"between 1 and 120; got {wrong}"):
            frame_count(1, wrong)
    with pytest.raises(SettingsError, match="0 or more; got -1"):
        frame_count(-1, 25)


def test_gain_brings_voices_to_one_level():
    waveform, rate = read_audio(SPEECH)
    mono = to_mono_16k(waveform, rate)
    padded = torch.cat([torch.zeros(16_000 * 60), mono])  # long silence does not count
    assert analysis_gain(mono / 100) == pytest.approx(100 * analysis_gain(mono), rel=1e-4)
    assert analysis_gain(padded) == pytest.approx(analysis_gain(mono), rel=0.5)
    assert analysis_gain(torch.zeros(500)) == 1.0
    assert analysis_gain(torch.full((500,), 1e-9)) == 300.0
