"""The whole chain on the demo portrait, small: lengths, chunks, seeds, and that no motion is the portrait."""

import logging
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core import pipeline
from vividtalk_core.audio.encoder import encode_audio
from vividtalk_core.audio.waveform import read_audio
from vividtalk_core.audio_to_mesh.choose import choose_head_and_face
from vividtalk_core.audio_to_mesh.expression import ExpressionConfig, ExpressionGenerator
from vividtalk_core.errors import MismatchError, MissingFileError, NoFaceError, SettingsError, WeightsError
from vividtalk_core.hub import WeightSet, save_module
from vividtalk_core.mesh_to_video.generator_network import FrameGenerator, FrameGeneratorConfig
from vividtalk_core.mesh_to_video.models import MeshToVideoModels
from vividtalk_core.mesh_to_video.motion_vae import MotionVae, MotionVaeConfig
from vividtalk_core.mesh_to_video.source_view import view_source
from vividtalk_core.motion.head_pose import relative_to_frame
from vividtalk_core.pipeline import TalkSettings, drive, load_models, talk, track
from vividtalk_core.settings import ArticulationSettings
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion
from vividtalk_core.timing import StageTimer
from vividtalk_core.video.reader import read_image, read_video
from vividtalk_core.video.writer import VideoWriter

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


def with_networks(models, motion, generator):
    return models.replaced(models.mesh_to_video.replaced(motion, generator))


def frames_of(stream):
    return torch.cat(list(stream))


@pytest.fixture(scope="module")
def spoken(models, portrait, sound):
    return frames_of(talk(portrait, (sound, RATE), TalkSettings(seed=1, pose_amplitude=3.0)))


def still_motion(models, frames):
    lips = torch.zeros(frames, len(models.face.head.lip_vertices), 3)
    expression = Expression(torch.zeros(frames, 52), lips, 25.0, torch.zeros(52), lips[0])
    return expression, HeadMotion(torch.zeros(frames, 3), torch.zeros(frames, 3), 25.0)


def test_talk_gives_the_portraits_size_for_the_length_of_the_audio(portrait, spoken):
    assert spoken.shape == (FRAMES, *portrait.shape[1:])
    assert torch.isfinite(spoken).all()
    assert 0 <= spoken.amin() <= spoken.amax() <= 1


def test_values_of_another_type_are_named(models, portrait, sound):
    for arguments, message in (
        (("me.jpg", (sound, RATE)), "portrait must be a tensor .*; got str"),
        ((portrait.numpy(), (sound, RATE)), "portrait must be a tensor .*; got ndarray"),
        ((portrait, "hello.wav"), "audio must be .*; got str"),
        ((portrait, sound), "audio must be .*; got Tensor"),
        ((portrait, (sound, RATE), {"seed": 1}), "settings must be .*; got dict"),
    ):
        with pytest.raises(TypeError, match=message):
            talk(*arguments, models=models)
    with pytest.raises(TypeError, match=r"models must be what load_models gives; got str"):
        talk(portrait, (sound, RATE), models="embedded")
    with pytest.raises(
        SettingsError, match=r"box must be four numbers left, top, right, bottom in px; got \(1, 2, 3\)"
    ):
        talk(portrait, (sound, RATE), TalkSettings(box=(1, 2, 3)), models=models)


def test_a_portrait_of_double_precision_is_one_of_single_precision(models, portrait, sound):
    settings = TalkSettings(pose="still")
    first = [next(iter(talk(given, (sound, RATE), settings, models=models))) for given in (portrait, portrait.double())]
    assert torch.equal(*first)


def test_it_moves_and_stays_a_portrait(portrait, spoken):
    assert (spoken[-1] - spoken[0]).abs().amax() > 0.05
    assert (spoken - portrait).abs().mean() < 0.05


