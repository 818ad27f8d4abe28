"""The whole chain on the demo portrait, small: lengths, chunks, seeds, and that no motion is the portrait."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core import pipeline
from vividtalk_core.audio.waveform import load_audio
from vividtalk_core.audio_to_mesh.articulation import ArticulationSettings
from vividtalk_core.pipeline import TalkSettings, choose_pose, drive, load_models, talk
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadPose
from vividtalk_core.timing import StageTimer
from vividtalk_core.video.reader import read_image

RATE, SECONDS = 16_000, 0.2
FRAMES = 5  # at 25 fps


@pytest.fixture(scope="module")
def models():
    return load_models()


@pytest.fixture(scope="module")
def portrait():
    (path,) = (Path(pipeline.__file__).parent / "assets/demo").glob("portrait.*")
    image = read_image(path)
    scale = 256 / max(image.shape[2:])
    return F.interpolate(image, scale_factor=scale, mode="bilinear", antialias=True).clamp(0, 1)


@pytest.fixture(scope="module")
def sound():
    """A buzz that grows louder."""
    t = torch.arange(round(RATE * SECONDS)) / RATE
    buzz = sum(torch.sin(2 * math.pi * 120 * k * t) / k for k in range(1, 30))
    return (0.3 * buzz * t / SECONDS)[None]


def frames_of(stream):
    return torch.cat(list(stream))


@pytest.fixture(scope="module")
def spoken(models, portrait, sound):
    return frames_of(talk(models, portrait, sound, RATE, TalkSettings(seed=1, pose_amplitude=3.0)))


def still_motion(models, frames):
    lips = torch.zeros(frames, len(models.face.head.lip_vertices), 3)
    expression = Expression(torch.zeros(frames, 52), lips, 25.0, torch.zeros(52), lips[0])
    return expression, HeadPose(torch.zeros(frames, 3), torch.zeros(frames, 3), 25.0)


def test_talk_gives_the_portraits_size_for_the_length_of_the_audio(portrait, spoken):
    assert spoken.shape == (FRAMES, *portrait.shape[1:])
    assert torch.isfinite(spoken).all()
    assert 0 <= spoken.amin() <= spoken.amax() <= 1


def test_it_moves_and_stays_a_portrait(portrait, spoken):
    assert (spoken[-1] - spoken[0]).abs().amax() > 0.05
    assert (spoken - portrait).abs().mean() < 0.05


@pytest.mark.parametrize("chunk", [1, 4])
def test_chunks_change_no_bit(models, portrait, sound, spoken, chunk):
    stream = talk(models, portrait, sound, RATE, TalkSettings(seed=1, pose_amplitude=3.0, chunk=chunk))
    parts = list(stream)
    assert max(len(part) for part in parts) <= chunk
    assert torch.equal(torch.cat(parts), spoken)


def test_a_stream_can_be_read_twice(models, portrait, sound):
    stream = talk(models, portrait, sound, RATE, TalkSettings(fps=10.0))
    assert (stream.frames, stream.fps, stream.height, stream.width) == (2, 10.0, *portrait.shape[2:])
    assert torch.equal(frames_of(stream), frames_of(stream))


def test_another_seed_is_another_performance(models, portrait, sound, spoken):
    other = frames_of(talk(models, portrait, sound, RATE, TalkSettings(seed=2, pose_amplitude=3.0)))
    assert other.shape == spoken.shape
    assert not torch.equal(other, spoken)


def test_without_motion_drive_gives_the_portrait_back(models, portrait):
    out = frames_of(drive(models, portrait, *still_motion(models, 2)))
    assert (out - portrait).abs().amax() <= 1 / 255


def test_drive_moves_the_mouth_and_leaves_the_brow(models, portrait):
    expression, pose = still_motion(models, 1)
    expression.coefficients[0, ARKIT_NAMES.index("jawOpen")] = 0.6
    stream = drive(models, portrait, expression, pose)
    change = (frames_of(stream)[0] - portrait[0]).abs().amax(0)
    face, scale = stream.face, stream.face.crop.size / 256

    def around(landmark):
        x, y = (face.landmarks[landmark, :2] * scale).round().long().tolist()
        return change[face.crop.top + y - 4 : face.crop.top + y + 5, face.crop.left + x - 4 : face.crop.left + x + 5]

    assert around(17).amax() > 0.05
    assert around(9).amax() < 0.02


def test_the_stages_are_timed(models, portrait, sound):
    timer = StageTimer()
    frames_of(talk(models, portrait, sound, RATE, TalkSettings(fps=10.0), timer=timer))
    assert {"fit", "audio", "expression", "pose", "mesh", "render", "motion", "generate", "paste"} <= set(timer.seconds)
    assert all(seconds >= 0 for seconds in timer.seconds.values())


def test_settings_without_blinks_and_pose_are_still_between_words(models, portrait):
    silence = torch.zeros(1, round(RATE * SECONDS))
    stream = talk(models, portrait, silence, RATE, TalkSettings(blinks=False, pose="still", fps=10.0))
    assert (stream.pose.rotation == 0).all()
    blink = ARKIT_NAMES.index("eyeBlinkLeft")
    assert (stream.expression.coefficients[:, blink] == 0).all()
    assert stream.expression.coefficients[:, ARKIT_NAMES.index("jawOpen")].amax() < 0.05


def test_a_given_pose_is_fitted_to_the_clip(models, portrait, sound):
    turn = HeadPose(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.1, 0.0]]), torch.zeros(2, 3), 25.0)
    stream = talk(models, portrait, sound, RATE, pose=turn)
    torch.testing.assert_close(stream.pose.rotation[:, 1], torch.tensor([0.0, 0.1, 0.0, 0.1, 0.0]))


def test_pose_sources_are_chosen_by_name():
    assert (choose_pose(TalkSettings(pose="still"), 3, None).rotation == 0).all()
    first, other = (choose_pose(TalkSettings(pose="idle", seed=seed), 30, None).rotation for seed in (0, 1))
    assert not torch.equal(first, other)
    quiet = choose_pose(TalkSettings(pose="idle", pose_amplitude=0.0), 3, None)
    torch.testing.assert_close(quiet.rotation, torch.zeros(3, 3))
    with pytest.raises(ValueError, match="'codebook' needs the models and the audio features"):
        choose_pose(TalkSettings(), 3, None)


@pytest.mark.parametrize("mode", ["parallel", "causal", "acoustic"])
def test_every_mode_moves_the_lips_and_the_gains_stop_them(models, portrait, mode):
    waveform, rate = load_audio(Path(pipeline.__file__).parent / "assets/demo/speech.flac")
    sound = waveform[:, : 2 * rate]
    still = ArticulationSettings(lip_strength=0, face_gain=0)
    moving = talk(models, portrait, sound, rate, TalkSettings(mode=mode, blinks=False)).expression
    stopped = talk(models, portrait, sound, rate, TalkSettings(mode=mode, blinks=False, articulation=still)).expression
    assert moving.coefficients.std(0).max() > 0.02
    assert stopped.coefficients.abs().max() == stopped.lip_offsets.abs().max() == 0


def test_an_unknown_mode_is_named(models, portrait, sound):
    with pytest.raises(ValueError, match="no expression mode 'sing' in the weights 'embedded': choose parallel"):
        talk(models, portrait, sound, 16_000, TalkSettings(mode="sing"))


def test_an_unknown_pose_source_is_named(models, portrait, sound):
    with pytest.raises(ValueError, match="no head pose source 'nod': choose still, idle or codebook"):
        talk(models, portrait, sound, RATE, TalkSettings(pose="nod"))


def test_a_picture_without_a_face_is_refused(models, sound):
    with pytest.raises(ValueError, match="face"):
        talk(models, torch.full((1, 3, 256, 256), 0.5), sound, RATE)


def test_models_move_together(models):
    moved = models.to("cpu")
    assert moved.weights == "embedded"
    assert torch.equal(moved.face.head.mean_shape, models.face.head.mean_shape)
