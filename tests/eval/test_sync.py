"""The sync expert, its metrics, and its training."""

import pytest
import torch

from vividtalk_core.critics.sync_expert import SyncConfig, SyncExpert, sync_loss
from vividtalk_core.errors import MediaError
from vividtalk_core.eval.sync import SyncScore, at_rate, load_sync_expert, offset_distances, sync_score
from vividtalk_core.hub import load_module, save_module
from vividtalk_core.structures import ARKIT_NAMES
from vividtalk_core.training.dataset.motion_shard import Shard, write_shard
from vividtalk_core.training.loop.settings import TrainSettings
from vividtalk_core.training.loop.trainer import train
from vividtalk_core.training.tasks.sync_expert import SyncSettings, SyncTask, contrastive_loss, task, with_sound

TINY = SyncConfig(features=6, speech_width=8, lip_width=8, embedding=4, dilations=(1, 2), dropout=0.0)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def expert():
    torch.manual_seed(0)
    return SyncExpert(TINY).eval()


def test_one_unit_embedding_for_each_window(expert):
    speech, lips = expert(random(2, 20, 6), random(2, 20, 2))
    assert TINY.window == 7
    assert speech.shape == lips.shape == (2, 14, 4)
    torch.testing.assert_close(speech.norm(dim=-1), torch.ones(2, 14))


def test_an_embedding_depends_on_its_window_alone(expert):
    curves = random(1, 20, 2)
    changed = curves.clone()
    changed[0, 9, 0] += 0.3
    changed[0, 19, 0] -= 0.3  # the mean over the clip stays
    difference = (expert.lips(changed) - expert.lips(curves)).abs().amax(-1)[0]
    assert (difference > 1e-6).nonzero()[:, 0].tolist() == [*range(3, 10), 13]


def test_microphone_and_person_are_taken_off(expert):
    features, curves = random(1, 20, 6), random(1, 20, 2)
    torch.testing.assert_close(expert.speech(features + 3), expert.speech(features), atol=1e-5, rtol=0)
    torch.testing.assert_close(expert.lips(curves + 0.1), expert.lips(curves), atol=1e-4, rtol=0)


def test_an_expert_survives_a_file(tmp_path, expert):
    path = tmp_path / "sync.safetensors"
    save_module(path, expert, TINY)
    again = load_module(SyncExpert, SyncConfig, path)
    assert again.config == TINY
    torch.testing.assert_close(again.speech(random(1, 9, 6)), expert.speech(random(1, 9, 6)))


def test_sync_loss_leads_back_to_the_curves(expert):
    curves = random(1, 20, 2).requires_grad_()
    loss = sync_loss(expert, random(1, 20, 6, seed=1), curves)
    loss.backward()
    assert 0 <= loss.item() <= 2 and curves.grad.abs().sum() > 0


class Echo(torch.nn.Module):
    """An expert that is always right: sound and lips are the same numbers."""

    config = SyncConfig(features=2, dilations=(1,))

    def forward(self, features, curves):
        return tuple(torch.nn.functional.normalize(x[:, 1:-1], dim=-1) for x in (features, curves))


@pytest.mark.parametrize("late", [-3, 0, 4])
def test_the_offset_is_positive_when_the_lips_come_late(late):
    signal = random(80, 2)
    distances = offset_distances(Echo(), signal[10:60], signal[10 - late : 60 - late], 6)
    assert distances.shape == (13,)
    assert int(distances.argmin()) - 6 == late
    assert float(distances.min()) == pytest.approx(0, abs=1e-3)


def test_distances_are_means_over_windows():
    features, curves = random(20, 2), random(20, 2, seed=1)
    (speech,), (lips,) = Echo()(features[None], curves[None])
    expected = [(lips[max(lag, 0) : 18 + min(lag, 0)] - speech[max(-lag, 0) : 18 + min(-lag, 0)]) for lag in (-2, 0, 2)]
    found = offset_distances(Echo(), features, curves, 2)[[0, 2, 4]]
    torch.testing.assert_close(found, torch.stack([d.norm(dim=-1).mean() for d in expected]), atol=1e-5, rtol=0)


def test_too_short_a_clip_is_refused():
    with pytest.raises(MediaError, match=r"32 frames .* too few to measure sync: use a clip of 33 or more, 1.3 s"):
        offset_distances(Echo(), random(32, 2), random(32, 2), 15)


