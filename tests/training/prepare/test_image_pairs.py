"""Pairs of one clip: which frames, what is rendered of them, and that an interrupted run goes on."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vividtalk_core import pipeline
from vividtalk_core.errors import DatasetError, NoFaceError
from vividtalk_core.eval.image_metrics import psnr
from vividtalk_core.face.fit import fit_face
from vividtalk_core.face.models import load_face_models
from vividtalk_core.geometry import warp
from vividtalk_core.head.drive import drive_mesh
from vividtalk_core.mesh_to_video.dense_motion import estimate_motion
from vividtalk_core.mesh_to_video.generator import move_portrait
from vividtalk_core.mesh_to_video.ncc import render_ncc
from vividtalk_core.mesh_to_video.source_view import view_source
from vividtalk_core.pipeline import drive, load_models
from vividtalk_core.pixels import to_float
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion
from vividtalk_core.training.dataset import image_shard
from vividtalk_core.training.dataset.image_shard import PairShard, load_pairs, to_batch
from vividtalk_core.training.prepare import image_pairs as module
from vividtalk_core.training.prepare.image_pairs import (
    PairSettings,
    choose_runs,
    render_pairs,
    render_source,
    scene_layer,
)
from vividtalk_core.training.prepare.tracks import ClipTrack
from vividtalk_core.video.reader import read_image
from vividtalk_core.video.writer import VideoWriter

FRAMES, RUNS = 12, [5, 10]


def still_track(frames, points=None, **changes):
    """The track of a face that stands still; `points` [478, 2] are its landmarks."""
    if points is None:
        points = 100 * torch.rand(478, 2, generator=torch.Generator().manual_seed(0))
        points[33], points[263] = torch.tensor((60.0, 80.0)), torch.tensor((140.0, 80.0))
    arrays = {
        "coefficients": torch.zeros(frames, 52),
        "lip_offsets": torch.zeros(frames, 4, 3).half(),
        "rotation": torch.zeros(frames, 3),
        "translation": torch.zeros(frames, 3),
        "landmarks": points.repeat(frames, 1, 1),
        "identity": torch.zeros(80),
        "interpolated": torch.zeros(0, dtype=torch.int64),
    }
    return ClipTrack(**(arrays | changes), fps=25.0)


# ---- which frames


def test_runs_are_far_from_their_portrait_and_spread_over_the_clip():
    settings = PairSettings(sources=3, runs=4, nearest_s=1.0)
    chosen = choose_runs(still_track(200), settings, "a")
    assert len(chosen) == 3
    assert [source * 3 // 199 for source in chosen] == [0, 1, 2]
    for source, runs in chosen.items():
        assert len(runs) == 4 and runs == sorted(runs)
        assert all(abs(frame - source) >= 25 for frame in runs)
        assert runs[-1] < 199, "the second frame of a run is there too"


def test_the_same_name_and_seed_choose_the_same_frames():
    track, settings = still_track(100), PairSettings()
    assert choose_runs(track, settings, "a") == choose_runs(track, settings, "a")
    assert choose_runs(track, settings, "a") != choose_runs(track, settings, "b")
    assert choose_runs(track, settings, "a") != choose_runs(track, replace(settings, seed=1), "a")


def test_bad_frames_are_neither_portrait_nor_target():
    gone = torch.arange(40, 80)
    chosen = choose_runs(still_track(120, interpolated=gone), PairSettings(runs=30), "a")
    used = set(chosen) | {frame + step for runs in chosen.values() for frame in runs for step in (0, 1)}
    assert not used & set(gone.tolist())


def test_heads_that_are_turned_far_apart_are_no_pair():
    rotation = torch.zeros(100, 3)
    rotation[:, 1] = torch.linspace(-0.5, 0.5, 100)  # rad
    chosen = choose_runs(still_track(100, rotation=rotation), PairSettings(widest_deg=20, runs=20), "a")
    for source, runs in chosen.items():
        assert max((rotation[frame] - rotation[source]).abs().max() for frame in runs) <= np.radians(20) + 1e-6


@pytest.mark.parametrize(("frames", "missing", "good"), [(10, 0, 9), (100, 100, 0)])
def test_a_clip_without_pairs_says_how_many_frames_were_good(frames, missing, good):
    track = still_track(frames, interpolated=torch.arange(missing))
    with pytest.raises(ValueError, match=f"{good} good frames, none far enough from another"):
        choose_runs(track, PairSettings(), "a")


# ---- what is rendered


@pytest.fixture(scope="module")
def clip():
    """A face that turns and opens its mouth, made by the renderer itself: frames [3, H, W] uint8 and its track."""
    models = load_models()
    (path,) = (Path(pipeline.__file__).parent / "assets/demo").glob("portrait.*")
    image = read_image(path)
    portrait = F.interpolate(image, scale_factor=256 / max(image.shape[2:]), mode="bilinear", antialias=True).clamp(
        0, 1
    )
    share = torch.linspace(0, 1, FRAMES)
    lips = torch.zeros(FRAMES, len(models.face.head.lip_vertices), 3)
    coefficients = torch.zeros(FRAMES, 52)
    coefficients[:, ARKIT_NAMES.index("jawOpen")] = 0.5 * share
    rotation = share[:, None] * torch.tensor([0.05, 0.3, 0.1])
    motion = Expression(coefficients, lips, 25.0, torch.zeros(52), lips[0])
    plain = models.replaced(models.mesh_to_video.replaced(None, None))
    generated = torch.cat(
        list(drive(portrait, motion, HeadMotion(rotation, torch.zeros(FRAMES, 3), 25.0), models=plain))
    )
    face = fit_face(models.face, portrait)
    points = face.landmarks[:, :2] * (face.crop.size / 256) + torch.tensor((face.crop.left, face.crop.top))
    track = still_track(FRAMES, points, coefficients=coefficients, lip_offsets=lips.half(), rotation=rotation)
    return list((generated * 255).round().byte()), track


@pytest.fixture(scope="module")
def shard(clip):
    tensors = render_source(load_face_models(), *clip, 0, RUNS)
    return PairShard(name="a.00000", identity="a", split="train", **tensors)


@pytest.fixture(scope="module")
def batch(shard):
    return to_batch([(shard, run) for run in range(len(RUNS))])


def test_a_source_is_rendered_in_compact_types(shard, clip):
    assert shard.runs == len(RUNS)
    types = {name: getattr(shard, name).dtype for name in ("target", "flow", "step", "points", "paint", "step_mask")}
    assert types == {
        "target": torch.uint8, "flow": torch.float16, "step": torch.float16, "points": torch.float32,
        "paint": torch.uint8, "step_mask": torch.uint8,
    }  # fmt: skip
    torch.testing.assert_close(shard.points[0, 0], shard.source_points, atol=2.0, rtol=0)  # px; the track's stand still


def test_the_portrait_in_closed_form_is_nearly_the_real_frame(batch):
    """The clip was made by the same renderer: flow and paint of the shard must bring its frames back."""
    for run in range(len(RUNS)):
        for frame in range(2):
            paint, scene, real = (batch[name][run, frame] for name in ("paint", "scene", "target"))
            generated = warp(batch["source"][run][None], batch["flow"][run, frame][None])[0]
            generated = torch.lerp(generated, scene[:3], scene[3:]) * (1 - paint[3:]) + paint[:3]
            face = batch["mask"][run, frame, 0] > 0.5
            closed, still = (psnr(picture[None], real[None], face) for picture in (generated, batch["source"][run]))
            assert closed > still + 4, "dB"


def test_step_leads_from_the_second_frame_back_to_the_first(batch):
    known = batch["step_mask"] == 1
    assert 0.02 < known.float().mean() < 0.5
    assert (batch["step"].abs() * 128).amax() < 8, "px between neighbouring frames"
    first, second = batch["target"].unbind(1)
    error = [((picture - second).abs() * known).sum() for picture in (first, warp(first, batch["step"]))]
    assert error[1] < 0.6 * error[0]
    # and flow says the same: where a pixel of the second frame comes from is where its first place came from
    flow = batch["flow"].movedim(-1, 2)
    carried = warp(flow[:, 0], batch["step"]) + batch["step"].movedim(-1, 1)
    differs = (carried - flow[:, 1]).norm(dim=1, keepdim=True)[known] * 128
    assert differs.median() < 0.3, "px"


def test_what_a_portrait_stands_for_is_taken_off_the_motion(clip):
    """From another frame of the clip: its own pose and curves are zero, so it drives itself without motion."""
    frames, track = clip
    tensors = render_source(load_face_models(), frames, track, 6, [6])
    flow = tensors["flow"][0].float() * 128
    assert (flow[0] == 0).all() and flow[1].norm(dim=-1).amax() > 0.5
    assert (tensors["paint"][0, 0] == 0).all() and (tensors["scene"][0, 0, 3] == 0).all()


def test_the_scene_is_what_the_renderer_lays_over_the_warped_portrait(clip):
    frames, _ = clip
    face = fit_face(load_face_models(), to_float(frames[0][None]))
    turned = HeadMotion(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.4, 0.0]]), torch.zeros(2, 3), 25.0)
    lips = torch.zeros(2, len(face.model.lip_vertices), 3)
    still = Expression(torch.zeros(2, 52), lips, 25.0, torch.zeros(52), lips[0])
    motion = estimate_motion(render_ncc(view_source(face), drive_mesh(face, still, turned)))
    scene = scene_layer(face, motion)
    assert not scene[0, 3].any() and torch.equal(scene[0, :3], face.image[0])
    assert scene[1, 3].mean() > 0.01, "a head that turns uncovers background"
    shown = torch.lerp(warp(face.image, motion.flow), scene[:, :3], scene[:, 3:])
    torch.testing.assert_close(shown, move_portrait(face, motion), atol=3 / 255, rtol=0)


def test_a_frame_without_a_face_is_no_portrait(clip):
    frames, track = clip
    with pytest.raises(ValueError, match="face"):
        render_source(load_face_models(), [torch.full_like(frames[0], 127)] * FRAMES, track, 0, RUNS)


# ---- a whole folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "in"


@pytest.fixture
def prepared(tmp_path):
    (tmp_path / "out/tracks").mkdir(parents=True)
    return tmp_path / "out"


def add(folder, prepared, name, frames=30, tracked=30):
    """A grey clip and the track of a face that stands still in it."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(folder / name, 25.0, 32, 32) as writer:
        writer.write(torch.full((frames, 3, 32, 32), 0.5))
    track = still_track(tracked)
    arrays = {key: getattr(track, key) for key in module.ClipTrack.__dataclass_fields__}
    np.savez(prepared / "tracks" / f"{name.replace('/', '__')}.npz", **{k: np.asarray(v) for k, v in arrays.items()})


