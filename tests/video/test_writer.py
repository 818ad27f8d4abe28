import os
import resource
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.errors import MediaError, OutputError, SettingsError
from vividtalk_core.pixels import to_float
from vividtalk_core.structures import Audio
from vividtalk_core.video.reader import read_video
from vividtalk_core.video.writer import SYNTHETIC, VideoWriter, video_rate, write_video

ROOT = Path(__file__).resolve().parents[2]


def smooth_frames(count, height, width, seed=0):
    noise = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)


def write(path, frames, fps=25.0, **options):
    with VideoWriter(path, fps, *frames.shape[2:], **options) as writer:
        for chunk in frames.split(3):
            writer.write(chunk)
    return path


def seconds(stream):
    return float(stream.duration * stream.time_base)


@pytest.mark.parametrize(
    ("fps", "rate"),
    [(25, Fraction(25)), (29.97, Fraction(30000, 1001)), (23.98, Fraction(24000, 1001)), (12.5, Fraction(25, 2)),
     (30000 / 1001, Fraction(30000, 1001)), (30, Fraction(30)), (59.94, Fraction(60000, 1001)), (1, Fraction(1))],
)  # fmt: skip
def test_exact_rates(fps, rate):
    assert video_rate(fps) == rate


def test_pictures_survive_and_are_tagged(tmp_path):
    frames = smooth_frames(4, 64, 96)
    path = write(tmp_path / "a.mp4", frames, crf=4)
    clip = read_video(path)
    back = torch.stack(list(clip.frames)).float() / 255
    assert (clip.fps, len(back), clip.audio) == (25, 4, None)
    assert (back - frames).abs().mean() < 0.012
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.colorspace, codec.color_primaries, codec.color_trc) == (
            "h264", "yuv420p", 1, 1, 1,
        )  # fmt: skip
        assert container.metadata["comment"] == SYNTHETIC
    blob = path.read_bytes()
    assert blob.index(b"moov") < blob.index(b"mdat"), "the index comes first, so that players start at once"


def test_bytes_and_floats_give_the_same_file(tmp_path):
    frames = smooth_frames(3, 32, 32)
    first = write(tmp_path / "a.mp4", frames)
    second = write(tmp_path / "b.mp4", (frames * 255 + 0.5).byte())
    assert first.read_bytes() == second.read_bytes()


def test_values_outside_the_range_are_clipped(tmp_path):
    clip = read_video(write(tmp_path / "a.mp4", torch.full((2, 3, 32, 32), 7.0)))
    assert next(clip.frames).min() > 250


def test_odd_sizes_lose_a_row_and_a_column(tmp_path):
    frames = smooth_frames(2, 33, 51)
    clip = read_video(write(tmp_path / "a.mp4", frames, crf=4))
    assert (clip.height, clip.width) == (32, 50)
    assert (next(clip.frames).float() / 255 - frames[0, :, :32, :50]).abs().mean() < 0.02


@pytest.mark.parametrize("fps", [25, 29.97, 12.5])
@pytest.mark.parametrize(("channels", "rate"), [(1, 16000), (2, 44100), (6, 8000)])
@pytest.mark.parametrize("sound_s", [0.3, 3.0])
def test_sound_has_the_length_of_the_frames(tmp_path, fps, channels, rate, sound_s):
    waveform = torch.rand(channels, round(sound_s * rate)) - 0.5
    path = write(tmp_path / "a.mp4", smooth_frames(20, 32, 32), fps, audio=(waveform, rate))
    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert picture.average_rate == video_rate(fps)
        assert seconds(picture) == pytest.approx(20 / fps, abs=2e-3)
        assert seconds(sound) == pytest.approx(20 / fps, abs=2e-3)
        assert (sound.rate, sound.channels) == (48000, 1 if channels == 6 else channels)


