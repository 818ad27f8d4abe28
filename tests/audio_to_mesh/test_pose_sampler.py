import dataclasses
import math
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.audio.encoder import MEL, encode_audio, mel_rows
from vividtalk_core.audio.waveform import read_audio
from vividtalk_core.audio_to_mesh.choose import choose_head_and_face
from vividtalk_core.audio_to_mesh.models import AudioToMeshModels
from vividtalk_core.audio_to_mesh.pose_sampler import (
    PoseSampler,
    PoseSamplerConfig,
    SampleSettings,
    draw_code,
    sample_head_and_face,
    soft_limit,
)
from vividtalk_core.hub import WeightSet, load_module, save_module
from vividtalk_core.motion.gaze import hold_gaze
from vividtalk_core.pipeline import load_models
from vividtalk_core.structures import ARKIT_NAMES, AudioFeatures, Expression, HeadMotion

DEMO = Path(__file__).parents[2] / "vividtalk_core" / "assets" / "demo"
TINY = PoseSamplerConfig(
    codes=8,
    common_levels=0,
    levels=1,
    face_levels=1,
    latent=2,
    face_latent=2,
    width=8,
    dilations=(1, 2),
    bands=4,
    ahead=7,
    audio=6,
    identity_components=5,
    style=3,
    memory=12,
)


def model(seed=0, config=TINY):
    torch.manual_seed(seed)
    sampler = PoseSampler(config).eval()
    sampler.codebook.codebook.vectors.normal_().mul_(sampler.codebook.codebook.parts[:, None])
    sampler.map.set_spread(sampler.codebook.codebook.vectors)
    return sampler


def speech(seconds=4.0, fps=25.0, seed=0):
    """Bursts of noise, as a sound and as features."""
    generator = torch.Generator().manual_seed(seed)
    time_s = torch.arange(round(seconds * 16000)) / 16000
    sound = 0.2 * torch.randn(len(time_s), generator=generator) * (torch.sin(2 * math.pi * 1.3 * time_s) > 0)
    return encode_audio(sound, 16000, fps, MEL)


def cut(features, frames):
    """The features of the first frames of a clip."""
    rows = math.ceil(frames / features.fps * 100)
    return AudioFeatures(features.mel[:rows], frames, features.fps, frames / features.fps)


def sample_head_pose(*arguments, **options):
    return sample_head_and_face(*arguments, **options).pose


# ---- Φ_map


def test_shapes():
    sampler = model()
    loudness = sampler.audio.loudness_features(torch.randn(2, 22, 320))
    assert loudness.shape == (2, 22, 5)
    codes = torch.randint(8, (2, 6, 2))
    latents, logits = sampler(loudness, sampler.style(torch.randn(2, 5)), torch.randn(2, 9), codes, codes)
    assert latents.shape == (2, 6, 2, 4)
    assert logits.shape == (2, 6, 2, 8)
    assert logits.max() <= 0  # minus squared distances


@pytest.mark.parametrize(("ahead", "first"), [(-1, 11), (3, 10), (7, 9), (11, 8)])
def test_a_code_depends_on_sound_as_far_ahead_as_the_config_says(ahead, first):
    encoder = model(config=dataclasses.replace(TINY, ahead=ahead)).audio
    features = torch.randn(1, 80, 320) - 8
    louder = features.clone()
    louder[:, 40:] += 1
    loudness = [encoder(encoder.pad(encoder.loudness_features(f), 20))[0] for f in (features, louder)]
    touched = (loudness[0] != loudness[1]).any(-1).nonzero()[:, 0]
    # frame 40 is the first of code 10; with nothing ahead, code 11 is the first to depend on it
    assert touched.min() == first
    assert encoder.reach == 16


def test_loudness_may_be_the_only_feature():
    encoder = model(config=dataclasses.replace(TINY, bands=0)).audio
    loudness = encoder.loudness_features(mel_rows(speech())[None])
    assert loudness.shape == (1, 100, 1)
    torch.testing.assert_close(loudness, model().audio.loudness_features(mel_rows(speech())[None])[..., -1:])


def test_loudness_features_do_not_depend_on_the_level():
    encoder = model().audio
    features = mel_rows(speech()) + 4  # a loud recording
    quieter = features - math.log(1.7)
    torch.testing.assert_close(
        encoder.loudness_features(features[None]), encoder.loudness_features(quieter[None]), atol=1e-5, rtol=0
    )
    silence = mel_rows(encode_audio(torch.zeros(16000), 16000, encoder=MEL))
    assert encoder.loudness_features(silence[None]).abs().max() == 0


