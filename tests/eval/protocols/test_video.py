"""The evaluation as a whole, the table of a folder, and the command."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from vividtalk_core.audio.phones import Phone, write_phones
from vividtalk_core.audio.waveform import read_audio
from vividtalk_core.cli import evaluate as command
from vividtalk_core.cli.command import build_parser, main
from vividtalk_core.critics.sync_expert import SyncConfig, SyncExpert
from vividtalk_core.errors import MismatchError
from vividtalk_core.eval.evaluators import Evaluators
from vividtalk_core.eval.footage import Footage, read_footage
from vividtalk_core.eval.image_score import ImageScore, score_images
from vividtalk_core.eval.lip_score import LipScore, score_lips, spoken_frames
from vividtalk_core.eval.protocols import folder as table
from vividtalk_core.eval.protocols import video as evaluation
from vividtalk_core.eval.protocols.folder import evaluate_folder, find_rows, flat, medians, metrics, to_markdown
from vividtalk_core.eval.protocols.video import Evaluation, HeadScore, TrackedVideo, compare, evaluate, lips_of
from vividtalk_core.eval.sync import SyncScore
from vividtalk_core.structures import HeadPose
from vividtalk_core.video.writer import VideoWriter

FRAMES, SIZE, FPS = 60, 64, 25.0


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def landmarks(seed=0, frames=FRAMES):
    """[T, 478, 2] of a face in the middle that moves its mouth."""
    points = 24 + 16 * torch.rand(478, 2, generator=torch.Generator().manual_seed(9)).repeat(frames, 1, 1)
    points[:, 33], points[:, 263] = torch.tensor([26.0, 28.0]), torch.tensor([38.0, 28.0])
    for upper, lower in ((81, 178), (13, 14), (311, 402)):
        points[:, upper] = torch.tensor([32.0, 36.0])
        points[:, lower] = torch.tensor([32.0, 36.0]) + torch.stack(
            (torch.zeros(frames), noise(frames, seed=seed).cumsum(0).sub_(-3).abs() * 0.3), -1
        )
    points[:, 61], points[:, 291] = torch.tensor([29.0, 37.0]), torch.tensor([35.0, 37.0])
    points[:, 291, 0] += 0.2 * noise(frames, seed=seed + 1)
    return points


def sound(seed=0, seconds=FRAMES / FPS):
    return noise(1, round(16000 * seconds), seed=seed) * 0.1, 16000


def footage(seed=0, frames=FRAMES, audio=True):
    pictures = torch.rand(frames, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return Footage(lambda: iter(pictures), FPS, sound(seed) if audio else None)


def tracked(seed=0, frames=FRAMES, audio=True):
    pose = HeadPose(0.1 * noise(frames, 3, seed=seed), torch.zeros(frames, 3), FPS)
    track = SimpleNamespace(landmarks_2d=landmarks(seed, frames), pose=pose)
    return TrackedVideo(footage(seed, frames, audio), track)


@pytest.fixture(scope="module")
def evaluators():
    torch.manual_seed(0)
    expert = SyncExpert(SyncConfig(speech_width=8, lip_width=8, embedding=4)).eval()
    embedder = SimpleNamespace(name="colours", embed=lambda image, points: image.mean((1, 2)))
    return Evaluators(None, expert, embedder)


def test_a_video_equals_itself(evaluators):
    result = compare(evaluators, tracked(), tracked())
    assert result.frames == FRAMES and result.fps == FPS and result.embedder == "colours"
    assert result.lips.aperture_correlation == pytest.approx(1) and result.lips.offset_frames == 0
    assert result.lips.amplitude_ratio == pytest.approx(1) and result.lips.velocity_ratio == pytest.approx(1)
    assert result.mouth_distance == 0
    assert result.images.face_psnr == pytest.approx(100) and result.images.face_ssim == pytest.approx(1)


def test_metrics_are_those_of_their_functions(evaluators):
    generated, real, wrong = tracked(0), tracked(5), tracked(6)
    closures = [(0.5, 0.6), (1.0, 1.1)]
    result = compare(evaluators, generated, real, wrong, closures)
    speech = spoken_frames(*generated.footage.audio, FRAMES, FPS)
    curves = [lips_of(video.points) for video in (generated, real, wrong)]
    assert result.lips == score_lips(curves[0], curves[1], FPS, speech, closures, curves[2])
    assert result.lips.audio_gain is not None and result.lips.closure_recall in (0, 0.5, 1)
    assert isinstance(result.sync, SyncScore)
    assert result.head.diversity == pytest.approx(math.degrees(0.1), rel=0.3)


def test_without_a_reference_what_compares_is_none(evaluators):
    result = compare(evaluators, tracked(audio=False))
    assert result.sync is result.mouth_distance is result.embedder is None
    assert result.lips == LipScore() and result.head.beat_alignment is None
    assert result.images.face_psnr is result.images.csim is None
    assert result.images.flicker > 0


def test_the_longer_video_is_cut(evaluators):
    assert compare(evaluators, tracked(), tracked(1, FRAMES - 10)).frames == FRAMES - 10


def test_clips_too_short_for_the_expert_have_no_sync(evaluators):
    assert compare(evaluators, tracked(frames=40)).sync is None


def test_frame_rates_must_agree(evaluators):
    slow = tracked(1)
    slow = replace(slow, footage=replace(slow.footage, fps=30.0))
    with pytest.raises(MismatchError, match="the videos run at 25 and 30 frames per second"):
        compare(evaluators, tracked(), slow)
    with pytest.raises(MismatchError, match="the videos run at 25 and 30 frames per second"):
        evaluate(evaluators, footage(), slow.footage)


def test_evaluate_tracks_every_video(evaluators, monkeypatch):
    seen = []

    def track(face, frames, fps, progress):
        seen.append((len(list(frames)), fps))
        return tracked(len(seen)).track

    monkeypatch.setattr(evaluation, "track_video", track)
    result = evaluate(evaluators, footage(), footage(1), wrong=footage(2))
    assert seen == [(FRAMES, FPS)] * 3
    assert result.lips.audio_gain is not None


def test_images_of_another_size_are_brought_to_that_of_the_generated_ones():
    coarse = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    small, large = (torch.nn.functional.interpolate(coarse, size=(s, s), mode="bilinear") for s in (SIZE, 2 * SIZE))
    points = landmarks(frames=5)
    score = score_images(Footage(lambda: small, FPS), points, Footage(lambda: large, FPS), points * 2)
    assert score.face_psnr > 40


def test_speech_is_what_stands_out_of_the_background():
    waveform = noise(1, 32000) * 0.001
    waveform[:, 8000:16000] += 0.3 * torch.sin(torch.arange(8000) * 2 * math.pi * 700 / 16000)
    spoken = spoken_frames(waveform, 16000, 60, 25.0)
    assert spoken[14:24].all() and not spoken[:10].any() and not spoken[30:].any()
    assert spoken.shape == (60,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two rows and one with wrong audio, of two clips; one has phones."""
    root = tmp_path_factory.mktemp("rows")
    for row, clips in {"real": "ab", "causal": "ab", "causal.wrong": "a", "acoustic": "b"}.items():
        (root / row).mkdir()
        for clip in clips:
            with VideoWriter(root / row / f"{clip}.mp4", 25.0, SIZE, SIZE, audio=sound(seconds=0.4)) as writer:
                writer.write(torch.rand(10, 3, SIZE, SIZE))
    (root / "phones").mkdir()
    write_phones(root / "phones/a.json", [Phone("B", 0.1, 0.2)])
    return root