def test_sound_is_in_time(tmp_path):
    waveform = torch.zeros(1, 16000)
    waveform[0, 8000:8160] = torch.sin(torch.arange(160) * 0.6)
    path = write(tmp_path / "a.mp4", smooth_frames(25, 32, 32), audio=(waveform, 16000))
    back, rate = read_video(path).audio
    loud = (back[0].abs() > 0.3).nonzero()
    assert float(loud.min()) / rate == pytest.approx(0.5, abs=0.002)
    assert float(loud.max()) / rate == pytest.approx(0.51, abs=0.002)


def test_silent_where_the_sound_has_ended(tmp_path):
    path = write(tmp_path / "a.mp4", smooth_frames(25, 32, 32), audio=(torch.rand(1, 4000) - 0.5, 16000))
    back, rate = read_video(path).audio
    assert back[0, int(0.3 * rate) :].abs().max() < 0.01


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_remains_after_an_exception(tmp_path, error):
    begin = time.perf_counter()
    with pytest.raises(error), VideoWriter(tmp_path / "a.mp4", 25, 32, 32) as writer:
        writer.write(smooth_frames(40, 32, 32))
        raise error
    assert not list(tmp_path.iterdir())
    assert time.perf_counter() - begin < 5


def test_the_name_appears_only_at_the_end(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25, 32, 32) as writer:
        writer.write(smooth_frames(3, 32, 32))
        assert not (tmp_path / "a.mp4").exists()
    assert writer.frame_count == 3
    assert os.listdir(tmp_path) == ["a.mp4"]


FULL_DISK = """
import resource, sys, torch
from vividtalk_core.video.writer import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with VideoWriter(sys.argv[1], 25, 256, 256) as writer:
        for _ in range(200):
            writer.write(torch.rand(4, 3, 256, 256))
except OSError as error:
    sys.exit(f"{writer.frame_count < 800} {error}")
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system has no limit on file sizes")
def test_full_disk(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.mp4")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr.strip() == f"True cannot write '{tmp_path / 'a.mp4'}': File too large"
    assert not list(tmp_path.iterdir())


def test_errors_before_any_work(tmp_path):
    with pytest.raises(SettingsError, match="at least 16 × 16 px; got 8 × 32"):
        VideoWriter(tmp_path / "a.mp4", 25, 32, 8)
    with pytest.raises(SettingsError, match="crf must be between 0 and 51; got 60"):
        VideoWriter(tmp_path / "a.mp4", 25, 32, 32, crf=60)
    with pytest.raises(SettingsError, match="fps must be between 1 and 120"):
        VideoWriter(tmp_path / "a.mp4", 0, 32, 32)
    with pytest.raises(OutputError, match=r"its ending must be \.mp4"):
        VideoWriter(tmp_path / "a.gif", 25, 32, 32)
    with pytest.raises(OutputError, match="does not exist"):
        VideoWriter(tmp_path / "x" / "a.mp4", 25, 32, 32)
    with pytest.raises(MediaError, match=r"the sound must be \[C, N\]; got \[1, 1, 9\]"):
        VideoWriter(tmp_path / "a.mp4", 25, 32, 32, (torch.zeros(1, 1, 9), 16000))


def test_errors_while_writing(tmp_path):
    with pytest.raises(ValueError, match=r"frames must be \[T, 3, 32, 32\]; got \[2, 3, 32, 48\]"):
        write_other_size(tmp_path / "a.mp4")
    with (
        pytest.raises(OutputError, match=r"a\.mp4' was not written: no frames came"),
        VideoWriter(tmp_path / "a.mp4", 25, 32, 32),
    ):
        pass
    assert not list(tmp_path.iterdir())


def write_other_size(path):
    with VideoWriter(path, 25, 32, 32) as writer:
        writer.write(smooth_frames(2, 32, 48))


class Stream:
    """Frames in chunks of three, as a `FrameStream` has them; it can fail after some of them."""

    def __init__(self, frames, fps=25.0, fails_after=None):
        self.frames, self.fps, self.fails_after = frames, fps, fails_after
        self.frame_count, _, self.height, self.width = frames.shape

    def __iter__(self):
        for start in range(0, self.frame_count, 3):
            if start == self.fails_after:
                raise RuntimeError("a bug")
            yield self.frames[start : start + 3]


def test_a_stream_is_written_with_its_sound(tmp_path):
    frames = smooth_frames(8, 48, 64)
    sound = Audio(torch.rand(1, 8000) - 0.5, 16000)
    write_video(tmp_path / "a.mp4", Stream(frames, 12.5), sound)
    clip = read_video(tmp_path / "a.mp4")
    assert (clip.fps, clip.frame_count, clip.height, clip.width) == (12.5, 8, 48, 64)
    assert clip.audio.sample_rate == 48000
    assert (to_float(torch.stack(list(clip.frames))) - frames).abs().mean() < 0.03
    write_video(str(tmp_path / "b.mp4"), Stream(frames, 12.5), (sound.waveform, sound.sample_rate))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    write_video(tmp_path / "mute.mp4", Stream(frames))
    assert read_video(tmp_path / "mute.mp4").audio is None


@pytest.mark.skipif(sys.platform != "linux", reason="MALLOC_PERTURB_ is a setting of glibc")
def test_the_bytes_do_not_depend_on_what_is_in_memory(tmp_path):
    """x264 reads beyond its rows of blocks: with other values in memory, it would write another file."""
    script = """