def test_encoding_in_chunks_is_encoding_at_once():
    encoder = model().audio
    features = mel_rows(speech())
    whole = encoder(encoder.pad(encoder.loudness_features(features[None]), 26))[0]
    for chunk in (3, 26, 64):
        torch.testing.assert_close(encoder.encode(features, 26, chunk), whole, atol=1e-6, rtol=1e-5)
    assert torch.equal(
        encoder.encode(features, 26)[:10], encoder.encode(features[:44], 10)
    )  # code 9 depends on frame 43


def test_sampling_agrees_with_teacher_forcing():
    """Step by step with a memory = all at once: the argmin of the logits are the codes of temperature 0."""
    sampler = model()
    features, start = mel_rows(speech()), torch.randn(9)
    audio = sampler.audio.encode(features, 25)
    style = sampler.style(torch.randn(1, 5))
    codes = sampler.sample(audio, style[0], start, 0.0, torch.Generator())
    _, logits = sampler(sampler.audio.loudness_features(features[None]), style, start[None], codes[None], codes[None])
    assert torch.equal(logits[0].argmax(-1), codes)


def test_guidance_exaggerates_the_reaction_to_sound():
    sampler, draw = model(), lambda: torch.Generator().manual_seed(0)
    style, start = torch.zeros(3), torch.zeros(9)
    loudness = sampler.audio.encode(mel_rows(speech()), 25)
    silent = sampler.audio.encode(mel_rows(encode_audio(torch.zeros(64000), 16000, encoder=MEL)), 25)
    torch.testing.assert_close(silent, sampler.audio.silence().expand_as(silent))
    one, same = (sampler.sample(silent, style, start, 1.0, draw(), guidance) for guidance in (1.0, 9.0))
    assert torch.equal(one, same)
    unguided = sampler.sample(loudness, style, start, 1.0, draw(), guidance=0.0)
    assert torch.equal(unguided, one)
    assert not torch.equal(sampler.sample(loudness, style, start, 1.0, draw(), guidance=30.0), unguided)


def test_draws_follow_the_softmax():
    distances = torch.tensor([0.0, 0.5, 2.0, 9.0])
    generator = torch.Generator().manual_seed(0)
    for temperature in (0.5, 1.0):
        drawn = torch.stack([draw_code(distances, temperature, generator) for _ in range(4000)])
        share = torch.bincount(drawn, minlength=4) / 4000
        torch.testing.assert_close(share, F.softmax(-distances / temperature, 0), atol=0.03, rtol=0)
    assert all(draw_code(distances, 0.0, generator) == 0 for _ in range(20))


# ---- motion


def test_motion_starts_at_the_portrait():
    pose = sample_head_pose(model(), speech())
    assert pose.rotation.shape == pose.translation.shape == (100, 3)
    assert pose.rotation[0].abs().max() == pose.translation[0].abs().max() == 0
    assert pose.rotation.std(0).min() > 0


def test_motion_starts_at_the_start_pose():
    start = HeadMotion(torch.tensor([[9.0, 9, 9], [0.1, -0.2, 0.05]]), torch.tensor([[9.0, 9, 9], [0.1, 0, 0.2]]), 30.0)
    pose = sample_head_pose(model(), speech(), start=start)
    assert torch.equal(pose.rotation[0], start.rotation[1])
    assert torch.equal(pose.translation[0], start.translation[1])
    assert (pose.rotation[1] - pose.rotation[0]).abs().max() < 0.06
    level = sample_head_pose(model(), speech(), amplitude=0.0, start=start)
    assert (level.rotation.diff(dim=0).abs() < 0.012).all()  # back to rest, smoothly
    assert level.rotation[30:].abs().max() < 1e-6


