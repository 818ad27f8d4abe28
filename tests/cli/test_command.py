import json
import math
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from vividtalk_core.cli import bench
from vividtalk_core.cli.bench import PORTRAIT, table, write_wave
from vividtalk_core.cli.command import build_parser, main
from vividtalk_core.cli.options import given
from vividtalk_core.cli.progress import ProgressBar
from vividtalk_core.cli.render import scale_portrait
from vividtalk_core.cli.report import STAGES, peak_rss_mb
from vividtalk_core.errors import VividTalkError
from vividtalk_core.hub import save_module
from vividtalk_core.mesh_to_video.generator_network import FrameGenerator, FrameGeneratorConfig
from vividtalk_core.motion.files import Curves, fill_in
from vividtalk_core.settings import TalkSettings
from vividtalk_core.structures import ARKIT_NAMES, HeadMotion
from vividtalk_core.video.reader import read_image, read_video

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 10  # of the clips made here, at 25 fps


def voice(path, seconds=FRAMES / 25, rate=16000):
    """A buzz that opens and closes, as mono sound."""
    t = torch.arange(round(seconds * rate)) / rate
    buzz = sum(torch.sin(2 * math.pi * 120 * k * t) / k for k in range(1, 30))
    write_wave(path, (0.2 * buzz * torch.sin(math.pi * 4 * t).abs())[None], rate, seconds)
    return path


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A talking video with its report, and the curves tracked from it."""
    folder = tmp_path_factory.mktemp("cli")
    sound = voice(folder / "voice.wav")
    out = ("--out", folder / "talk.mp4", "--report", folder / "talk.json")
    assert run("talk", "--portrait", PORTRAIT, "--audio", sound, "--size", "256", *out) == 0
    assert run("track", "--video", folder / "talk.mp4", "--out", folder / "curves.npz", "--no-progress") == 0
    return folder


# ---- the contract


def test_talk_writes_the_video(folder):
    clip = read_video(folder / "talk.mp4")
    assert (clip.frame_count, clip.fps, clip.height, clip.width) == (FRAMES, 25, 256, 256)
    waveform, rate = clip.audio
    assert waveform.shape[1] / rate == pytest.approx(FRAMES / 25, abs=0.03)


def test_report(folder):
    report = json.loads((folder / "talk.json").read_text())
    assert list(report) == ["frames", "fps", "size", "seconds", "ms_per_frame", "peak_rss_mb", "face_box", "weights"]
    assert (report["frames"], report["fps"], report["size"], report["weights"]) == (FRAMES, 25, [256, 256], "embedded")
    seconds = report["seconds"]
    assert set(seconds) == {*STAGES, "total"}
    assert all(value > 0 for value in seconds.values())
    assert sum(seconds[stage] for stage in STAGES) == pytest.approx(seconds["total"], rel=0.05)
    work = seconds["total"] - seconds["load"] - seconds["fit"]
    assert report["ms_per_frame"] == pytest.approx(1000 * work / FRAMES, abs=0.1)
    assert 100 < report["peak_rss_mb"] < 4000
    left, top, right, bottom = report["face_box"]
    assert left < 112 < right and top < 55 < bottom, "the astronaut's face"


def test_track_writes_the_arrays(folder):
    with np.load(folder / "curves.npz", allow_pickle=False) as curves:
        shapes = {name: curves[name].shape for name in curves.files}
        vertices, lips = shapes["vertices_2d"][1], shapes["lip_offsets"][1]
        assert shapes["coefficients"] == (FRAMES, 52) and shapes["names"] == (52,)
        assert shapes["rotation"] == shapes["translation"] == (FRAMES, 3)
        assert shapes["landmarks_2d"] == (FRAMES, 478, 2)
        assert shapes["vertices_2d"] == (FRAMES, vertices, 2) and shapes["lip_offsets"] == (FRAMES, lips, 3)
        assert vertices > 1000 and float(curves["fps"]) == 25
        assert tuple(curves["names"]) == ARKIT_NAMES
        assert not curves["rotation"][0].any() and not curves["translation"][0].any()


def test_drive_with_tracked_curves(folder, tmp_path):
    out = tmp_path / "drive.mp4"
    words = ("--portrait", PORTRAIT, "--motion", folder / "curves.npz", "--audio", folder / "voice.wav", "--out", out)
    assert run("drive", *words, "--size", "256", "--report", tmp_path / "r.json") == 0
    clip = read_video(out)
    assert clip.frame_count == FRAMES and clip.audio is not None
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["frames"] == FRAMES and report["seconds"]["expression"] > 0


def test_no_motion_gives_the_portrait_back(folder, tmp_path):
    still = {"rotation": np.zeros((3, 3)), "translation": np.zeros((3, 3)), "fps": np.float64(30)}
    still |= {"coefficients": np.zeros((3, 52)), "names": np.array(ARKIT_NAMES)}
    np.savez(tmp_path / "still.npz", **still)
    out = tmp_path / "still.mp4"
    words = ("--portrait", PORTRAIT, "--motion", tmp_path / "still.npz", "--out", out)
    assert run("drive", *words, "--size", "256") == 0
    clip = read_video(out)
    portrait = scale_portrait(read_image(PORTRAIT), "256")[0]
    frames = torch.stack(list(clip.frames)).float() / 255
    assert (clip.fps, len(frames)) == (30, 3)
    assert (frames - portrait).abs().mean() < 0.02, "what is left is the encoder's"


@pytest.mark.parametrize("source", ["still", "video:talk.mp4", "file:curves.npz"])
def test_pose_sources(folder, tmp_path, source, monkeypatch):
    monkeypatch.chdir(folder)
    words = ("--portrait", PORTRAIT, "--audio", "voice.wav", "--size", "256", "--no-progress")
    assert run("talk", *words, "--pose", source, "--fps", "12.5", "--out", tmp_path / "a.mp4") == 0
    assert read_video(tmp_path / "a.mp4").frame_count == FRAMES // 2


def test_same_seed_same_file(folder, tmp_path):
    words = ("--portrait", PORTRAIT, "--audio", folder / "voice.wav", "--size", "256", "--seed", "0")
    assert run("talk", *words, "--out", tmp_path / "a.mp4") == 0
    assert (tmp_path / "a.mp4").read_bytes() == (folder / "talk.mp4").read_bytes()


# ---- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--portrait": "missing.png"}, "there is no picture 'missing.png'"),
        ({"--portrait": "voice.wav"}, "'voice.wav' is not a picture that can be read"),
        ({"--portrait": "flat.png"}, "face"),
        ({"--audio": "missing.wav"}, "there is no audio file 'missing.wav'"),
        ({"--audio": "empty.wav"}, "the audio track of 'empty.wav' is empty"),
        ({"--out": "talk.gif"}, "cannot write 'talk.gif': its ending must be .mp4"),
        ({"--out": "nowhere/a.mp4"}, "the folder 'nowhere' does not exist"),
        ({"--report": "r.txt"}, "cannot write 'r.txt': its ending must be .json"),
        ({"--fps": "0"}, "--fps must be between 1 and 120"),
        ({"--smoothing": "-1"}, "--smoothing must be 0 or more; got -1"),
        ({"--smoothing": "1e9"}, "the time of smoothing must be 0 to 10,000 frames"),
        ({"--box": "0,0,inf,inf"}, "box must be left, top, right, bottom in px inside the"),
        ({"--portrait": "."}, "'.' is a folder, the name of one picture is needed"),
        ({"--pose": "video:voice.wav"}, "'voice.wav' has no video track"),
        ({"--pose": "video:flat.png"}, "'flat.png' is a single picture"),
        ({"--pose": "file:missing.npz"}, "there is no curve file 'missing.npz'"),
        ({"--pose": "file:face.npz"}, "'face.npz' holds no head pose"),
        ({"--jaw-gain": "-1"}, "--jaw-gain must be between 0 and 10; got -1"),
        ({"--strength": "1.5"}, "strength must be between 0 and 1; got 1.5"),
        ({"--threshold": "2"}, "threshold must be between 0 and 1; got 2"),
        ({"--weights": "nowhere"}, "weights 'nowhere': there is no such folder"),
        ({"--weights": "hub:team/set"}, "add the revision, hub:team/set@REVISION"),
        ({"--face-index": "7"}, "7"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    voice(Path("voice.wav"))
    cv2.imwrite("flat.png", np.full((300, 300, 3), 90, np.uint8))
    np.savez("face.npz", coefficients=np.zeros((3, 52)), names=np.array(ARKIT_NAMES), fps=np.float64(25))
    with wave.open("empty.wav", "wb") as empty:
        empty.setparams((1, 2, 16000, 0, "NONE", ""))
    before = sorted(tmp_path.iterdir())
    words = {"--portrait": PORTRAIT, "--audio": "voice.wav", "--out": "out.mp4"} | change
    assert run("talk", "--no-progress", *(word for pair in words.items() for word in pair)) == 2
    error = capsys.readouterr().err
    assert error.startswith("vividtalk talk: ") and error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("talk --portrait a", "vividtalk talk: the following arguments are required: --out, --audio"),
        ("talk --portrait a --audio b --out c --pose moon", "'moon' is none of codebook, idle, still, video:FILE"),
        ("talk --portrait a --audio b --out c --mode sing", "invalid choice: 'sing'"),
        ("talk --portrait a --audio b --out c --pose video:", "'video:' is none of"),
        ("talk --portrait a --audio b --out c --box 1,2,3", "'1,2,3' is not four numbers L,T,R,B"),
        ("talk --portrait a --audio b --out c --box 9,2,3,4", "'9,2,3,4' is empty: left must be below right"),
        ("talk --portrait a --audio b --out c --size 300", "invalid choice: '300'"),
        ("bench --strength much", "invalid float value: 'much'"),
        ("sing", "invalid choice: 'sing'"),
        ("", "the following arguments are required"),
    ],
)
def test_wrong_words(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error and error.count("\n") == 1


def test_track_and_drive_errors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    voice(Path("voice.wav"))
    assert run("track", "--video", "missing.mp4", "--out", "a.npz") == 2
    assert "there is no video 'missing.mp4'" in capsys.readouterr().err
    assert run("track", "--video", "voice.wav", "--out", "a.txt") == 2
    assert "its ending must be .npz or .csv" in capsys.readouterr().err
    assert run("drive", "--portrait", PORTRAIT, "--motion", "missing.npz", "--out", "a.mp4") == 2
    assert "there is no curve file 'missing.npz'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["voice.wav"]


def _accept_interrupts():
    """A shell's background jobs ignore Ctrl-C, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_work_leaves_nothing(tmp_path, number):
    sound, out = voice(tmp_path / "voice.wav", 60.0), tmp_path / "video"
    out.mkdir()
    words = ["talk", "--portrait", PORTRAIT, "--audio", sound, "--out", out / "a.mp4", "--size", "256"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vividtalk_core", *map(str, words)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_accept_interrupts,
    )
    while not list(out.iterdir()) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "vividtalk talk: interrupted, nothing was written"
    assert "Traceback" not in error
    assert not list(out.iterdir())


