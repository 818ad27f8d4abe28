import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch

from vividtalk_core.errors import MediaError, MissingFileError, SettingsError
from vividtalk_core.video.reader import read_image, read_video

BLUE, WHITE = (20, 60, 200), (255, 255, 255)


def picture(height=20, width=30):
    """[H, W, 3] uint8 RGB: a blue top-left quarter on black."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = BLUE
    return image


def save(path, image, *options):
    """Write RGB(A) or grey pixels."""
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    image = cv2.cvtColor(image, order[image.shape[2]]) if image.ndim == 3 else image
    assert cv2.imwrite(str(path), image, *options)
    return path


def make_video(path, times, rate=25, size=(32, 64), sound=None):
    """A clip whose frame k is grey level 10·k, shown at times[k]; `sound` is (first sample's time, samples)."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate, options={"crf": "1"})
        (stream.height, stream.width), stream.pix_fmt, base = size, "yuv420p", Fraction(1, 90000)
        stream.codec_context.time_base = base
        track = out.add_stream("pcm_s16le", 16000, layout="mono") if sound is not None else None
        for level, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 10 * level, np.uint8), "rgb24")
            frame.pts, frame.time_base = round(seconds / base), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            late_s, samples = sound
            block = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            block.sample_rate, block.pts, block.time_base = 16000, round(late_s * 16000), Fraction(1, 16000)
            out.mux(track.encode(block))
            out.mux(track.encode(None))
    return path


def levels(clip):
    """Which of the frames of `make_video` are shown."""
    return [round(float(frame.float().mean()) / 10) for frame in clip.frames]


def rotate_mp4(path, quarter):
    """Set the display matrix of the track, as phones do."""
    matrix = {90: (0, 1, 0, -1, 0, 0, 0, 0), 180: (-1, 0, 0, 0, -1, 0, 0, 0), 270: (0, -1, 0, 1, 0, 0, 0, 0)}[quarter]
    blob = bytearray(path.read_bytes())
    at = blob.index(b"tkhd") + 44
    blob[at : at + 36] = struct.pack(">9i", *(65536 * v for v in matrix), 1 << 30)
    path.write_bytes(blob)


# ---- pictures