def test_seeds_repeat_and_differ():
    sampler, sound = model(), speech()
    first, again, other = (sample_head_pose(sampler, sound, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.rotation, again.rotation) and torch.equal(first.translation, again.translation)
    assert not torch.allclose(first.rotation, other.rotation, atol=1e-3)


@pytest.mark.parametrize("fps", [25.0, 30.0, 12.5, 60.0])
def test_a_longer_clip_begins_with_the_same_motion(fps):
    sampler, sound = model(), speech(6.0, fps)
    whole = sample_head_pose(sampler, sound)
    for frames in (sound.frame_count // 4, sound.frame_count // 2, sound.frame_count - 1):
        part = sample_head_pose(sampler, cut(sound, frames))
        same = frames - math.ceil(0.5 * fps)  # but for the sound of the last half second
        assert len(part.rotation) == frames
        assert torch.equal(part.rotation[:same], whole.rotation[:same])
        assert torch.equal(part.translation[:same], whole.translation[:same])


def test_without_sound_from_ahead_a_longer_clip_begins_with_all_of_a_shorter_one():
    sampler, sound = model(config=dataclasses.replace(TINY, ahead=-1)), speech(6.0)
    whole = sample_head_pose(sampler, sound)
    for frames in (1, 2, 7, 40, 53):
        assert torch.equal(sample_head_pose(sampler, cut(sound, frames)).rotation, whole.rotation[:frames])


def test_a_longer_recording_begins_with_the_same_motion():
    """The sound is cut, not its features: its loudness, to which the mel is scaled, is another then."""
    sampler = model()
    waveform, rate = read_audio(DEMO / "speech.flac")
    whole = sample_head_pose(sampler, encode_audio(waveform, rate, encoder=MEL))
    part = sample_head_pose(sampler, encode_audio(waveform[:, : 2 * rate], rate, encoder=MEL))
    same = len(part.rotation) - 13
    torch.testing.assert_close(part.rotation[:same], whole.rotation[:same], atol=1e-6, rtol=0)


def test_other_frame_rates_play_the_same_motion():
    sampler = model()
    slow, fast = (sample_head_pose(sampler, speech(4.0, fps)) for fps in (25.0, 50.0))
    assert fast.fps == 50.0 and len(fast.rotation) == 200
    torch.testing.assert_close(fast.rotation[::2], slow.rotation)
    halfway = (slow.rotation[40] + slow.rotation[41]) / 2
    # eased in by then, what lies between two frames is their mean
    torch.testing.assert_close(fast.rotation[81], halfway, atol=1e-5, rtol=1e-4)


def test_amplitude():
    sampler, sound = model(), speech()
    none = sample_head_pose(sampler, sound, amplitude=0.0)
    wide = SampleSettings(limit_deg=1e4)
    one, half = (sample_head_pose(sampler, sound, amplitude=a, settings=wide) for a in (1.0, 0.5))
    torch.testing.assert_close(half.rotation, one.rotation / 2, atol=1e-6, rtol=1e-4)
    assert none.rotation.abs().max() == none.translation.abs().max() == 0


def test_large_angles_are_bent_back_together():
    degrees = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0, 30.0, 40.0]])
    motion = torch.cat((degrees.deg2rad(), torch.ones(3, 3)), 1)
    limited = soft_limit(motion, 16.0)
    assert torch.equal(limited[0], motion[0])
    torch.testing.assert_close(limited[1], motion[1], atol=0, rtol=2e-3)  # small motion is left alone
    assert limited[2, :3].rad2deg().norm() == pytest.approx(16 * math.tanh(50 / 16), rel=1e-4)
    torch.testing.assert_close(limited[2] / limited[2, 3], motion[2])  # in the same direction


def column(face, name):
    return face.coefficients[:, ARKIT_NAMES.index(name)]


def test_the_upper_face_is_drawn_with_the_head():
    sampler, sound = model(), speech()
    drawn = sample_head_and_face(sampler, sound)
    face = drawn.face
    assert (face.frame_count, face.fps, face.lip_offsets.shape) == (100, 25.0, (100, 426, 3))
    moved = {name for name in ARKIT_NAMES if column(face, name).any()}
    assert {"browDownLeft", "browInnerUp", "eyeSquintRight", "cheekSquintLeft"} <= moved
    assert not any(name.startswith(("jaw", "mouth", "eyeBlink")) for name in moved)
    assert column(face, "browInnerUp")[0] == column(face, "browDownLeft")[0] == 0  # from the portrait's own
    # neither changes when the other is scaled, but for the gaze, which follows the head
    calm = sample_head_and_face(sampler, sound, face_amplitude=0.5)
    assert torch.equal(calm.pose.rotation, drawn.pose.rotation)
    assert column(calm.face, "browDownLeft").max() < column(face, "browDownLeft").max()
    steady = sample_head_and_face(sampler, sound, amplitude=0.0)
    torch.testing.assert_close(column(steady.face, "browDownLeft"), column(face, "browDownLeft"))
    assert column(steady.face, "eyeLookUpLeft").max() == 0 < column(face, "eyeLookUpLeft").max()
    still = sample_head_and_face(sampler, sound, face_amplitude=0.0)
    assert torch.equal(still.face.coefficients, hold_gaze(still_face(), drawn.pose).coefficients)


def still_face():
    return Expression.from_rest(torch.zeros(100, 52), torch.zeros(100, 426, 3), 25.0)


def test_a_head_motion_from_elsewhere_keeps_the_face_and_turns_the_eyes():
    sampler, sound = model(), speech()
    angles = torch.linspace(0, 0.2, 100)[:, None] * torch.tensor([0.0, 1.0, 0.0])
    own = HeadMotion(angles, torch.zeros(100, 3), 25.0)
    drawn, given = sample_head_and_face(sampler, sound), sample_head_and_face(sampler, sound, pose=own)
    assert given.pose is own
    assert torch.equal(column(given.face, "browDownLeft"), column(drawn.face, "browDownLeft"))
    gaze = hold_gaze(still_face(), own)
    assert torch.equal(column(given.face, "eyeLookInLeft"), column(gaze, "eyeLookInLeft"))


