import dataclasses
import json
import math

import pytest
import torch

from vividtalk_core.audio_to_mesh.pose_codebook import HeadPoseVqVae, HeadPoseVqVaeConfig
from vividtalk_core.audio_to_mesh.pose_sampler import PoseSampler, PoseSamplerConfig
from vividtalk_core.cli import command
from vividtalk_core.geometry import rotation_matrix
from vividtalk_core.hub import load_module
from vividtalk_core.structures import ARKIT_NAMES
from vividtalk_core.training.dataset.layout import shard_path
from vividtalk_core.training.dataset.motion_shard import Shard, write_shard
from vividtalk_core.training.dataset.pose_clips import (
    MIRROR,
    PoseAugmentation,
    PoseClip,
    activity,
    clip_weights,
    draw_window,
    pose_clips,
    relative_to_rest,
)
from vividtalk_core.training.loop.settings import TrainSettings
from vividtalk_core.training.loop.trainer import BEST, train
from vividtalk_core.training.reports import head_pose as head_pose_report
from vividtalk_core.training.tasks import pose_sampler as pose
from vividtalk_core.training.tasks import pose_vqvae as pose_codebook

SCALES = HeadPoseVqVaeConfig().scales
CODEBOOK = pose_codebook.PoseCodebookSettings(
    codes=8, common_levels=0, levels=1, face_levels=1, latent=8, face_latent=4, width=16, window=24
)
PLAIN = PoseAugmentation(slowest=1.0, fastest=1.0, smallest=1.0, largest=1.0, uneven=1.0, mirror=0.0, reverse=0.0)
QUICK = TrainSettings(steps=40, batch=8, learning_rate=1e-2, warmup=5, evaluate_every=20, log_every=20, cpu=True)


