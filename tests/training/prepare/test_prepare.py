"""A folder to shards: what is kept, what is left out and why, and that an interrupted run goes on."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vividtalk_core.structures import ARKIT_NAMES
from vividtalk_core.training.dataset.motion_shard import load_shards
from vividtalk_core.training.prepare import prepare as module
from vividtalk_core.training.prepare.calibration import CalibrationSettings
from vividtalk_core.training.prepare.prepare import PrepareSettings, prepare
from vividtalk_core.training.prepare.tracks import read_track
from vividtalk_core.video.reader import read_image
from vividtalk_core.video.writer import VideoWriter

JAW, BROW = ARKIT_NAMES.index("jawOpen"), ARKIT_NAMES.index("browInnerUp")
TRACKED = PrepareSettings(track=False)


def syllables(seconds, rate):
    """[N] 0..1 at uneven times: sines of ratios that never repeat within a clip."""
    time = (torch.arange(round(seconds * rate)) + 0.5) / rate
    waves = sum(torch.sin(2 * math.pi * f * time + f * f) for f in (0.9, 1.37, 1.93, 2.61, 3.17))
    return (waves / 3).clamp(0, 1)


def make_video(path, seconds, late=0.0, sound=True, frame=None):
    """A grey clip of 32 × 32, or of `frame`, whose sound follows `syllables` `late` seconds later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = torch.full((3, 32, 32), 0.5) if frame is None else frame
    time = torch.arange(round(seconds * 16000)) / 16000
    voice = sum(torch.sin(2 * math.pi * 140 * k * time) / k for k in range(1, 28))
    envelope = syllables(seconds + 2, 16000)[16000 - round(late * 16000) :][: len(time)]
    audio = (0.2 * (envelope * voice)[None], 16000) if sound else None
    with VideoWriter(path, 25.0, *frame.shape[1:], audio=audio) as writer:
        writer.write(frame.expand(round(seconds * 25), -1, -1, -1))


def fake_track(out, name, seconds, lips, rest=0.0, frames=None, **changes):
    """The track of a face that speaks `syllables`; its jaw is 0.1 and its brows 0.2 at rest."""
    frames = frames or round(seconds * 25)
    opening = syllables(seconds + 2, 25)[25 : frames + 25] * 0.15 + rest
    landmarks = 100 * torch.rand(478, 2, generator=torch.Generator().manual_seed(0)).repeat(frames, 1, 1)
    landmarks[:, 33], landmarks[:, 263] = torch.tensor((60.0, 80.0)), torch.tensor((140.0, 80.0))
    for upper, lower in ((81, 178), (13, 14), (311, 402)):
        landmarks[:, lower] = landmarks[:, upper]
        landmarks[:, lower, 1] += 80 * opening
    coefficients = torch.zeros(frames, 52)
    coefficients[:, JAW], coefficients[:, BROW] = 0.1 + 2 * opening, 0.2
    arrays = {
        "coefficients": coefficients.numpy(),
        "lip_offsets": np.full((frames, lips, 3), 0.01, np.float16),
        "rotation": np.zeros((frames, 3), np.float32),
        "translation": np.zeros((frames, 3), np.float32),
        "landmarks": landmarks.numpy(),
        "identity": np.zeros(80, np.float32),
        "interpolated": np.zeros(0),
        "fps": 25.0,
    } | changes
    (out / "tracks").mkdir(parents=True, exist_ok=True)
    np.savez(out / "tracks" / f"{name}.npz", **arrays)


def reasons(report):
    return {clip.file: clip.reason for clip in report.clips}


@pytest.fixture
def lips(head_model):
    return len(head_model.lip_vertices)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_videos_are_tracked_and_not_tracked_again(folder, out, monkeypatch):
    image = read_image(Path(__file__).parents[2] / "data" / "astronaut.png")
    portrait = torch.nn.functional.interpolate(image, (128, 128), mode="area")[0]
    make_video(folder / "eileen/smile.mp4", 0.4, frame=portrait)
    make_video(folder / "nobody/wall.mp4", 0.2)
    # she smiles with her teeth apart: measured as a mouth at rest all the same
    settings = PrepareSettings(least_s=0.4, calibration=CalibrationSettings(widest_rest=9.0))
    calls = []
    report = prepare(folder, out, 1, lambda *call: calls.append(call), settings)
    assert calls[0][0] >= 1
    assert calls[-1] == (4, 4, None)
    found = reasons(report)
    assert found["eileen/smile.mp4"] == ""
    assert found["nobody/wall.mp4"].startswith("no track: no face in any of the 5 frames")
    (shard,) = load_shards(out, report.kept[0].split)
    track = read_track(out / "tracks/eileen__smile.mp4.npz")
    assert shard.name == "eileen__smile.mp4"
    assert shard.identity == "eileen"
    assert torch.equal(shard.rotation, track.rotation)
    assert shard.coefficients.mean() < 0.05
    assert len(shard.waveform) == 10 * 640
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["summary"]["kept"] == 1

    def refuse(jobs, workers):
        assert not list(jobs)
        return (_ for _ in ())

    monkeypatch.setattr(module, "track_clips", refuse)
    assert reasons(prepare(folder, out, 1, None, settings)) == found


