"""Training of the expression generator on speech whose loudness moves the jaw: statistics, windows, delay, learning."""

import json
import wave
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vividtalk_core.audio.encoder import MEL, encode_audio, mel_rows
from vividtalk_core.audio.phones import Phone
from vividtalk_core.audio_to_mesh.expression import LIP_NAMES, PHONES, ExpressionConfig, ExpressionGenerator
from vividtalk_core.errors import DatasetError, SettingsError, WeightsError
from vividtalk_core.eval.lips import pearson
from vividtalk_core.head.morphable import load_morphable
from vividtalk_core.head.mouth_shape import lip_curves
from vividtalk_core.hub import load_module, resolve_weights
from vividtalk_core.pipeline import load_models
from vividtalk_core.structures import ARKIT_NAMES, Expression
from vividtalk_core.training.dataset.motion_shard import Shard, encode_shard, write_shard
from vividtalk_core.training.dataset.speech_clips import (
    SoundtrackSettings,
    make_clip,
    measure_motion,
    mouth_range,
    phone_labels,
    standardise,
)
from vividtalk_core.training.loop.trainer import TrainSettings, train
from vividtalk_core.training.losses.motion_maps import make_maps
from vividtalk_core.training.prepare.av_offset import estimate_lags, shift_sound
from vividtalk_core.training.reports.expression import Clip, rows_of, score_row, summarise
from vividtalk_core.training.tasks import expression
from vividtalk_core.training.tasks.expression import ExpressionSettings, ExpressionTask, align_sound

FRAMES = 100
JAW = ARKIT_NAMES.index("jawOpen")
TINY = ExpressionSettings(
    encoder=MEL,
    width=16,
    components=2,
    encoder_layers=1,
    window=30,
    variants=0,
    dropout=0.0,
    style_drop=0.0,
    phone=0.0,
    no_speech=0,
)
TINY_CONFIG = ExpressionConfig(front_end="mel", width=16, heads=2, components=2)


@pytest.fixture(scope="module")
def model():
    return load_morphable(resolve_weights("embedded").file("head.safetensors"))