import sys, torch
from vividtalk_core.video.writer import VideoWriter

for height, width in ((48, 64), (192, 192), (80, 320), (34, 62), (32, 128)):
    blocks = torch.rand(3, height // 8 + 1, width // 8 + 1, generator=torch.Generator().manual_seed(0))
    picture = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width]
    with VideoWriter(f"{sys.argv[1]}/{width}.mp4", 25.0, height, width) as writer:
        writer.write(torch.stack([picture.roll(3 * i, 2) for i in range(10)]))
"""
    written = []
    for value in ("0", "85", "170"):  # 0: memory is left as it is
        (tmp_path / value).mkdir()
        # a high threshold, because memory that is mapped apart is always zero
        env = {**os.environ, "MALLOC_PERTURB_": value, "MALLOC_MMAP_THRESHOLD_": "1000000000"}
        subprocess.run([sys.executable, "-c", script, str(tmp_path / value)], check=True, cwd=ROOT, env=env)
        written.append({file.name: file.read_bytes() for file in (tmp_path / value).iterdir()})
    for name, content in written[0].items():
        assert all(other[name] == content for other in written), name


def test_progress_counts_frames_and_shows_the_last_of_each_chunk(tmp_path):
    frames, calls = smooth_frames(8, 32, 32), []
    write_video(tmp_path / "a.mp4", Stream(frames), progress=lambda *step: calls.append(step))
    assert [(done, total) for done, total, _ in calls] == [(3, 8), (6, 8), (8, 8)]
    for done, _, preview in calls:
        assert torch.equal(preview, frames[done - 1])


class Cancelled(Exception):
    pass


def cancel(done, total, preview=None):
    raise Cancelled


@pytest.mark.parametrize(
    ("stream", "progress", "error"),
    [({}, cancel, Cancelled), ({"fails_after": 0}, None, RuntimeError), ({"fails_after": 6}, None, RuntimeError)],
)
def test_nothing_remains_of_a_stream_that_is_cancelled_or_fails(tmp_path, stream, progress, error):
    with pytest.raises(error):
        write_video(tmp_path / "a.mp4", Stream(smooth_frames(8, 32, 32), **stream), progress=progress)
    assert not list(tmp_path.iterdir())


def test_no_frame_is_computed_for_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        write_video(tmp_path / "x" / "a.mp4", Stream(smooth_frames(3, 32, 32), fails_after=0))
    with pytest.raises(MediaError, match=r"the sound must be \[C, N\]"):
        write_video(tmp_path / "a.mp4", Stream(smooth_frames(3, 32, 32), fails_after=0), (torch.zeros(1, 1, 9), 16000))


def test_frames_are_rounded_not_cut(tmp_path):
    grey = torch.full((1, 3, 32, 32), 100.4 / 255)
    value = np.mean([frame.float().mean() for frame in read_video(write(tmp_path / "a.mp4", grey, crf=0)).frames])
    assert abs(value - 100) <= 1.6