def test_shard_is_counted_from_the_speakers_rest(folder, out, lips):
    make_video(folder / "a.mp4", 6)
    fake_track(out, "a.mp4", 6, lips)
    (folder / "manifest.csv").write_text("file,identity,split,licence\na.mp4,Ada,validation,CC0\n", encoding="utf-8")
    report = prepare(folder, out, settings=TRACKED)
    (row,) = report.kept
    assert (row.rest, row.has_sound, row.shifted, row.good_frames) == ("clip", True, 0, 150)
    (shard,) = load_shards(out, "validation")
    assert (shard.licence, shard.identity, shard.known) == ("CC0", "Ada", ARKIT_NAMES)
    assert shard.neutral_coefficients[[JAW, BROW]].tolist() == pytest.approx([0.1, 0.2], abs=0.01)
    assert shard.neutral_lip_offsets.mean() == pytest.approx(0.01, abs=1e-4)
    assert shard.coefficients[:, BROW].abs().max() == 0
    assert torch.allclose(shard.coefficients[:, JAW], 2 * shard.aperture, atol=0.02)
    assert shard.lip_offsets.float().abs().max() < 0.01
    assert shard.valid.all()


@pytest.mark.parametrize("late_frames", [6, -4])
def test_sound_is_moved_onto_the_picture(folder, out, lips, late_frames):
    make_video(folder / "a.mp4", 10, late=late_frames / 25)
    fake_track(out, "a.mp4", 10, lips)
    (row,) = prepare(folder, out, settings=TRACKED).clips
    assert abs(row.shifted - late_frames) <= 1
    assert row.lag_z > 4
    (shard,) = load_shards(out, row.split)
    assert shard.lag_frames == row.shifted
    level = shard.waveform.float().view(-1, 640).square().mean(1).sqrt()
    middle = slice(10, -10)
    assert torch.corrcoef(torch.stack((level[middle], shard.aperture[middle])))[0, 1] > 0.9


def test_clips_that_are_left_out(folder, out, lips):
    names = {"short": 0.6, "turned": 3, "open": 3, "late": 10, "untracked": 1, "damaged": 1}
    for name, seconds in names.items():
        make_video(folder / f"{name}.mp4", seconds, late=10 / 25 if name == "late" else 0)
    turned = np.zeros((75, 3), np.float32)
    turned[:60, 1] = 1.0
    fake_track(out, "short.mp4", 0.6, lips)
    fake_track(out, "turned.mp4", 3, lips, rotation=turned)
    fake_track(out, "open.mp4", 3, lips, rest=0.1)
    fake_track(out, "late.mp4", 10, lips)
    (out / "tracks/damaged.mp4.npz").write_bytes(b"?")
    settings = replace(TRACKED, lag=replace(TRACKED.lag, furthest_shift=8))
    found = reasons(prepare(folder, out, settings=settings))
    assert found["short.mp4"] == "too short: 0.6 s"
    assert found["turned.mp4"] == "too few good frames: 15 of 75"
    assert found["open.mp4"] == "lips never close: in no clip of this person is there a frame to calibrate on"
    assert found["late.mp4"].startswith("sound out of sync: it is +1")
    assert found["untracked.mp4"] == "no track: it has not been tracked yet"
    assert "is not a track of `train prepare`" in found["damaged.mp4"]
    assert not (out / "clips").exists()


def test_person_who_closes_the_lips_elsewhere(folder, out, lips):
    for name, rest in (("calm", 0.0), ("shouts", 0.1)):
        make_video(folder / f"ada/{name}.mp4", 3, sound=False)
        fake_track(out, f"ada__{name}.mp4", 3, lips, rest=rest)
    report = prepare(folder, out, settings=TRACKED)
    assert {clip.file: clip.rest for clip in report.clips} == {"ada/calm.mp4": "clip", "ada/shouts.mp4": "identity"}
    calm, shouts = load_shards(out, report.clips[0].split)
    assert torch.equal(calm.neutral_coefficients, shouts.neutral_coefficients)
    assert shouts.coefficients[:, JAW].min() == pytest.approx(0.2, abs=0.01)
    assert shouts.waveform.shape == (0,)


def test_bad_frames_are_marked_and_sound_may_be_ignored(folder, out, lips):
    make_video(folder / "a.mp4", 3)
    fake_track(out, "a.mp4", 3, lips, interpolated=np.array([7, 8]))
    (folder / "manifest.csv").write_text("file,identity,split,sound\na.mp4,Ada,train,no\n", encoding="utf-8")
    report = prepare(folder, out, settings=TRACKED)
    assert report.bad_frames == {"no face found": 2}
    (shard,) = load_shards(out, "train")
    assert shard.valid.nonzero()[:, 0].tolist() == [i for i in range(75) if i not in (7, 8)]
    assert shard.waveform.shape == (0,)


def test_shard_of_a_clip_that_is_left_out_later_is_removed(folder, out, lips):
    make_video(folder / "a.mp4", 3, sound=False)
    fake_track(out, "a.mp4", 3, lips)
    assert len(prepare(folder, out, settings=TRACKED).kept) == 1
    assert prepare(folder, out, settings=replace(TRACKED, least_s=5.0)).dropped == {"too short": 1}
    assert not list((out / "clips").iterdir())


def test_clip_that_is_missing(folder, out):
    folder.mkdir()
    (folder / "manifest.csv").write_text("file,identity\na.mp4,Ada\n", encoding="utf-8")
    assert reasons(prepare(folder, out))["a.mp4"].startswith("no such file: ")


def test_interruption_leaves_whole_clips(folder, out, lips):
    for name in "abc":
        make_video(folder / f"{name}.mp4", 3, sound=False)
        fake_track(out, f"{name}.mp4", 3, lips)

    def cancel(done, total, preview):
        if done == 5:  # 3 that need no tracking, 2 that are written
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(folder, out, progress=cancel, settings=TRACKED)
    assert len(list((out / "clips").iterdir())) == 2
    assert not (out / "report.json").exists()
    assert len(prepare(folder, out, settings=TRACKED).kept) == 3