def test_a_codebook_of_the_head_alone_leaves_the_face_still():
    sampler = model(config=dataclasses.replace(TINY, scales=TINY.scales[:6], face_levels=0, face_latent=0))
    drawn = sample_head_and_face(sampler, speech())
    assert torch.equal(drawn.face.coefficients, hold_gaze(still_face(), drawn.pose).coefficients)


def test_temperature_zero_needs_no_luck():
    sampler, sound = model(), speech()
    poses = [sample_head_pose(sampler, sound, temperature=0.0, seed=seed).rotation for seed in (0, 1)]
    assert torch.equal(*poses)


def test_style_and_start_change_the_motion():
    """Untrained, they move Ẑ; what a seed draws from it may still be the same."""
    sampler = model()
    loudness, codes = (
        sampler.audio.loudness_features(mel_rows(speech())[None]),
        torch.zeros(1, 25, 2, dtype=torch.long),
    )
    face, start = torch.randn(1, 5), torch.randn(1, 9)

    def latents(identity, initial):
        return sampler(loudness, sampler.style(identity), initial, codes, codes)[0]

    plain = latents(0 * face, 0 * start)
    assert not torch.allclose(latents(face, 0 * start), plain)
    assert not torch.allclose(latents(0 * face, start), plain)


def test_random_numbers_of_others_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sample_head_pose(model(5), speech(1.0), seed=9)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -0.1}, "the temperature of the head pose must be 0 or more; got -0.1"),
        ({"amplitude": math.nan}, "the amplitude of the head pose must be 0 or more; got nan"),
        ({"face_amplitude": -1.0}, "the face amplitude of the head pose must be 0 or more; got -1.0"),
        ({"start": HeadMotion(torch.zeros(0, 3), torch.zeros(0, 3), 25.0)}, "the start pose has 0 frames"),
        ({"id_coefficients": torch.zeros(7)}, "trained for 5 identity components, this face has 7"),
    ],
)
def test_errors(change, message):
    with pytest.raises(ValueError, match=message):
        sample_head_pose(model(), speech(0.5), **change)


def test_save_and_load(tmp_path):
    sampler, sound = model(), speech()
    save_module(tmp_path / "pose.safetensors", sampler, sampler.config)
    loaded = load_module(PoseSampler, PoseSamplerConfig, tmp_path / "pose.safetensors")
    assert loaded.config == TINY
    assert torch.equal(sample_head_pose(loaded, sound).rotation, sample_head_pose(sampler, sound).rotation)


# ---- the weights that ship


@pytest.fixture(scope="module")
def models():
    return load_models()


def test_shipped_weights_move_like_a_person(models):
    features = encode_audio(*read_audio(DEMO / "speech.flac"), encoder=MEL)
    mel = features.mel.repeat(60 * 100 // len(features.mel) + 1, 1)[:6000]
    minute = AudioFeatures(mel, 1500, 25.0, 60.0)
    began = time.process_time()
    poses = [sample_head_pose(models.audio_to_mesh.pose, minute, seed=seed) for seed in range(3)]
    assert time.process_time() - began < 9
    for pose in poses:
        degrees = pose.rotation.rad2deg()
        # people who speak freely: 2.5°, 2.6° and 2.4° of pitch, yaw and roll
        assert (degrees.std(0) > 1.4).all() and (degrees.std(0) < 4.5).all()
        assert degrees.norm(dim=1).max() < 17
        assert (degrees.diff(dim=0).norm(dim=1) * 25).max() < 150  # degrees per second
    apart = (poses[0].rotation - poses[1].rotation).rad2deg().square().mean().sqrt()
    assert apart > 1


def test_pipeline_takes_the_codebook(models):
    features = encode_audio(*read_audio(DEMO / "speech.flac"), encoder=MEL)
    controls = {"seed": 2, "amplitude": 0.5, "temperature": 0.8}
    pose, face = choose_head_and_face("codebook", features, models=models.audio_to_mesh, **controls)
    drawn = sample_head_and_face(models.audio_to_mesh.pose, features, 0.8, 0.5, 2)
    assert torch.equal(pose.rotation, drawn.pose.rotation)
    assert torch.equal(face.coefficients, drawn.face.coefficients)
    still, lively = choose_head_and_face("still", features, models=models.audio_to_mesh, **controls)
    assert still.rotation.abs().max() == 0
    assert torch.equal(column(lively, "browDownLeft"), column(face, "browDownLeft"))
    _, nothing = choose_head_and_face("codebook", features, models=models.audio_to_mesh, face_amplitude=0.0)
    assert nothing is None


def test_a_set_without_a_sampler_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("vividtalk_core.hub.EMBEDDED", tmp_path)
    with pytest.raises(ValueError, match=r"needs the weights 'pose.safetensors', which the set 'embedded' does not"):
        _ = AudioToMeshModels(WeightSet("embedded", {})).pose