@pytest.mark.parametrize("chunk", [1, 4])
def test_chunks_change_no_bit(models, portrait, sound, spoken, chunk):
    stream = talk(portrait, (sound, RATE), TalkSettings(seed=1, pose_amplitude=3.0, chunk=chunk))
    parts = list(stream)
    assert max(len(part) for part in parts) <= chunk
    assert torch.equal(torch.cat(parts), spoken)


def test_a_stream_can_be_read_twice(models, portrait, sound):
    stream = talk(portrait, (sound, RATE), TalkSettings(fps=10.0))
    assert (stream.frame_count, stream.fps, stream.height, stream.width) == (2, 10.0, *portrait.shape[2:])
    assert torch.equal(frames_of(stream), frames_of(stream))


def test_another_seed_is_another_performance(models, portrait, sound, spoken):
    other = frames_of(talk(portrait, (sound, RATE), TalkSettings(seed=2, pose_amplitude=3.0)))
    assert other.shape == spoken.shape
    assert not torch.equal(other, spoken)


def test_without_motion_drive_gives_the_portrait_back(models, portrait):
    out = frames_of(drive(portrait, *still_motion(models, 2), models=models))
    assert (out - portrait).abs().amax() <= 1 / 255


def test_drive_moves_the_mouth_and_leaves_the_brow(models, portrait):
    expression, pose = still_motion(models, 1)
    expression.coefficients[0, ARKIT_NAMES.index("jawOpen")] = 0.6
    stream = drive(portrait, expression, pose, models=models)
    change = (frames_of(stream)[0] - portrait[0]).abs().amax(0)
    face, scale = stream.face, stream.face.crop.size / 256

    def around(landmark):
        x, y = (face.landmarks[landmark, :2] * scale).round().long().tolist()
        return change[face.crop.top + y - 4 : face.crop.top + y + 5, face.crop.left + x - 4 : face.crop.left + x + 5]

    assert around(17).amax() > 0.05
    assert around(9).amax() < 0.02


def test_track_takes_a_file_or_a_clip(models, portrait, tmp_path):
    """What is tracked in a video of the portrait drives the portrait: the public verbs fit together."""
    moving = [F.pad(portrait, (2 * k, 0, 0, 0), mode="replicate")[..., : portrait.shape[3]] for k in range(4)]
    with VideoWriter(tmp_path / "clip.mp4", 25, *portrait.shape[2:], crf=4) as writer:
        writer.write(torch.cat(moving))
    steps = []
    from_file = track(tmp_path / "clip.mp4", models=models, progress=lambda *step: steps.append(step))
    assert steps == [(done, 4, None) for done in range(1, 5)]
    assert (from_file.expression.frame_count, from_file.expression.fps) == (4, 25)
    from_clip = track(read_video(tmp_path / "clip.mp4", with_audio=False), models=models)
    assert torch.equal(from_file.expression.coefficients, from_clip.expression.coefficients)
    assert torch.equal(from_file.landmarks_2d, from_clip.landmarks_2d)
    frames = frames_of(drive(portrait, from_file.expression, relative_to_frame(from_file.pose), models=models))
    assert frames.shape == (4, *portrait.shape[1:])


def test_track_names_what_is_wrong_with_a_video(models, tmp_path):
    with pytest.raises(MissingFileError, match="there is no video"):
        track(tmp_path / "none.mp4", models=models)
    with VideoWriter(tmp_path / "grey.mp4", 25, 64, 64) as writer:
        writer.write(torch.full((2, 3, 64, 64), 0.5))
    with pytest.raises(NoFaceError, match="no face in any of the 2 frames"):
        track(str(tmp_path / "grey.mp4"), models=models)


def test_the_stages_are_timed(models, portrait, sound):
    timer = StageTimer()
    frames_of(talk(portrait, (sound, RATE), TalkSettings(fps=10.0), timer=timer))
    assert {"fit", "audio", "expression", "pose", "mesh", "render", "motion", "generate", "paste"} <= set(timer.seconds)
    assert all(seconds >= 0 for seconds in timer.seconds.values())