# ---- parts


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [(300, 200, "native", (300, 200)), (301, 203, "native", (301, 203)), (512, 512, "256", (256, 256)),
     (300, 200, "512", (512, 342)), (100, 4000, "256", (6, 256)), (256, 256, "256", (256, 256))],
)  # fmt: skip
def test_scale_portrait(height, width, size, expected):
    portrait = torch.full((1, 3, height, width), 0.5)
    scaled = scale_portrait(portrait, size)
    assert tuple(scaled.shape[2:]) == expected
    torch.testing.assert_close(scaled, torch.full((1, 3, *expected), 0.5))


def test_box_is_read():
    words = "talk --portrait a --audio b --out c --box 1,2.5,30,40"
    assert build_parser().parse_args(words.split()).box == (1, 2.5, 30, 40)


@pytest.mark.parametrize("words", ["talk --audio b", "drive --motion b"])
def test_strength_reaches_the_pipeline(words):
    args = build_parser().parse_args([*words.split(), "--portrait", "a", "--out", "c", "--strength", "0.25"])
    assert given(TalkSettings(), vars(args)).strength == 0.25
    args = build_parser().parse_args([*words.split(), "--portrait", "a", "--out", "c"])
    assert given(TalkSettings(), vars(args)).strength == 1


def test_half_a_motion_is_filled_in():
    pose = HeadMotion(torch.zeros(4, 3), torch.zeros(4, 3), 30.0)
    expression, same = fill_in(Curves(None, pose), 7)
    assert same is pose
    assert expression.lip_offsets.shape == (4, 7, 3) and expression.fps == 30
    assert torch.equal(expression.neutral_coefficients, expression.coefficients[0]), "the portrait's own face stays"
    _, still = fill_in(Curves(expression, None), 7)
    assert not still.rotation.any() and len(still.rotation) == 4