@pytest.fixture
def rendered(monkeypatch, shard):
    """`render_source` that takes no time; the frames that it was asked for."""
    asked = []

    def render(models, frames, track, source, runs):
        asked.append((len(frames), source, tuple(runs)))
        return {name: getattr(shard, name) for name in PairShard.__dataclass_fields__ if name not in SAID}

    monkeypatch.setattr(module, "render_source", render)
    monkeypatch.setattr(module, "_models", lambda: None)
    return asked


SAID = ("name", "identity", "split")
FEW = PairSettings(sources=2, runs=3)


def test_every_tracked_clip_gives_its_portraits(folder, prepared, rendered):
    add(folder, prepared, "ada/one.mp4")
    add(folder, prepared, "ben/two.mp4")
    (folder / "manifest.csv").write_text(
        "file,identity,split\nada/one.mp4,Ada,train\nben/two.mp4,Ben,validation\n", encoding="utf-8"
    )
    calls = []
    assert render_pairs(folder, prepared, progress=lambda *call: calls.append(call), settings=FEW) == 4
    assert calls == [(1, 2, None), (2, 2, None)]
    assert all(frames == 30 for frames, _, _ in rendered)
    shards = load_pairs(prepared, "train")
    assert [shard.name for shard in shards] == [f"ada__one.mp4.{source:05d}" for _, source, _ in rendered[:2]]
    assert {shard.identity for shard in shards} == {"Ada"}
    assert {shard.identity for shard in load_pairs(prepared, "validation")} == {"Ben"}