def test_settings_without_blinks_and_pose_are_still_between_words(models, portrait):
    silence = torch.zeros(1, round(RATE * SECONDS))
    stream = talk(portrait, (silence, RATE), TalkSettings(blinks=False, pose="still", fps=10.0))
    assert (stream.pose.rotation == 0).all()
    blink = ARKIT_NAMES.index("eyeBlinkLeft")
    assert (stream.expression.coefficients[:, blink] == 0).all()
    assert stream.expression.coefficients[:, ARKIT_NAMES.index("jawOpen")].amax() < 0.05


def test_a_given_pose_is_fitted_to_the_clip(models, portrait, sound):
    turn = HeadMotion(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.1, 0.0]]), torch.zeros(2, 3), 25.0)
    stream = talk(portrait, (sound, RATE), pose=turn)
    torch.testing.assert_close(stream.pose.rotation[:, 1], torch.tensor([0.0, 0.1, 0.0, 0.1, 0.0]))


def test_pose_sources_are_chosen_by_name():
    features = encode_audio(torch.rand(1, 19200) - 0.5, 16000, 25.0, "mel")
    still, face = choose_head_and_face("still", features)
    assert (still.rotation == 0).all() and still.frame_count == 30
    assert face is None  # without models
    first, other = (choose_head_and_face("idle", features, seed=seed)[0].rotation for seed in (0, 1))
    assert not torch.equal(first, other)
    quiet, _ = choose_head_and_face("idle", features, amplitude=0.0)
    torch.testing.assert_close(quiet.rotation, torch.zeros(30, 3))
    with pytest.raises(SettingsError, match="'codebook' needs the models"):
        choose_head_and_face("codebook", features)
    with pytest.raises(SettingsError, match="no head pose source 'nod': choose codebook, idle, still"):
        choose_head_and_face("nod", features)


def test_brows_and_gaze_are_drawn_with_the_head(models, portrait, sound):
    def talked(**choices):
        stream = talk(portrait, (sound.repeat(1, 10), RATE), TalkSettings(blinks=False, **choices))
        names = ("browDownLeft", "browInnerUp", "eyeLookUpLeft", "jawOpen")
        return [stream.expression.coefficients[:, ARKIT_NAMES.index(name)] for name in names]

    lively, still, none = talked(), talked(pose="still"), talked(face_amplitude=0.0)
    assert (lively[0] + lively[1]).max() > (none[0] + none[1]).max() + 0.05
    assert torch.equal(lively[0], still[0]) and torch.equal(lively[3], none[3])
    assert lively[2].max() > 0.02 and still[2].max() == 0


@pytest.mark.parametrize("mode", ["parallel", "causal", "acoustic"])
def test_every_mode_moves_the_lips_and_the_gains_stop_them(models, portrait, mode):
    waveform, rate = read_audio(Path(pipeline.__file__).parent / "assets/demo/speech.flac")
    sound = waveform[:, : 2 * rate]
    still = ArticulationSettings(lip_strength=0, face_gain=0)
    moving = talk(portrait, (sound, rate), TalkSettings(mode=mode, blinks=False, face_amplitude=0)).expression
    stopped = talk(
        portrait, (sound, rate), TalkSettings(mode=mode, blinks=False, face_amplitude=0, articulation=still)
    ).expression
    assert moving.coefficients.std(0).max() > 0.02
    assert stopped.coefficients.abs().max() == stopped.lip_offsets.abs().max() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "sing"}, "mode must be one of parallel, causal, acoustic; got 'sing'"),
        ({"pose": "nod"}, "pose must be one of codebook, idle, still; got 'nod'"),
        ({"fps": 0.5}, "fps must be between 1 and 120; got 0.5"),
        ({"strength": 1.5}, "strength must be between 0 and 1; got 1.5"),
        ({"pose_amplitude": -1.0}, "pose_amplitude must be between 0 and 10; got -1"),
    ],
)
def test_a_setting_out_of_range_is_named(wrong, message):
    with pytest.raises(SettingsError, match=message):
        TalkSettings(**wrong)