def test_lse_is_median_less_least(monkeypatch):
    from vividtalk_core.eval import sync

    distances = torch.tensor([1.0, 1.2, 0.4, 1.1, 1.3])
    monkeypatch.setattr(sync, "offset_distances", lambda *args: distances)
    score = sync_score(Echo(), random(1, 16000), 16000, random(25, 2), 25.0, reach=2)
    assert score == SyncScore(pytest.approx(0.7), pytest.approx(0.4), 0)


def test_curves_at_another_rate_keep_their_time():
    seconds = (torch.arange(60) + 0.5) / 30
    resampled = at_rate(torch.stack((seconds, -seconds), -1), 30.0, 25.0)
    expected = (torch.arange(50) + 0.5) / 25
    torch.testing.assert_close(resampled[1:-1, 0], expected[1:-1], atol=1e-5, rtol=0)
    assert len(resampled) == 50
    curves = random(5, 2)
    assert at_rate(curves, 25.0, 25.0) is curves


def test_the_embedded_expert_is_small():
    expert = load_sync_expert()
    assert expert.config.window == 15
    assert sum(p.numel() for p in expert.parameters()) < 300_000


def speech_shard(name, split, identity, seed, seconds=4):
    """A voice of noise bursts and a mouth that opens with them."""
    frames = 25 * seconds
    loud = (
        torch.nn.functional.interpolate(random(1, 1, frames // 5, seed=seed), frames, mode="linear")[0, 0]
    ).sigmoid()
    waveform = random(frames * 640, seed=seed + 99) * loud.repeat_interleave(640) ** 3 * 8000
    offsets = torch.zeros(frames, 2, 3)
    return Shard(
        name, identity, split, "none", 0, False, False, ARKIT_NAMES, torch.zeros(frames, 52), offsets,
        torch.zeros(frames, 3), torch.zeros(frames, 3), torch.zeros(52), torch.zeros(2, 3), 0.1 * loud,
        0.5 - 0.05 * loud, torch.zeros(frames, 3), torch.ones(frames, dtype=torch.uint8), torch.zeros(3),
        waveform.to(torch.int16),
    )  # fmt: skip


@pytest.fixture(scope="module")
def shards():
    train = [speech_shard(f"t{i}", "train", f"p{i % 3}", i) for i in range(6)]
    return train, [speech_shard(f"v{i}", "validation", f"q{i}", 50 + i) for i in range(2)]


SMALL = SyncSettings(speech_width=16, lip_width=16, embedding=8, window=40)


def test_contrast_is_least_for_the_right_pairs():
    embeddings = torch.nn.functional.normalize(random(2, 6, 16), dim=-1)
    weight = torch.ones(2, 6)
    right = contrastive_loss(embeddings, embeddings, weight, 0.1)
    assert right < contrastive_loss(embeddings, embeddings.roll(1, 0), weight, 0.1)
    assert right < contrastive_loss(embeddings, embeddings.roll(3, 1), weight, 0.1)
    assert float(contrastive_loss(embeddings, embeddings, torch.zeros(2, 6), 0.1)) == 0


def test_batches_are_the_generators(shards):
    learner = SyncTask(*shards, SMALL)
    first, again = (learner.batch(torch.Generator().manual_seed(7), 4) for _ in range(2))
    assert first["features"].shape == (4, 40, 320) and first["curves"].shape == (4, 40, 2)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_training_learns_to_distinguish_moments(tmp_path, shards):
    for shard in [*shards[0], *shards[1]]:
        write_shard(tmp_path / "data/clips" / f"{shard.name}.safetensors", shard)
    learner = task(tmp_path / "data", SMALL)
    settings = TrainSettings(steps=30, batch=6, learning_rate=3e-3, warmup=5, evaluate_every=15, cpu=True)
    before = learner.evaluate(learner.module.eval())
    best = train(learner, settings, tmp_path / "out")
    assert {"shifted", "other", "offset", "lse_c", "lse_d"} < best.keys()
    assert best["shifted"] > max(0.6, before["shifted"])
    expert = load_module(SyncExpert, SyncConfig, tmp_path / "out/best.safetensors")
    assert expert.config == learner.config


def test_silent_clips_are_not_used(shards):
    from dataclasses import replace

    silent = replace(shards[0][0], waveform=torch.zeros(0, dtype=torch.int16))
    assert with_sound([silent, shards[0][1]]) == [shards[0][1]]
    with pytest.raises(ValueError, match="0 clips with sound to train on and 2 to validate with"):
        SyncTask([silent], shards[1], SMALL)