def test_bar_in_a_log_file(capsys):
    bar = ProgressBar("track", total=40)
    for done in range(1, 41):
        bar(done, 0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("track  10% [####") and "] 4/40, " in lines[0]
    assert lines[-1].startswith("track 100% [####") and lines[-1].endswith("] 40/40, 00:00 left")


def test_bar_of_an_unknown_total_in_a_log_file(capsys):
    bar = ProgressBar("track")
    for done in range(1, 501):
        bar(done, 0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9 and lines[-1] == "track 256 done in 00:00"


def test_bar_of_several_runs_in_a_log_file(capsys):
    bar = ProgressBar("track")
    for _ in range(2):
        bar(1, 2)
        bar(2, 2)
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_no_bar(capsys, monkeypatch):
    ProgressBar("quiet", shown=False)(1, 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    ProgressBar("quiet", shown=False)(1, 1)
    assert not capsys.readouterr().err


def test_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = ProgressBar("talk")
    for _ in range(2):
        bar(1, 2)
        bar(2, 2)
    error = capsys.readouterr().err
    assert error.startswith("\rtalk ") and error.endswith("\n")
    assert error.count("100%") >= 2 and "2/2, 00:00 left" in error and error.count("\n") == 2, "a line for each run"


def test_peak_memory_is_of_this_process():
    before = peak_rss_mb()
    block = np.ones(100 * 2**20, np.uint8)
    assert peak_rss_mb() >= before
    assert peak_rss_mb() > len(block) / 2**20


def test_bench(tmp_path, monkeypatch, capsys):
    sound = voice(tmp_path / "voice.wav", 1.0)
    for name, value in {"SPEECH": sound, "CLIP_S": 0.12, "MEMORY_S": 0.12, "WARM_UP": 0, "SIZES": ("256",)}.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "NETWORK_RUNS", 1)
    assert run("bench", "--repeats", "1", "--strength", "0.5", "--json", tmp_path / "b.json") == 0
    metrics = json.loads((tmp_path / "b.json").read_text())
    stages = metrics["ms_per_frame"]["256"]
    assert set(stages) == {*STAGES[2:], "total"}
    assert sum(stages[stage] for stage in STAGES[2:]) == pytest.approx(stages["total"], rel=0.1)
    assert metrics["strength"] == 0.5 and metrics["precision"] in ("float32", "bfloat16")
    assert metrics["peak_rss_mb"] > 100 and metrics["load_s"] > 0 and metrics["fit_s"] > 0
    assert table(metrics) in capsys.readouterr().out
    assert run("bench", "--repeats", "0") == 2
    assert "--repeats must be at least 1; got 0" in capsys.readouterr().err


def test_bench_counts_the_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "NETWORK_RUNS", 2)
    wide = nn.Conv2d(4, 8, 3, padding=1)
    cost = bench.network_cost(wide, (torch.zeros(1, 4, 10, 20),))
    assert cost["gmac"] == round(10 * 20 * 9 * 4 * 8 / 1e9, 4) and cost["ms"] > 0
    config = FrameGeneratorConfig(source_widths=(2, 4), widths=(4, 4, 4, 4, 4))
    save_module(tmp_path / "generator.safetensors", FrameGenerator(config), config)
    costs = bench.network_costs(str(tmp_path))
    assert 0 < costs["generator"]["gmac"] < 0.1 and costs["generator"]["ms"] > 0


@pytest.mark.parametrize("hardware", [True, False])
def test_bench_names_the_precision(monkeypatch, hardware):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: hardware)
    assert bench.precision() == ("bfloat16" if hardware else "float32")