def make_shard(model, name, identity, split="train", gain=1.0, seed=0):
    """Syllables of noise; the jaw opens with each, as wide as `gain` says."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(FRAMES // 5 + 2, generator=generator)
    level = torch.nn.functional.interpolate(level[None, None], size=FRAMES, mode="linear")[0, 0]
    coefficients = torch.zeros(FRAMES, 52)
    coefficients[:, JAW] = 0.4 * gain * level
    lips = torch.zeros(FRAMES, len(model.lip_vertices), 3)
    lips[:, :, 1] = -0.01 * gain * level[:, None]
    aperture, width = lip_curves(Expression.from_rest(coefficients, lips, 25.0), model)
    noise = torch.randn(640 * FRAMES, generator=generator) * level.repeat_interleave(640) ** 2 * 0.2
    return Shard(
        name=name,
        identity=identity,
        split=split,
        licence="CC0",
        lag_frames=0,
        has_pose=False,
        has_offsets=True,
        known=ARKIT_NAMES,
        coefficients=coefficients,
        lip_offsets=lips.half(),
        rotation=torch.zeros(FRAMES, 3),
        translation=torch.zeros(FRAMES, 3),
        neutral_coefficients=torch.zeros(52),
        neutral_lip_offsets=torch.zeros(len(model.lip_vertices), 3),
        aperture=aperture,
        width=width,
        upper_face=torch.zeros(len(width), 3),
        valid=torch.ones(FRAMES, dtype=torch.uint8),
        id_coefficients=torch.zeros(80),
        waveform=(noise.clamp(-1, 1) * 32767).to(torch.int16),
    )


@pytest.fixture(scope="module")
def shards(model):
    return [make_shard(model, f"clip{i}", "Ada" if i < 2 else "Bo", gain=1 if i < 2 else 2, seed=i) for i in range(4)]


@pytest.fixture(scope="module")
def validation(model):
    return [make_shard(model, f"other{i}", "Cy", "validation", seed=10 + i) for i in range(2)]


def test_a_speaker_who_opens_twice_as_wide_has_twice_the_range(model):
    one, two = (make_shard(model, "a", "Ada", gain=gain) for gain in (1.0, 2.0))
    assert mouth_range([two]) == pytest.approx(2 * mouth_range([one]), rel=0.05)


def test_statistics_standardise_and_come_back(shards, model):
    statistics = measure_motion(shards, 2, 1.0)
    gram = torch.einsum("klc,mlc->km", statistics.lip_basis, statistics.lip_basis)
    torch.testing.assert_close(gram, torch.eye(2), atol=1e-4, rtol=0)
    assert statistics.ranges["Bo"] / statistics.ranges["Ada"] == pytest.approx(
        mouth_range(shards[2:]) / mouth_range(shards[:2])
    )
    generator = ExpressionGenerator(TINY_CONFIG)
    generator.motion_mean.copy_(statistics.mean)
    generator.motion_std.copy_(statistics.std)
    generator.lip_basis.copy_(statistics.lip_basis)
    coefficients, lips = generator.to_curves(standardise(shards[0], statistics, 1.0))
    torch.testing.assert_close(coefficients, shards[0].coefficients, atol=1e-4, rtol=0)
    torch.testing.assert_close(lips, shards[0].lip_offsets.float(), atol=1e-4, rtol=0)


def test_without_a_share_every_speaker_keeps_its_range(shards):
    assert set(measure_motion(shards, 2, 0.0).ranges.values()) == {1.0}


def test_maps_are_the_mesh(shards, model):
    task = ExpressionTask(shards, shards[:1], tmp_nowhere(), model, TINY)
    generator, motion = task.module, torch.randn(5, sum(task.module.sizes)) * 0.3
    coefficients, lips = generator.to_curves(motion)
    aperture, width = lip_curves(Expression.from_rest(coefficients, lips, 25.0), model)
    generated = make_maps(generator, model, task.clips[0].motion[0]).curves(motion)
    torch.testing.assert_close(generated[:, 0], aperture, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(generated[:, 1], width, atol=2e-3, rtol=1e-2)  # a length is not quite linear


def tmp_nowhere():
    return Path("no-such-folder")


def test_windows_belong_together(shards, validation, model):
    task = ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, balance=1.0))
    batch = task.batch(torch.Generator().manual_seed(0), 6)
    again = task.batch(torch.Generator().manual_seed(0), 6)
    assert batch["features"].shape == (6, 30, 320)
    assert batch["motion"].shape == (6, 30, sum(task.module.sizes))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    # sound and jaw rise together in every window
    loud = batch["features"].mean(-1)
    jaw = batch["motion"][..., LIP_NAMES.index("jawOpen")]
    assert min(pearson(a, b) for a, b in zip(loud, jaw, strict=True)) > 0.5


def test_a_faster_soundtrack_takes_its_motion_along(shards, monkeypatch):
    monkeypatch.setattr(
        "vividtalk_core.training.dataset.speech_clips.augment_speech",
        lambda sound, settings, generator: (sound[::2], 2.0),
    )
    motion = torch.arange(FRAMES, dtype=torch.float32)[:, None].expand(FRAMES, 54)
    clip = make_clip(
        shards[0], motion, torch.arange(FRAMES), SoundtrackSettings(TINY_CONFIG, MEL, variants=1), torch.Generator()
    )
    assert len(clip.features[1]) == len(clip.motion[1]) == len(clip.valid[1]) == FRAMES // 2
    # the middle of a frame of the fast clip is the border of two frames of the original
    torch.testing.assert_close(clip.motion[1][:3, 0], torch.tensor([0.5, 2.5, 4.5]))


def test_a_window_longer_than_its_clip_is_filled_but_does_not_count(shards, validation, model, monkeypatch):
    monkeypatch.setattr(
        "vividtalk_core.training.dataset.speech_clips.augment_speech",
        lambda sound, settings, generator: (sound[: 640 * 20], 5.0),
    )
    task = ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, variants=1))
    valid = task.batch(torch.Generator().manual_seed(1), 16)["valid"].sum(1)
    assert set(valid.tolist()) == {20, 30}


def test_phones_are_read_at_frame_rate(tmp_path):
    path = tmp_path / "clip.json"
    path.write_text(json.dumps([["B", 0.0, 0.08], ["IH", 0.08, 0.2, 0.9], ["?", 0.2, 0.4]]))
    names = [PHONES[i] if i >= 0 else None for i in phone_labels(path, 7, 25.0).tolist()]
    assert names == ["B", "B", "IH", "IH", "IH", None, None]
    assert phone_labels(tmp_path / "none.json", 3, 25.0).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("late", [-3, 0, 2])
def test_delay_is_found_and_taken_away(shards, late):
    expected = [shard.aperture for shard in shards[:2]]
    moved = [replace(s, aperture=s.aperture.roll(-late)) for s in shards[:2]]
    assert estimate_lags(expected, moved) == pytest.approx([late, late], abs=0.3)
    sound = shards[0].waveform
    shifted = shift_sound(shards[0], late).waveform
    assert len(shifted) == len(sound)
    inside = slice(640 * 5, 640 * (FRAMES - 5))
    assert torch.equal(shifted[inside], sound.roll(-640 * late)[inside])


def test_a_short_clip_follows_its_speaker(shards):
    short = replace(shards[1], aperture=torch.ones(FRAMES))  # says nothing about its delay
    expected = [shards[0].aperture.roll(2), shards[1].aperture]
    first, second = estimate_lags(expected, [shards[0], short])
    assert first == pytest.approx(2, abs=0.3)
    assert second == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("causal", [False, True])
def test_it_learns_what_opens_the_mouth(shards, validation, model, tmp_path, causal):
    task = ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, causal=causal))
    before = task.evaluate(task.module.eval())
    settings = TrainSettings(steps=60, batch=8, learning_rate=1e-2, warmup=5, evaluate_every=60, log_every=60, cpu=True)
    metrics = train(task, settings, tmp_path)
    assert metrics["aperture"] > 0.6 > before["aperture"]
    saved = load_module(ExpressionGenerator, ExpressionConfig, tmp_path / "best.safetensors")
    assert saved.config.causal == causal
    # lips are written with the gain, brows without
    ratio = saved.motion_std / task.module.motion_std
    assert ratio[0].item() == pytest.approx(TINY.gain, rel=1e-2)
    assert ratio[-1].item() == pytest.approx(TINY.gain, rel=1e-2)
    assert ratio[len(LIP_NAMES)].item() == pytest.approx(1, rel=1e-2)
    # what it learned aligns clips that are late
    if not causal:
        late = [shift_sound(shard, -3) for shard in validation]
        again = align_sound(late, saved, model, MEL)
        right = mel_rows(encode_audio(validation[0].waveform[None].float() / 32768, 16_000, 25.0, MEL))[5:-5]
        found = mel_rows(encode_audio(again[0].waveform[None].float() / 32768, 16_000, 25.0, MEL))[5:-5]
        worse = mel_rows(encode_audio(late[0].waveform[None].float() / 32768, 16_000, 25.0, MEL))[5:-5]
        assert (found - right).abs().mean() < 0.5 * (worse - right).abs().mean()


def test_features_of_a_speech_model_can_be_used_instead(shards, validation, model, tmp_path):
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embedding_groups=2,
    )
    HubertModel(config).save_pretrained(tmp_path / "ear")
    settings = replace(TINY, encoder=str(tmp_path / "ear"))
    task = ExpressionTask(shards[:1], validation[:1], tmp_nowhere(), model, settings)
    batch = task.batch(torch.Generator().manual_seed(0), 2)
    assert batch["features"].shape == (2, 30, 48)  # two states under each frame
    assert all(torch.isfinite(term) for term in task.losses(task.module, batch).values())
    assert "aperture" in task.evaluate(task.module.eval())
    task.save(tmp_path / "weights.safetensors", task.module)
    saved = load_module(ExpressionGenerator, ExpressionConfig, tmp_path / "weights.safetensors")
    assert (saved.config.front_end, saved.config.state_width) == ("states", 24)


def test_one_part_of_earlier_weights_is_trained_on(shards, validation, model, tmp_path):
    first = ExpressionTask(shards, validation, tmp_nowhere(), model, TINY)
    torch.nn.init.normal_(first.module.branches[0].out.weight)
    first.save(tmp_path / "first.safetensors", first.module)
    settings = replace(TINY, start=str(tmp_path / "first.safetensors"), only="phones", phone=1.0)
    task = ExpressionTask(shards, validation, tmp_nowhere(), model, settings)
    assert {name for name, p in task.module.named_parameters() if p.requires_grad} == {"phones.weight", "phones.bias"}
    torch.testing.assert_close(
        task.module.branches[0].out.weight, first.module.branches[0].out.weight, atol=2e-3, rtol=2e-3
    )
    assert torch.equal(task.module.motion_std, first.module.motion_std)  # without the gain of the file
    with pytest.raises(ValueError, match="was made for"):
        ExpressionTask(shards, validation, tmp_nowhere(), model, replace(settings, width=32))


def test_curve_sets_train_only_their_observed_coefficients(shards, validation, model):
    half = replace(shards[0], name="set", identity="Rig", known=("jawOpen",), has_offsets=False)
    task = ExpressionTask([*shards, half], validation, tmp_nowhere(), model, TINY)
    batch = task.batch(torch.Generator().manual_seed(0), 64)
    rig = ~batch["known"].all(1)
    assert 0 < int(rig.sum()) < 64
    assert batch["known"][rig][0].nonzero()[:, 0].tolist() == [LIP_NAMES.index("jawOpen")]
    losses = task.losses(task.module, {name: value[rig] for name, value in batch.items()})
    assert losses["coefficient"] > 0
    assert losses["mesh"] == losses["curve"] == losses["upper_lip"] == losses["closure"] == 0
    with pytest.raises(ValueError, match="no clip to train on has lip offsets and all coefficients"):
        ExpressionTask([half], validation, tmp_nowhere(), model, TINY)


def test_every_loss_has_its_name(shards, validation, model):
    task = ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, phone=0.3))
    losses = task.losses(task.module, task.batch(torch.Generator().manual_seed(0), 4))
    assert list(losses) == ["coefficient", "mesh", "curve", "upper_lip", "shape", "velocity", "closure", "phone"]
    task = ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, sync=0.5))
    task.losses(task.module, task.batch(torch.Generator().manual_seed(0), 4))["sync"].backward()
    assert task.module.branches[0].out.weight.grad.abs().sum() > 0
    # the untrained model gives the mean motion, whose error is the variance
    assert losses["mesh"].item() == pytest.approx(1, rel=0.6)


def test_a_prepared_folder_is_a_task(shards, validation, tmp_path, monkeypatch):
    monkeypatch.setattr(expression, "ExpressionTask", lambda *arguments: arguments)
    for shard in (*shards, *validation):
        write_shard(tmp_path / "clips" / f"{shard.name}.safetensors", shard)
    trained, held_out, phones, *_ = expression.task(tmp_path, TINY)
    assert [s.name for s in trained] == ["clip0", "clip1", "clip2", "clip3"]
    assert {s.identity for s in held_out} == {"Cy"}
    assert phones == tmp_path / "phones"


def save_sound(path):
    sound = 3000 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sound.to(torch.int16).numpy().tobytes())


def test_voices_are_drawn_as_often_as_asked_and_pull_the_lips_together(shards, model, tmp_path):
    save_sound(tmp_path / "ann_one.wav")
    (tmp_path / "ann_one.json").write_text(json.dumps([["B", 0.0, 0.4], ["AA", 0.4, 1.0]]))
    settings = replace(TINY, window=20, voices=str(tmp_path), voice_share=0.5)
    task = ExpressionTask(shards, shards[:1], tmp_nowhere(), model, settings)
    batch = task.batch(torch.Generator().manual_seed(0), 64)
    voices = ~batch["valid"].any(1)
    assert 16 < int(voices.sum()) < 48
    losses = task.losses(task.module, {name: value[voices] for name, value in batch.items()})
    # the mean motion has open lips; nothing else is known of a voice
    assert losses["closure"] > 0
    assert losses["mesh"] == losses["curve"] == losses["velocity"] == 0


def test_a_teacher_gives_voices_motion_and_phones(shards, validation, model, tmp_path):
    first = ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, gain=1.0))
    torch.nn.init.normal_(first.module.branches[0].out.weight)
    first.save(tmp_path / "teacher.safetensors", first.module)
    (tmp_path / "voices").mkdir()
    save_sound(tmp_path / "voices/ann_one.wav")
    settings = replace(TINY, window=20, variants=1, voices=str(tmp_path / "voices"), voice_share=0.5)
    with pytest.raises(DatasetError, match="no speech with phones"):
        ExpressionTask(shards, validation, tmp_nowhere(), model, settings)
    settings = replace(settings, teacher=str(tmp_path / "teacher.safetensors"))
    clip = ExpressionTask(shards, validation, tmp_nowhere(), model, settings).clips[-1]
    assert clip.name == "ann_one" and len(clip.features) == 2
    assert bool(clip.valid[0].all()) and bool(clip.known.all())
    with torch.no_grad():
        rows, quiet = clip.features[0].float()[None], torch.zeros(1, 16)
        expected, audio = first.module.eval()(rows, quiet)[0], first.module.encode(rows, quiet)
    torch.testing.assert_close(clip.motion[0], expected, atol=0.02, rtol=0.02)
    agree = clip.phones[0] == first.module.phones(audio)[0].argmax(-1)  # but for the rounding of the file
    assert agree.float().mean() > 0.8


def test_a_teacher_of_other_clips_is_refused(shards, validation, model, tmp_path):
    first = ExpressionTask(shards, validation, tmp_nowhere(), model, TINY)
    first.module.lip_basis.mul_(-1)
    first.save(tmp_path / "teacher.safetensors", first.module)
    save_sound(tmp_path / "ann_one.wav")
    settings = replace(TINY, voices=str(tmp_path), teacher=str(tmp_path / "teacher.safetensors"))
    with pytest.raises(WeightsError, match="must be of the parallel form and trained on the same clips"):
        ExpressionTask(shards, validation, tmp_nowhere(), model, settings)


def test_the_mouth_rests_while_nobody_speaks(shards, validation, model):
    settings = replace(TINY, no_speech=3, no_speech_share=0.5)
    task = ExpressionTask(shards, validation, tmp_nowhere(), model, settings)
    clip = task.clips[-1]
    assert (clip.identity, len(clip.motion[0])) == ("no speech", 150)
    coefficients, lips = task.module.to_curves(clip.motion[0])
    assert coefficients.abs().max() < 1e-5 and lips.abs().max() < 1e-5
    batch = task.batch(torch.Generator().manual_seed(0), 64)
    silent = (batch["phones"] == PHONES.index("SIL")).all(1)
    assert 16 < int(silent.sum()) < 48


def test_figures_of_rows_are_medians_and_counts(shards, model):
    phones = [[Phone("B", 0.4, 0.6), Phone("IY", 0.6, 0.8), Phone("V", 0.8, 0.9, 0.2)], []]
    heard = [encode_shard(shard) for shard in shards]
    clips = [Clip(shards[i], heard[i], heard[1 - i], phones[i]) for i in range(2)]

    def itself(features, face):  # the curves that the clips were made from, half as strong
        match = next(s for s in shards if len(s.waveform) == 640 * features.frame_count)
        return Expression.from_rest(match.coefficients / 2, match.lip_offsets.float() / 2, 25.0)

    real = summarise(*score_row(None, clips, model), phones)
    assert (real["clips"], real["aperture_correlation"], real["in_sync"]) == (2, 1.0, 1.0)
    assert (real["shut_phones"], real["spread_phones"]) == (1, 1)
    assert "bite_phones" not in real  # the only one is not certain
    generated = summarise(*score_row(itself, clips[:1], model), phones[:1])
    assert generated["aperture_correlation"] == pytest.approx(1, abs=0.01)
    assert generated["amplitude_ratio"] == pytest.approx(0.5, abs=0.05)
    assert generated["audio_gain"] == 1  # it ignores the sound


def test_the_embedded_weights_have_a_row_each():
    assert list(rows_of(load_models())) == ["acoustic", "mel", "parallel", "causal"]


def test_both_splits_are_needed(shards, model):
    with pytest.raises(ValueError, match="4 clips to train on and 0 to validate with"):
        ExpressionTask(shards, [], tmp_nowhere(), model, TINY)


def test_speech_that_is_too_short_or_missing_is_refused(shards, validation, model):
    with pytest.raises(DatasetError, match="tracked speech of 101 frames or more"):
        ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, window=101))
    silent = replace(shards[0], waveform=torch.zeros(0, dtype=torch.int16))
    for clips, held_out in (([silent], validation), (shards, [silent])):
        with pytest.raises(DatasetError, match="clips with sound"):
            ExpressionTask(clips, held_out, tmp_nowhere(), model, TINY)
    assert ExpressionTask([silent, *shards], validation, tmp_nowhere(), model, TINY).clips
    most = 3 * len(model.lip_vertices)
    with pytest.raises(SettingsError, match=f"components must be at most {most}"):
        ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, components=most + 1))


def test_emphasis_draws_a_speaker_more_often(shards, validation, model):
    plain = ExpressionTask(shards, validation, tmp_nowhere(), model, TINY)
    name = shards[0].identity
    more = ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, emphasis=f"{name}=4"))
    count = sum(clip.identity != "" and bool(clip.known.any()) for clip in plain.clips)
    for clip, before, after in zip(plain.clips[:count], plain.sampling_weights, more.sampling_weights, strict=False):
        if clip.identity in {shard.identity for shard in shards}:
            assert float(after) == pytest.approx(float(before) * (4 if clip.identity == name else 1))
    with pytest.raises(ValueError, match="emphasis names Nobody, of whom there is no clip"):
        ExpressionTask(shards, validation, tmp_nowhere(), model, replace(TINY, emphasis="Nobody=2"))


@pytest.mark.parametrize("text", ["Ann", "Ann=", "=2", "Ann=-1", "Ann=nan", "Ann=2,Ben"])
def test_a_wrong_emphasis_is_refused(text):
    with pytest.raises(ValueError, match="emphasis must be NAME=FACTOR"):
        ExpressionSettings(emphasis=text)