def test_an_interrupted_run_goes_on_with_what_is_missing(folder, prepared, rendered, monkeypatch):
    add(folder, prepared, "ada/one.mp4")
    render_pairs(folder, prepared, settings=FEW)
    first, second = sorted((prepared / "pairs").iterdir())
    kept, calls = first.stat().st_mtime_ns, list(rendered)
    second.unlink()
    assert render_pairs(folder, prepared, settings=FEW) == 2
    assert rendered == [*calls, calls[1]]
    assert first.stat().st_mtime_ns == kept

    def refuse(*_, **__):
        raise AssertionError("a clip with all its pairs is not read again")

    monkeypatch.setattr(module, "read_video", refuse)
    assert render_pairs(folder, prepared, settings=FEW) == 2


def test_pairs_of_an_older_format_and_damaged_ones_are_rendered_again(folder, prepared, rendered, monkeypatch):
    add(folder, prepared, "ada/one.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(image_shard, "FORMAT", "pairs-1")
        render_pairs(folder, prepared, settings=FEW)
    paths = sorted((prepared / "pairs").iterdir())
    paths[1].write_bytes(paths[1].read_bytes()[:99])
    assert not any(map(image_shard.is_current, paths))
    render_pairs(folder, prepared, settings=FEW)
    assert len(rendered) == 4 and all(map(image_shard.is_current, paths))


def test_what_cannot_be_used_is_reported_and_the_rest_goes_on(folder, prepared, rendered, monkeypatch, caplog):
    add(folder, prepared, "a/good.mp4")
    add(folder, prepared, "b/longer.mp4", frames=31)
    add(folder, prepared, "c/short.mp4", frames=5, tracked=5)
    add(folder, prepared, "d/damaged.mp4")
    (prepared / "tracks/d__damaged.mp4.npz").write_bytes(b"?")
    render, refused = module.render_source, []

    def refuse_one(*words):
        if not refused:
            refused.append(words[3])
            raise NoFaceError("no face was found")
        return render(*words)

    monkeypatch.setattr(module, "render_source", refuse_one)
    with caplog.at_level(logging.WARNING, "vividtalk"):
        assert render_pairs(folder, prepared, settings=FEW) == 1
    reasons = dict(message.removeprefix("Pairs of ").split(" are missing: ") for message in caplog.messages)
    assert reasons["a/good.mp4"] == f"frame {refused[0]} cannot be a portrait: no face was found"
    assert reasons["b/longer.mp4"] == "the video has 31 frames and its track 30: track it again"
    assert reasons["c/short.mp4"] == "4 good frames, none far enough from another"
    assert "is not a track of `train prepare`" in reasons["d/damaged.mp4"]


def test_processes_report_their_reasons_too(folder, prepared, caplog):
    for name in ("a/one.mp4", "b/two.mp4"):
        add(folder, prepared, name, frames=5, tracked=5)
    with caplog.at_level(logging.WARNING, "vividtalk"):
        assert render_pairs(folder, prepared, workers=2) == 0
    assert sorted(message.split(" ")[2] for message in caplog.messages) == ["a/one.mp4", "b/two.mp4"]


def test_a_folder_without_tracks_is_refused(folder, prepared):
    add(folder, prepared, "a/one.mp4")
    (prepared / "tracks/a__one.mp4.npz").unlink()
    with pytest.raises(DatasetError, match=r"holds no tracks of the videos in .*: run `train prepare` first"):
        render_pairs(folder, prepared)