def test_bench_table_lists_what_the_networks_cost():
    metrics = {"ms_per_frame": {"256": {"total": 5.0}}, "networks": {}, "precision": "bfloat16", "strength": 1.0}
    metrics |= {"peak_rss_mb": None, "load_s": 1.0, "fit_s": 1.0, "torch": "2", "threads": 1}
    assert "no networks of stage 2: frames come from the closed form\n" in table(metrics)
    metrics["networks"] = {"motion": {"gmac": 0.456, "ms": 12.34}}
    assert "motion network: 0.46 GMAC, 12.3 ms per frame in bfloat16\n" in table(metrics)


def test_bench_says_why_its_process_failed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VividTalkError, match="the measured run failed: vividtalk talk: there is no picture"):
        bench.run_command(["talk", "--portrait", "x", "--audio", "y", "--out", tmp_path / "a.mp4"])


def test_wave_is_repeated_to_its_length(tmp_path):
    write_wave(tmp_path / "a.wav", torch.tensor([[0.0, 0.5, -2.0]]), 8000, 0.001)
    with wave.open(str(tmp_path / "a.wav")) as file:
        samples = np.frombuffer(file.readframes(100), np.int16)
    assert samples.tolist() == [0, 16383, -32767, 0, 16383, -32767, 0, 16383]