def test_png_is_exact(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    image = read_image(save(tmp_path / "ä b.png", pixels))
    assert image.shape == (1, 3, 7, 5) and image.dtype == torch.float32
    assert torch.equal((image[0] * 255).round().byte(), torch.from_numpy(pixels).permute(2, 0, 1))


def test_transparency_is_laid_over_white(tmp_path):
    alpha = np.full((20, 30, 1), 128, np.uint8)
    alpha[:, 15:] = 0
    image = read_image(save(tmp_path / "a.png", np.concatenate((picture(), alpha), 2)))
    blue = torch.tensor(BLUE) / 255 * 128 / 255 + 127 / 255
    torch.testing.assert_close(image[0, :, 0, 0], blue)
    assert torch.equal(image[0, :, 0, 20], torch.ones(3))


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_grey_and_16_bit(tmp_path, dtype, full):
    grey = (np.linspace(0, full, 600).reshape(20, 30)).astype(dtype)
    image = read_image(save(tmp_path / "a.png", grey))
    assert image.shape == (1, 3, 20, 30)
    torch.testing.assert_close(image[0, 1], torch.from_numpy(grey.astype(np.float32) / full))


def test_float_tiff_is_clipped(tmp_path):
    image = read_image(save(tmp_path / "a.tif", np.array([[-1.0, 0.25], [np.nan, 3.0]], np.float32)))
    assert image[0, 0].tolist() == [[0, 0.25], [0, 1]]


def test_exif_orientation(tmp_path):
    path = save(tmp_path / "a.jpg", picture(), [cv2.IMWRITE_JPEG_QUALITY, 100])
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: turn right
    blob = path.read_bytes()
    path.write_bytes(blob[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + blob[2:])
    image = read_image(path)
    assert image.shape == (1, 3, 30, 20)
    torch.testing.assert_close(image[0, :, 2, -3], torch.tensor(BLUE) / 255, atol=0.03, rtol=0)
    assert image[0, :, 2, 2].max() < 0.03


def test_image_errors(tmp_path):
    with pytest.raises(MissingFileError, match="there is no picture"):
        read_image(tmp_path / "a.png")
    for content in (b"", b"not a picture"):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(MediaError, match=rf"not a picture that can be read \({len(content)} bytes\)"):
            read_image(tmp_path / "a.png")


# ---- videos


@pytest.mark.parametrize("rate", [25, 24, Fraction(30000, 1001)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_constant_rate_keeps_every_frame(tmp_path, rate, suffix):
    times = [k / rate for k in range(9)]
    clip = read_video(make_video(tmp_path / f"a.{suffix}", times, rate))
    assert clip.fps == pytest.approx(float(rate), rel=1e-6)
    assert (clip.frame_count, clip.height, clip.width, clip.audio) == (9, 32, 64, None)
    assert levels(clip) == list(range(9))


def test_frames_are_rgb_bytes(tmp_path):
    clip = read_video(make_video(tmp_path / "a.mp4", [0, 0.04]))
    frame = next(clip.frames)
    assert frame.dtype == torch.uint8 and frame.shape == (3, 32, 64) and frame.is_contiguous()


def test_uneven_rate_is_resampled_by_time(tmp_path):
    times = [0, 0.04, 0.08, 0.2, 0.24, 0.28, 0.32]  # three frames of 25 fps are missing
    clip = read_video(make_video(tmp_path / "a.mp4", times))
    assert clip.fps == 25
    assert levels(clip) == [0, 1, 2, 2, 2, 3, 4, 5, 6]


def test_other_rate_on_request(tmp_path):
    path = make_video(tmp_path / "a.mp4", [k / 50 for k in range(10)], 50)
    clip = read_video(path, fps=25)
    assert (clip.fps, clip.frame_count) == (25, 6)
    assert all(abs(level - 2 * k) <= 1 for k, level in enumerate(levels(clip)))
    with pytest.raises(SettingsError, match="fps must be between 1 and 120; got 500"):
        read_video(path, fps=500)


def test_a_single_frame(tmp_path):
    clip = read_video(make_video(tmp_path / "a.mp4", [0]))
    assert clip.frame_count == len(list(clip.frames)) == 1
    assert clip.fps == 25


@pytest.mark.parametrize("quarter", [90, 180, 270])
def test_rotation_of_phones(tmp_path, quarter):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", 25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(32, 64), "rgb24")))
        out.mux(stream.encode(None))
    rotate_mp4(path, quarter)
    clip = read_video(path)
    expected = np.rot90(picture(32, 64), -quarter // 90)
    assert (clip.height, clip.width) == expected.shape[:2]
    difference = next(clip.frames).permute(1, 2, 0).numpy().astype(int) - expected
    assert np.abs(difference).mean() < 12


def test_non_square_pixels(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", 25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(32, 48), "rgb24")))
        out.mux(stream.encode(None))
    clip = read_video(path)
    assert (clip.height, clip.width) == (32, 64)


@pytest.mark.parametrize(("height", "tag", "matrix"), [(720, 2, 1), (64, 2, 5), (64, 1, 1), (720, 6, 5)])
def test_colour_matrix(tmp_path, height, tag, matrix):
    """A file's own tag (1 BT.709, 6 BT.601) counts; without one (2), HD is BT.709."""
    green = np.full((height, 64, 3), (40, 160, 40), np.uint8)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", 25, options={"crf": "1", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = height, 64, "yuv420p"
        stream.codec_context.colorspace = tag
        frame = av.VideoFrame.from_ndarray(green, "rgb24").reformat(format="yuv420p", dst_colorspace=matrix)
        frame.colorspace = tag
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    mean = next(read_video(path).frames).float().mean((1, 2))
    torch.testing.assert_close(mean, torch.tensor((40.0, 160.0, 40.0)), atol=4, rtol=0)


def test_sound_starts_with_the_first_frame(tmp_path):
    click = np.zeros(16000, np.int16)
    click[8000] = 30000
    path = make_video(tmp_path / "a.mkv", [0.2 + k / 25 for k in range(20)], sound=(0.0, click))
    waveform, rate = read_video(path).audio
    assert rate == 16000
    assert waveform[0].abs().argmax() == pytest.approx(8000 - 0.2 * 16000, abs=20)
    assert read_video(path, with_audio=False).audio is None


def test_video_errors(tmp_path):
    with pytest.raises(MissingFileError, match="there is no video"):
        read_video(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(MediaError, match=r"a\.mp4' cannot be read as a video \(Invalid data"):
        read_video(tmp_path / "a.mp4")
    for name in ("a.png", "a.jpg"):
        with pytest.raises(MediaError, match="is a single picture, a video is needed"):
            read_video(save(tmp_path / name, picture()))


def test_sound_file_is_no_video(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", 16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
    with pytest.raises(MediaError, match="has no video track"):
        read_video(path)


def test_cut_off_file(tmp_path):
    path = make_video(tmp_path / "a.mp4", [k / 25 for k in range(20)])
    path.write_bytes(path.read_bytes()[:-400])  # an mp4 has its index at the end
    with pytest.raises(MediaError, match="cannot be read as a video"):
        read_video(path)


def test_a_video_without_frames(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", 25)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        out.start_encoding()
    with pytest.raises(MediaError, match=r"holds no video frames|cannot be read as a video"):
        read_video(path)