def test_a_picture_without_a_face_is_refused(models, sound):
    with pytest.raises(NoFaceError, match="face"):
        talk(torch.full((1, 3, 256, 256), 0.5), (sound, RATE))


def test_models_move_together(models):
    networks = models.mesh_to_video.motion, models.mesh_to_video.generator, models.audio_to_mesh.expression("parallel")
    moved = models.to("meta")
    there = moved.mesh_to_video.motion, moved.mesh_to_video.generator, moved.audio_to_mesh.expression("parallel")
    assert moved.weights == "embedded"
    assert {p.device.type for network in there for p in network.parameters()} == {"meta"}
    assert moved.face.head.mean_shape.device.type == "meta"
    assert {p.device.type for network in networks for p in network.parameters()} == {"cpu"}
    assert models.face.head.mean_shape.device.type == models.face.landmarker.network.device.type == "cpu"


# ---- with networks that change a lot


MOVED = TalkSettings(seed=1, pose_amplitude=3.0)


@pytest.fixture(scope="module")
def awake(models, wake):
    """The models with networks of the shipped size and random values everywhere."""
    torch.manual_seed(0)
    motion = wake(MotionVae(MotionVaeConfig()), spread=0.1)
    return with_networks(models, motion, wake(FrameGenerator(FrameGeneratorConfig()), spread=0.1))


@pytest.fixture(scope="module")
def closed(models, portrait, sound):
    return frames_of(talk(portrait, (sound, RATE), MOVED, models=with_networks(models, None, None)))


@pytest.fixture(scope="module")
def changed(awake, portrait, sound):
    return frames_of(talk(portrait, (sound, RATE), MOVED, models=awake))


def test_strength_goes_from_the_closed_form_to_the_networks(awake, portrait, sound, closed, changed):
    assert (changed - closed).abs().amax() > 0.1
    none, little = (
        frames_of(talk(portrait, (sound, RATE), replace(MOVED, strength=share), models=awake)) for share in (0.0, 0.1)
    )  # fmt: skip
    assert torch.equal(none, closed)
    assert 0 < (little - closed).abs().mean() < 0.5 * (changed - closed).abs().mean()


@pytest.mark.parametrize("part", ["motion", "generator"])
def test_each_network_works_alone(awake, portrait, sound, closed, changed, part):
    networks = {name: getattr(awake.mesh_to_video, name) for name in ("motion", "generator")} | {part: None}
    alone = frames_of(talk(portrait, (sound, RATE), MOVED, models=with_networks(awake, **networks)))
    assert not torch.equal(alone, closed) and not torch.equal(alone, changed)


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_change_no_bit_of_what_networks_make(awake, portrait, sound, changed, chunk):
    assert torch.equal(frames_of(talk(portrait, (sound, RATE), replace(MOVED, chunk=chunk), models=awake)), changed)


def test_without_motion_networks_leave_every_bit(awake, portrait):
    out = frames_of(drive(portrait, *still_motion(awake, 2), models=awake))
    assert torch.equal(out, portrait.expand(2, -1, -1, -1))


def test_networks_leave_the_background_to_the_closed_form(awake, portrait, sound, closed, changed):
    face = talk(portrait, (sound, RATE), MOVED, models=awake).face
    view = view_source(face)
    reach = (view.follow * view.border > 0).float()[None, None]
    native = F.interpolate(reach, size=(face.crop.size,) * 2, mode="bilinear")[0, 0] > 0
    left, top = max(0, -face.crop.left), max(0, -face.crop.top)  # the crop may overhang the portrait
    part = native[top : face.crop.height - face.crop.top, left : face.crop.width - face.crop.left]
    opened = torch.zeros(portrait.shape[2:], dtype=torch.bool)
    y, x = face.crop.top + top, face.crop.left + left
    opened[y : y + part.shape[0], x : x + part.shape[1]] = part
    assert 0.1 < opened.float().mean() < 0.9
    assert torch.equal(changed[..., ~opened], closed[..., ~opened])
    assert not torch.equal(changed[..., opened], closed[..., opened])


