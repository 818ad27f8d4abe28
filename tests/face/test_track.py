"""Video to curves: tracking, gaps, smoothing, and the motion that comes out."""

import math
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vividtalk_core.errors import MediaError, NoFaceError, SettingsError
from vividtalk_core.face.landmark_model import SolveSettings
from vividtalk_core.face.models import load_face_models
from vividtalk_core.face.track import (
    TrackSettings,
    clip_crop,
    fill_gaps,
    fit_clip,
    odd_frames,
    relative_blinks,
    smooth,
    track_video,
    unwrapped,
)
from vividtalk_core.geometry import project, rotation_matrix
from vividtalk_core.head.morphable import landmark_positions
from vividtalk_core.structures import ARKIT_NAMES
from vividtalk_core.video.reader import read_image


@pytest.fixture(scope="module")
def models():
    return load_face_models()


@pytest.fixture(scope="module")
def portrait():
    """[3, 220, 220] uint8"""
    image = read_image(Path(__file__).parents[1] / "data" / "astronaut.png")
    return (torch.nn.functional.interpolate(image, (220, 220), mode="area")[0] * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def panning(portrait):
    """12 frames in which the picture moves 2 px to the right each."""
    return [portrait.roll(2 * k, 2) for k in range(12)]


@pytest.fixture(scope="module")
def track(models, panning):
    return track_video(models, panning, 25.0)


def test_values_and_shapes(track, models):
    frames, vertices = 12, len(models.head.mean_shape)
    assert track.expression.coefficients.shape == (frames, 52)
    assert track.expression.lip_offsets.shape == (frames, len(models.head.lip_vertices), 3)
    assert track.vertices_2d.shape == (frames, vertices, 2)
    assert track.landmarks_2d.shape == (frames, 478, 2)
    assert track.pose.rotation.shape == (frames, 3)
    assert track.pose.fps == track.expression.fps == 25
    assert track.interpolated == ()


def test_motion_is_relative_to_the_first_frame(track):
    assert torch.equal(track.expression.neutral_coefficients, track.expression.coefficients[0])
    assert torch.equal(track.expression.neutral_lip_offsets, track.expression.lip_offsets[0])


def test_landmarks_follow_the_picture(track):
    moved = (track.landmarks_2d[1:] - track.landmarks_2d[:-1]).mean((0, 1))
    assert moved.tolist() == pytest.approx([2, 0], abs=0.15)


def test_head_moves_and_the_face_does_not(track):
    shift = track.pose.translation[-1] - track.pose.translation[0]
    pixels = 2 * 11 * 256 / track.crop.size
    assert float(shift[0]) == pytest.approx(pixels / 66, rel=0.15)
    assert shift[1].abs() < 0.03
    assert (track.pose.rotation - track.pose.rotation[0]).abs().max() < 0.05
    assert (track.expression.coefficients - track.expression.coefficients[0]).abs().max() < 0.15


def test_vertices_are_where_the_landmarks_are(track, models):
    at_landmarks = landmark_positions(models.head, torch.nn.functional.pad(track.vertices_2d, (0, 1)))[..., :2]
    error = (at_landmarks - track.landmarks_2d[:, :468]).norm(dim=-1)[:, [13, 14, 61, 291, 4, 6, 33, 263]]
    assert error.mean() < 0.5


def test_floating_point_frames_give_the_same(models, panning, track):
    again = track_video(models, (frame.float() / 255 for frame in panning), 25.0)
    assert torch.allclose(again.expression.coefficients, track.expression.coefficients, atol=1e-4)


def test_frames_are_not_kept(models, panning):
    seen = []

    def frames():
        for frame in panning[:4]:
            copy = frame.clone()
            seen.append(weakref.ref(copy))
            yield copy
            del copy

    track_video(models, frames(), 25.0)
    assert len(seen) == 4
    assert sum(ref() is not None for ref in seen) == 0


def test_progress_is_reported_and_may_cancel(models, panning):
    calls = []
    track_video(models, panning[:3], 25.0, lambda *call: calls.append(call))
    assert calls == [(1, 3, None), (2, 3, None), (3, 3, None)]

    def cancel(done, total, preview):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        track_video(models, panning, 25.0, cancel)


def test_face_that_jumps_is_found_again(models, portrait):
    wide = torch.full((3, 220, 700), 128, dtype=torch.uint8)
    left, right = wide.clone(), wide.clone()
    left[..., :220], right[..., 480:] = portrait, portrait
    landmarks = track_video(models, [left, left, right, right], 25.0).landmarks_2d
    assert float((landmarks[2] - landmarks[1])[:, 0].mean()) == pytest.approx(480, abs=3)


def test_short_gap_is_bridged(models, panning):
    blank = torch.zeros_like(panning[0])
    frames = [*panning[:4], blank, blank, *panning[6:10]]
    track = track_video(models, frames, 25.0)
    assert track.interpolated == (4, 5)
    middle = track.landmarks_2d[:, 4, 0]
    assert (middle[1:] - middle[:-1]).tolist() == pytest.approx([2] * 9, abs=0.4)


def test_long_gap_is_refused(models, panning):
    blank = torch.zeros_like(panning[0])
    with pytest.raises(NoFaceError, match=r"no face in frames 1–3 of 5 \(gaps up to 0\.1 s .*stays in view"):
        track_video(models, [panning[0], blank, blank, blank, panning[4]], 25.0, None, TrackSettings(longest_gap_s=0.1))


def test_clip_without_any_face_is_refused(models):
    with pytest.raises(NoFaceError, match="no face in any of the 2 frames"):
        track_video(models, [torch.zeros(3, 128, 128)] * 2, 25.0)


def test_no_frames(models):
    with pytest.raises(MediaError, match="the clip has no frames"):
        track_video(models, [], 25.0)


def test_frames_of_several_sizes(models, portrait):
    with pytest.raises(MediaError, match=r"frame 1 is \[220, 200\], the clip began with \[220, 220\]"):
        track_video(models, [portrait, portrait[..., :200]], 25.0)


def test_frames_of_another_shape(models):
    with pytest.raises(MediaError, match=r"frame 0 must be \[3, H, W\] RGB; got \[1, 3, 64, 64\]"):
        track_video(models, [torch.zeros(1, 3, 64, 64)], 25.0)


def test_frames_per_second_must_be_positive(models, portrait):
    with pytest.raises(SettingsError, match="fps must be above 0; got 0"):
        track_video(models, [portrait], 0.0)


# --- parts


def test_fill_gaps_is_linear_and_holds_the_ends():
    landmarks = torch.full((7, 478, 3), torch.nan)
    landmarks[1], landmarks[4] = 0.0, 3.0
    filled, missing = fill_gaps(landmarks, 25.0, 0.5)
    assert filled[:, 0, 0].tolist() == pytest.approx([0, 0, 1, 2, 3, 3, 3])
    assert missing == (0, 2, 3, 5, 6)


def test_clip_crop_is_steady():
    landmarks = torch.rand(9, 478, 3, generator=torch.Generator().manual_seed(0)) * 100 + 50
    with_outlier = landmarks.clone()
    with_outlier[4] += 300
    first, second = clip_crop(landmarks, 400, 400), clip_crop(with_outlier, 400, 400)
    assert abs(first.left - second.left) <= 2
    assert abs(first.size - second.size) <= 2


@pytest.mark.parametrize(("seconds", "fps", "frames"), [(0.2, 25, 5), (0.36, 25, 9), (0.2, 50, 9), (0.2, 10, 1)])
def test_window_in_frames(seconds, fps, frames):
    found = odd_frames(seconds, fps)
    assert found % 2 == 1
    assert abs(found - seconds * fps) <= 1
    assert abs(found - frames) <= 2


def test_smooth_keeps_quadratics_and_has_no_lag():
    t = torch.arange(20.0)
    curve = torch.stack((0.3 * t**2 - t, t * 2 + 1), 1)
    assert torch.allclose(smooth(curve, 5)[2:-2], curve[2:-2], atol=1e-3)
    assert torch.allclose(smooth(curve[:, 1:], 7), curve[:, 1:], atol=1e-4)
    peak = torch.exp(-(((t - 10) / 2) ** 2))
    assert smooth(peak, 5).argmax() == 10


def test_smooth_removes_jitter():
    noise = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    assert smooth(noise, 5).std() < 0.75 * noise.std()
    assert torch.equal(smooth(noise, 1), noise)
    assert torch.equal(smooth(noise[:4], 5), noise[:4])  # too short


def test_smooth_against_a_fit_per_window():
    curve = torch.randn(11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.arange(-2.0, 3.0, dtype=torch.float64)
    design = torch.stack((torch.ones(5, dtype=torch.float64), t, t**2), 1)
    fitted = torch.linalg.lstsq(design, curve[3:8, None]).solution[0, 0]
    assert smooth(curve, 5)[5] == pytest.approx(float(fitted))


def test_unwrapped_angles_do_not_jump():
    angles = torch.linspace(3.0, 3.6, 7)[:, None].expand(-1, 3)
    wrapped = torch.atan2(angles.sin(), angles.cos())
    assert torch.allclose(unwrapped(wrapped), angles, atol=1e-5)


def test_blinks_are_relative_to_the_persons_own_eye(head_model):
    """Where the lids of a narrow-eyed person meet, eyeBlink is 1."""
    beta = torch.zeros(3, 52)
    beta[:, ARKIT_NAMES.index("eyeBlinkLeft")] = torch.tensor([0.0, 0.4, 0.9])
    average = relative_blinks(head_model, torch.zeros(80), beta)[:, ARKIT_NAMES.index("eyeBlinkLeft")]
    narrow = head_model.mean_shape + 0.4 * head_model.exp_basis[ARKIT_NAMES.index("eyeBlinkLeft")]
    other = replace(head_model, mean_shape=narrow)
    found = relative_blinks(other, torch.zeros(80), beta)[:, ARKIT_NAMES.index("eyeBlinkLeft")]
    assert average.tolist() == pytest.approx([0, 0.4 / 0.85, 1], abs=0.1)
    assert found[1] > average[1] * 1.5
    assert found[2] == 1
    assert (relative_blinks(head_model, torch.zeros(80), beta)[:, 24] == 0).all()


def test_fit_clip_finds_projected_motion(head_model):
    """A head that nods and opens its mouth, projected without noise."""
    frames = 30
    t = torch.linspace(0, 2 * math.pi, frames)
    beta = torch.zeros(frames, 52)
    beta[:, ARKIT_NAMES.index("jawOpen")] = 0.2 - 0.2 * t.cos()
    rotation = torch.stack((0.1 * t.sin(), 0.15 * t.cos(), torch.zeros(frames)), 1)
    vertices = head_model.mean_shape + torch.einsum("te,evc->tvc", beta, head_model.exp_basis)
    pixels = project(landmark_positions(head_model, vertices @ rotation_matrix(rotation).mT))
    points = torch.cat((pixels[..., :2], (pixels[..., 2:] - 10) * 66), -1)
    irises = points[:, [159, 386]].mean(1, keepdim=True).expand(-1, 10, -1)
    _, expression, pose, vertices_2d = fit_clip(head_model, torch.cat((points, irises), 1), 25.0, TrackSettings())
    jaw = expression.coefficients[:, ARKIT_NAMES.index("jawOpen")]
    assert torch.corrcoef(torch.stack((jaw, beta[:, ARKIT_NAMES.index("jawOpen")])))[0, 1] > 0.98
    assert (pose.rotation - rotation).abs().max() < 0.06
    assert vertices_2d.shape == (frames, len(head_model.mean_shape), 2)
    assert expression.lip_offsets.norm(dim=-1).mean() < 0.02
    assert SolveSettings().frame_iterations < 10