def shard(name, frames=75, identity="anna", split="train", sound=True, degrees=5.0, brows=0.02, **changes):
    """A head that sways while somebody speaks in bursts."""
    time_s = torch.arange(frames) / 25
    wave = torch.stack([torch.sin(2 * math.pi * hertz * time_s) for hertz in (0.9, 0.5, 0.3)], 1)
    noise = torch.randn(640 * frames, generator=torch.Generator().manual_seed(0)) * 3000
    values = {
        "coefficients": torch.zeros(frames, 52),
        "lip_offsets": torch.zeros(frames, 4, 3, dtype=torch.float16),
        "rotation": wave * math.radians(degrees) + torch.tensor([0.1, -0.2, 0.05]),
        "translation": wave * 0.05 + torch.tensor([0.3, 0.2, 0.1]),
        "neutral_coefficients": torch.zeros(52),
        "neutral_lip_offsets": torch.zeros(4, 3),
        "aperture": torch.zeros(frames),
        "width": torch.zeros(frames),
        "upper_face": torch.stack([torch.sin(2 * math.pi * hertz * time_s) for hertz in (0.7, 0.4, 0.2)], 1) * brows,
        "valid": torch.ones(frames, dtype=torch.uint8),
        "id_coefficients": torch.randn(6, generator=torch.Generator().manual_seed(len(identity))),
        "waveform": noise.to(torch.int16) if sound else torch.zeros(0, dtype=torch.int16),
    } | changes
    return Shard(name, identity, split, "CC0", 0, True, True, ARKIT_NAMES, **values)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A prepared folder: two speakers to learn from, one of them also without sound, and one to validate on."""
    folder = tmp_path_factory.mktemp("shards")
    for generated in (
        shard("a1", 100),
        shard("a2", 80, degrees=4),
        shard("b1", 90, "bert", sound=False),
        shard("b2", 90, "bert", degrees=7),
        shard("c1", 75, "carl", "validation"),
    ):
        write_shard(shard_path(folder, generated.name), generated)
    return folder


# ---- clips


def test_relative_to_rest_is_zero_at_the_median():
    one = shard("a")
    pose_ = relative_to_rest(one.rotation, one.translation)
    at_rest = rotation_matrix(one.rotation.median(0).values)
    torch.testing.assert_close(rotation_matrix(pose_[:, :3]) @ at_rest, rotation_matrix(one.rotation))
    assert pose_[:, 3:].median(0).values.abs().max() < 1e-6


def test_clips_are_in_units_of_the_speakers_own_motion():
    lively, calm, dead = (pose_clips([shard("a", degrees=d)], SCALES, 0.5, 1.0)[0] for d in (8, 3, 0.01))
    assert lively.gain / calm.gain == pytest.approx(8 / 3, rel=0.01)
    assert lively.pose[:, :3].std(0).square().mean() == pytest.approx(1, rel=0.01)
    assert dead.gain == 0.5
    assert dead.pose[:, :3].abs().max() < 0.02  # noise is not enlarged
    moved = lively.pose * torch.tensor(SCALES) * lively.gains
    torch.testing.assert_close(moved[:, :6], relative_to_rest(*(getattr(shard("a", degrees=8), n) for n in NAMES)))


def test_the_upper_face_has_an_amplitude_of_its_own():
    lively, calm, dead = (pose_clips([shard("a", brows=b)], SCALES, 0.5, 1.0)[0] for b in (0.04, 0.02, 1e-5))
    assert lively.gains[6:].unique().tolist() == pytest.approx([2 * float(calm.gains[6])])
    assert lively.gain == calm.gain == dead.gain
    assert lively.pose[:, 6].std() == pytest.approx(1, rel=0.01)
    assert dead.pose[:, 6:].abs().max() < 0.02
    moved = lively.pose[:, 6:] * torch.tensor(SCALES[6:]) * lively.gains[6:]
    face = shard("a", brows=0.04).upper_face
    torch.testing.assert_close(moved, face - face.median(0).values)


NAMES = ("rotation", "translation")


def test_stretches_end_at_bad_frames_and_cuts():
    valid = torch.ones(100, dtype=torch.uint8)
    valid[50:60] = 0
    assert [len(c.pose) for c in pose_clips([shard("a", 100, valid=valid)], SCALES, 0.5, 1.0)] == [50, 40]
    rotation = shard("a", 100).rotation.clone()
    rotation[30:, 1] += 0.4  # a cut: 23 degrees from one frame to the next
    assert [len(c.pose) for c in pose_clips([shard("a", 100, rotation=rotation)], SCALES, 0.5, 1.0)] == [30, 70]
    rotation[80:90, 1] += 1.0  # turned away
    assert [len(c.pose) for c in pose_clips([shard("a", 100, rotation=rotation)], SCALES, 0.5, 1.0)] == [30, 50]
    assert pose_clips([shard("a", 20)], SCALES, 0.5, 1.0) == []
    assert pose_clips([dataclasses.replace(shard("a"), has_pose=False)], SCALES, 0.5, 1.0) == []


def test_sound_is_asked_for():
    shards = [shard("a"), shard("b", sound=False)]
    assert [c.name for c in pose_clips(shards, SCALES, 0.5, 1.0)] == ["a", "b"]
    (clip,) = pose_clips(shards, SCALES, 0.5, 1.0, sound=True)
    assert clip.features.shape == (75, 320)


def test_weights_balance_speakers_and_favour_the_lively():
    def clip(identity, frames, gain):
        return PoseClip("x", identity, torch.zeros(frames, 9), torch.full((9,), gain), None, torch.zeros(6))

    clips = [clip("a", 100, 1.0), clip("a", 300, 1.0), clip("b", 100, 1.0), clip("c", 100, 0.5)]
    torch.testing.assert_close(clip_weights(clips, 1.0, 0.0), torch.tensor([100.0, 300, 100, 100]))
    torch.testing.assert_close(clip_weights(clips, 0.0, 0.0), torch.tensor([0.25, 0.75, 1, 1]))
    torch.testing.assert_close(clip_weights(clips, 0.0, 2.0), torch.tensor([0.25, 0.75, 1, 0.25]))


def test_windows():
    (clip,) = pose_clips([shard("a", 60)], SCALES, 0.5, 1.0, sound=True)
    generator = torch.Generator().manual_seed(0)
    window, features, inside = draw_window(clip, 60, PLAIN, generator)
    torch.testing.assert_close(window, clip.pose)
    torch.testing.assert_close(features, clip.features)
    assert inside.all() and draw_window(clip, 20, PLAIN, generator)[0].shape == (20, 9)
    whole = dataclasses.replace(clip, features=None)
    held, _, inside = draw_window(whole, 80, PLAIN, generator)
    torch.testing.assert_close(held, torch.cat((clip.pose, clip.pose[-1:].expand(20, -1))))
    assert inside.tolist() == [True] * 60 + [False] * 20
    mirrored, _, _ = draw_window(whole, 60, dataclasses.replace(PLAIN, mirror=1.0), generator)
    torch.testing.assert_close(mirrored, clip.pose * MIRROR)
    reversed_, _, _ = draw_window(whole, 60, dataclasses.replace(PLAIN, reverse=1.0), generator)
    torch.testing.assert_close(reversed_, clip.pose.flip(0))
    spoken, _, _ = draw_window(clip, 60, dataclasses.replace(PLAIN, reverse=1.0), generator)
    torch.testing.assert_close(spoken, clip.pose)  # speech does not run backwards
    fast, _, _ = draw_window(whole, 30, dataclasses.replace(PLAIN, slowest=2.0, fastest=2.0), generator)
    torch.testing.assert_close(
        fast.diff(dim=0).abs().mean() / clip.pose.diff(dim=0).abs().mean(), torch.tensor(2.0), atol=0.3, rtol=0
    )
    larger, _, _ = draw_window(whole, 60, dataclasses.replace(PLAIN, smallest=1.3, largest=1.3), generator)
    torch.testing.assert_close(larger, 1.3 * clip.pose)
    uneven, _, _ = draw_window(whole, 60, dataclasses.replace(PLAIN, uneven=1.5), generator)
    factor = uneven.std(0) / clip.pose.std(0)
    assert (factor > 1 / 1.51).all() and (factor < 1.51).all() and factor.std() > 0.01


def test_activity_is_one_for_the_average_speaker():
    pose_ = torch.randn(4000, 9, generator=torch.Generator().manual_seed(0)) * torch.tensor(SCALES)
    assert activity(pose_, torch.tensor(SCALES)) == pytest.approx(1, rel=0.03)


# ---- phase 1


def test_codebook_learns_and_is_saved(data, tmp_path):
    task = pose_codebook.task(data, CODEBOOK)
    assert [clip.name for clip in task.train] == ["a1", "a2", "b1", "b2"]
    before = task.evaluate(task.module.eval())
    best = train(task, dataclasses.replace(QUICK, steps=100), tmp_path)
    assert best["score"] < before["score"]
    assert best["brow_rms_iod"] < before["brow_rms_iod"]
    assert best["score"] == pytest.approx(best["rms_deg"] / math.degrees(SCALES[0]) + best["brow_rms_iod"] / SCALES[6])
    assert 1 <= best["perplexity_1"] <= 8
    loaded = load_module(HeadPoseVqVae, HeadPoseVqVaeConfig, tmp_path / BEST)
    assert loaded.config.codes == 8
    assert task.evaluate(loaded)["rms_deg"] == pytest.approx(best["rms_deg"])


def test_codebook_losses_by_name(data):
    task = pose_codebook.task(data, CODEBOOK)
    batch = task.batch(torch.Generator().manual_seed(0), 3)
    assert batch["pose"].shape == (3, 24, 9)
    terms = task.losses(task.module.eval(), batch)
    assert list(terms) == ["position", "velocity", "acceleration", "commitment"]
    generated, latents, quantised, _ = task.module(batch["pose"])
    error = (generated - batch["pose"]).square() * torch.tensor((1, 1, 1, 0.5, 0.5, 0.5 / 3, 0.5, 0.5, 0.5))
    torch.testing.assert_close(terms["position"], error.mean())
    torch.testing.assert_close(terms["commitment"], 0.25 * (latents - quantised).square().mean())


# ---- phase 2


@pytest.fixture(scope="module")
def phase_one(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("codebook")
    train(pose_codebook.task(data, CODEBOOK), QUICK, out)
    return out / BEST


def settings(phase_one, **changes):
    sizes = {"bands": 4, "audio": 6, "style": 3, "memory": 12, "window": 40, "dropout": 0.0}
    return pose.PoseSettings(codebook=str(phase_one), **sizes | changes)


def test_sampler_learns_on_a_frozen_codebook(data, phase_one, tmp_path):
    task = pose.task(data, settings(phase_one))
    assert [clip.name for clip in task.train] == ["a1", "a2", "b2"]  # with sound
    frozen = {name: value.clone() for name, value in task.module.codebook.state_dict().items()}
    before = task.evaluate(task.module.eval())
    best = train(task, QUICK, tmp_path)
    assert best["score"] < before["score"]
    for name, value in task.module.codebook.state_dict().items():
        assert torch.equal(value, frozen[name]), name
    loaded = load_module(PoseSampler, PoseSamplerConfig, tmp_path / BEST)
    assert loaded.config.identity_components == 6
    assert task.evaluate(loaded)["score"] == pytest.approx(best["score"], rel=0.01)  # stored as float16


def test_sampler_losses_by_name(data, phase_one):
    task = pose.task(data, settings(phase_one, code_noise=0.0, audio_noise=0.0))
    batch = task.batch(torch.Generator().manual_seed(0), 3)
    terms = task.losses(task.module.eval(), batch)
    assert list(terms) == ["position", "latent", "code"]
    module, book = task.module, task.module.codebook.codebook
    codes = task.codebook.encode(batch["pose"])
    style = module.style(batch["identity"]) * batch["style_kept"]
    loudness = module.audio.loudness_features(batch["features"]) * batch["audio_kept"]
    latents, logits = module(loudness, style, batch["pose"][:, 0], codes, codes)
    likelihood = logits.softmax(-1).gather(-1, codes[..., None])
    torch.testing.assert_close(terms["code"], -likelihood.log().mean())
    expected = torch.stack([book.vectors[level][codes[..., level]] for level in range(2)], 2)
    torch.testing.assert_close(terms["latent"], 0.1 * (latents - expected).square().mean())
    generated = module.codebook.decode_latents(book.lookup(book.nearest(latents.sum(2))))
    torch.testing.assert_close(terms["position"], 0.1 * (generated - batch["pose"]).square().mean())


def test_disturbed_codes_are_near_ones(data, phase_one):
    task = pose.task(data, settings(phase_one))
    codes = torch.randint(8, (2, 10, 2))
    batch = task.batch(torch.Generator().manual_seed(0), 2)
    clear = task._disturb(codes, batch | {"noise": torch.ones(2, 10)})
    other = task._disturb(codes, batch | {"noise": torch.zeros(2, 10)})
    assert torch.equal(clear, codes)
    assert (other != codes).all()


def test_metrics_stand_beside_real_ones(data, phase_one, tmp_path, monkeypatch, capsys):
    task = pose.task(data, settings(phase_one))
    task.save(tmp_path / "pose.safetensors", task.module)
    monkeypatch.setattr(head_pose_report, "LONG_S", 22.0)
    assert command.main(["evaluate", "head-pose", str(data), str(tmp_path / "pose.safetensors")]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert list(metrics) == ["codebook", "motion", "upper_face", "ten_minutes"]
    assert metrics["codebook"]["frames"] == 75 and metrics["codebook"]["codes"] == 8
    motion = metrics["motion"]
    assert (motion["clips"], motion["identities"], motion["seeds"]) == (1, 1, 10)
    assert motion["diversity_deg_real"] == pytest.approx(5 / math.sqrt(2), rel=0.05)
    assert motion["diversity_ratio"] == pytest.approx(motion["diversity_deg"] / motion["diversity_deg_real"])
    face = metrics["upper_face"]
    assert face["clips"] == face["clips_free"] == 1
    assert face["brow_std_iod_real"] == face["brow_std_iod_real_free"] == pytest.approx(0.02 / math.sqrt(2), rel=0.1)
    assert face["blinks_per_minute_real"] == 0 < face["blinks_per_minute"]
    assert metrics["ten_minutes"]["same_again"] == 1.0


def test_style_and_sound_are_dropped(data, phase_one):
    batch = pose.task(data, settings(phase_one, style_drop=1.0, audio_drop=0.0)).batch(torch.Generator(), 4)
    assert batch["style_kept"].max() == 0 and batch["audio_kept"].min() == 1


def test_errors(data, tmp_path):
    with pytest.raises(ValueError, match="needs the weights of train pose-codebook: --codebook"):
        pose.task(data, pose.PoseSettings())
    write_shard(shard_path(tmp_path, "a"), shard("a", 20))
    with pytest.raises(ValueError, match="at least 1 s for training and validation; got 0 and 0"):
        pose_codebook.task(tmp_path, CODEBOOK)


def test_sampler_needs_clips(data, phase_one):
    codebook = load_module(HeadPoseVqVae, HeadPoseVqVaeConfig, phase_one)
    with pytest.raises(ValueError, match=r"speech with head motion of at least 2 s .* got 0 and 0 clips"):
        pose.PoseTask([], [], codebook, settings(phase_one))