def test_a_weight_set_brings_its_own_networks(tmp_path, motion_vae, frame_generator):
    save_module(tmp_path / "motion.safetensors", motion_vae, motion_vae.config, torch.float16)
    save_module(tmp_path / "generator.safetensors", frame_generator, frame_generator.config)
    networks = load_models(str(tmp_path)).mesh_to_video
    assert networks.motion.config == motion_vae.config and networks.generator.config == frame_generator.config
    assert torch.equal(networks.generator.head.weight, frame_generator.head.weight)
    assert not networks.motion.training and networks.motion.head.weight.dtype == torch.float32
    assert networks.motion is networks.motion, "loaded once"


def test_a_set_without_networks_says_what_it_does_without(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr("vividtalk_core.hub.EMBEDDED", tmp_path)
    networks = MeshToVideoModels(WeightSet("mine", {}))
    with caplog.at_level(logging.INFO, "vividtalk"):
        assert networks.motion is None and networks.generator is None
    for name in ("motion-VAE", "generator"):
        assert f"The weights 'mine' have no {name}: only the closed form is used." in caplog.messages


def test_a_damaged_file_is_named_when_the_set_is_loaded(tmp_path, frame_generator):
    path = tmp_path / "generator.safetensors"
    save_module(path, frame_generator, frame_generator.config)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"generator\.safetensors' is truncated"):
        load_models(str(tmp_path))


def test_parts_are_loaded_when_they_are_asked_for():
    fresh = load_models()
    assert fresh.audio_to_mesh.pose.config.levels
    assert "face" not in fresh.__dict__ and "motion" not in fresh.mesh_to_video.__dict__


def test_loading_does_not_wake_the_compiler():
    """Random numbers for weights that are replaced anyway may import it, which takes a second."""
    code = "import sys; from vividtalk_core.pipeline import *; load_models(); print('torch._dynamo' in sys.modules)"
    root = Path(pipeline.__file__).parents[1]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.strip() == "False"


STATES = 16  # width of the tiny speech model


@pytest.fixture(scope="module")
def speech_model(tmp_path_factory):
    """A folder with a tiny random wav2vec2, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("speech")
    sizes = {"hidden_size": STATES, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": STATES}
    config = transformers.Wav2Vec2Config(
        **sizes, conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2
    )
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    return str(folder)


def weights_on_states(folder, width):
    """Models whose expression weights were trained on `width` states of a speech model."""
    config = ExpressionConfig(front_end="states", state_width=width, width=16, heads=2, encoder_layers=1)
    save_module(folder / "expression.safetensors", ExpressionGenerator(config), config)
    return load_models(str(folder))


def test_weights_of_another_encoder_talk_with_it(portrait, sound, speech_model, tmp_path):
    models = weights_on_states(tmp_path, STATES)
    stream = talk(portrait, (sound, RATE), TalkSettings(encoder=speech_model), models=models)
    assert frames_of(stream).shape == (FRAMES, *portrait.shape[1:])


def test_weights_of_another_encoder_refuse_the_wrong_one(portrait, sound, speech_model, tmp_path):
    models = weights_on_states(tmp_path, STATES + 4)
    for encoder, width in (("mel", 0), (speech_model, STATES), ("whisper", 512)):
        with pytest.raises(MismatchError, match=rf"trained on 20 features per state, .* gave {width}"):
            talk(portrait, (sound, RATE), TalkSettings(encoder=encoder), models=models)