def test_footage_can_be_read_twice(folder):
    video = read_footage(folder / "real/a.mp4")
    assert [len(list(video.frames())) for _ in range(2)] == [10, 10]
    assert video.fps == 25 and video.audio[1] == 48000
    other = read_footage(folder / "real/a.mp4", 50.0, audio=folder / "real/b.mp4")
    assert other.fps == 50 and len(list(other.frames())) == 19  # the last frame lasts no longer than one of its own
    torch.testing.assert_close(other.audio[0], read_audio(folder / "real/b.mp4")[0])


def test_rows_are_folders_with_the_real_one_first(folder):
    rows = find_rows(folder)
    assert list(rows) == ["real", "acoustic", "causal"]
    assert list(rows["real"]) == ["a", "b"] and list(rows["acoustic"]) == ["b"]


def test_a_folder_without_rows_says_what_is_needed(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_rows(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="put the real ones into 'real'"):
        find_rows(tmp_path)


@pytest.fixture
def faked(monkeypatch):
    """The tracker replaced by known landmarks; the calls are counted."""
    calls = []

    def track_footage(evaluators, video, progress=None):
        calls.append(video)
        return TrackedVideo(video, tracked(len(calls), 10).track)

    monkeypatch.setattr(table, "track_footage", track_footage)
    return calls


def test_every_clip_of_every_row_is_compared_with_the_real_one(folder, faked):
    calls = []
    result = evaluate_folder(Evaluators(None), folder, lambda *args: calls.append(args))
    assert {row: list(clips) for row, clips in result.items()} == {
        "real": ["a", "b"], "acoustic": ["b"], "causal": ["a", "b"]
    }  # fmt: skip
    assert result["real"]["a"].lips.aperture_correlation is None
    assert result["causal"]["a"].lips.aperture_correlation is not None
    assert result["causal"]["a"].lips.audio_gain is not None and result["causal"]["b"].lips.audio_gain is None
    assert result["causal"]["a"].lips.closure_recall is not None and result["causal"]["b"].lips.closure_recall is None
    assert len(faked) == 6  # each real clip once
    assert calls[0] == (0, 5, "real/a") and calls[-1] == (5, 5, "")


def an_evaluation(correlation, lse_c=None):
    return Evaluation(
        75, 25.0, None, None if lse_c is None else SyncScore(lse_c, 1.0, 2), LipScore(aperture_correlation=correlation),
        None, HeadScore(2.0, 0.9, None), ImageScore(*[None] * 8),
    )  # fmt: skip


def test_the_table_holds_medians_and_their_number():
    rows = {"causal": {"a": an_evaluation(0.5, 0.2), "b": an_evaluation(0.7), "c": an_evaluation(0.6)}, "real": {}}
    assert medians(rows["causal"])["aperture_correlation"] == (0.6, 3)
    assert medians(rows["causal"])["lse_c"] == (0.2, 1)
    lines = to_markdown(rows).splitlines()
    assert lines[0] == "| median (n) | causal | real |"
    assert "| aperture_correlation | 0.6 (3) | – |" in lines
    assert "| sync_offset | 2 (1) | – |" in lines


def test_flat_names_every_field():
    values = flat(an_evaluation(0.5))
    assert values["frames"] == 75 and values["aperture_correlation"] == 0.5 and values["csim"] is None
    assert {"diversity", "flicker", "mouth_distance"} <= values.keys()
    assert metrics(an_evaluation(0.5, 0.2)).keys() == {
        "lse_c", "lse_d", "sync_offset", "aperture_correlation", "diversity", "energy_below_3hz"
    }  # fmt: skip


@pytest.fixture
def quick(monkeypatch, evaluators, faked):
    """The command without networks."""
    monkeypatch.setattr(command, "load_face_models", lambda weights: None)
    monkeypatch.setattr(evaluation, "track_video", lambda *args: tracked(3, 10).track)


def test_the_command_prints_metrics_or_json(folder, quick, capsys, tmp_path):
    words = ["evaluate", "--generated", str(folder / "causal/a.mp4"), "--reference", str(folder / "real/a.mp4")]
    words += ["--phones", str(folder / "phones/a.json"), "--no-progress"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "10 frames at 25 fps" in text and "aperture_correlation" in text
    assert main([*words, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["aperture_correlation"] == pytest.approx(1) and values["lse_c"] is None
    assert main([*words, "--json", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text()) == values


def test_the_command_writes_a_table(folder, quick, capsys):
    assert main(["evaluate", "--table", str(folder), "--no-progress"]) == 0
    assert capsys.readouterr().out.startswith("| median (n) | real | acoustic | causal |")
    assert main(["evaluate", "--table", str(folder), "--no-progress", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["causal"]["median"]["aperture_correlation"]["clips"] == 2
    assert values["real"]["clips"]["a"]["frames"] == 10


def test_the_command_says_what_is_wrong(folder, capsys, tmp_path):
    video = str(folder / "real/a.mp4")
    assert main(["evaluate", "--generated", video, "--json", str(tmp_path / "a.txt")]) == 2
    assert "its ending must be .json" in capsys.readouterr().err
    assert main(["evaluate", "--generated", video, "--embedder", "none.onnx"]) == 2
    assert "there is no face embedder 'none.onnx'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build_parser().parse_args(["evaluate"])
    assert "one of the arguments --generated --table is required" in capsys.readouterr().err
