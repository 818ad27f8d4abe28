"""The reports of `vividtalk evaluate`: words, output, errors. The metrics themselves are tested in tests/eval."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from vividtalk_core import pipeline
from vividtalk_core.audio.waveform import read_audio
from vividtalk_core.cli import evaluate as command
from vividtalk_core.cli.command import build_parser, main
from vividtalk_core.cli.evaluate_arguments import REPORTS
from vividtalk_core.errors import MediaError
from vividtalk_core.eval.image_score import ImageScore
from vividtalk_core.eval.lip_score import LipScore
from vividtalk_core.eval.protocols import reenactment
from vividtalk_core.eval.protocols.fit_error import FitError
from vividtalk_core.eval.protocols.folder import flat
from vividtalk_core.eval.protocols.reenactment import Reenactment, ReenactmentSettings
from vividtalk_core.eval.protocols.reenactment_score import CLOSED_FORM, REAL, RowScore
from vividtalk_core.eval.protocols.video import Evaluation, HeadScore

DEMO = Path(pipeline.__file__).parent / "assets/demo"

# What `evaluate --json` prints: other programs read these names, so none may go or change.
JSON_KEYS = (
    "frames fps embedder lse_c lse_d sync_offset aperture_correlation width_correlation amplitude_ratio velocity_ratio "
    "offset_frames audio_gain frozen_share closure_recall mouth_distance diversity energy_below_3hz beat_alignment "
    "cpbd flicker background_motion startup_jitter face_psnr mouth_psnr face_ssim csim"
)


def test_names_in_the_json_are_kept():
    head, images = HeadScore(2.0, 0.9, None), ImageScore(*[None] * len(fields(ImageScore)))
    assert list(flat(Evaluation(75, 25.0, None, None, LipScore(), None, head, images))) == JSON_KEYS.split()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of the arguments --generated --table is required, or one of fit, reenactment"),
        (["fit"], "the following arguments are required: FOLDER"),
        (["style", "speech.wav"], "the following arguments are required: PORTRAIT"),
        (["reenactment", "a.mp4", "--size", "3"], "unrecognized arguments: --size 3"),
        (["reenactment", "a.mp4", "--frames", "many"], "argument --frames: invalid int value: 'many'"),
        (["expression", "data", "--split", "all"], "argument --split: invalid choice: 'all'"),
        (["--generated", "a.mp4", "fit", "folder"], "--generated is not an option of 'fit'"),
        (["--embedder", "e.onnx", "style", "a.wav", "b.png"], "--embedder is not an option of 'style'"),
        (["shape"], "invalid choice: 'shape'"),
    ],
)
def test_wrong_words(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args(["evaluate", *words])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1


def test_options_before_the_word_count():
    args = build_parser().parse_args(["evaluate", "--weights", "w", "--embedder", "e", "reenactment", "a.mp4"])
    assert (args.weights, args.embedder, args.videos) == ("w", "e", ["a.mp4"])
    args = build_parser().parse_args(["evaluate", "reenactment", "a.mp4", "--weights", "w"])
    assert (args.weights, args.embedder, args.table, args.markdown) == ("w", None, None, False)


@pytest.mark.parametrize("report", [None, *REPORTS])
def test_help_does_not_need_torch(report):
    words = ["evaluate", *([report] if report else []), "--help"]
    code = f"import sys; from vividtalk_core.cli.command import main\ntry:\n main({words})\n"
    code += "finally:\n assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("usage: vividtalk evaluate"), done.stderr


def test_the_help_names_the_defaults_of_the_settings(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["evaluate", "reenactment", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    numbers = {name: value for name, value in asdict(ReenactmentSettings()).items() if not isinstance(value, bool)}
    for name, value in numbers.items():
        assert re.search(rf"--{name} N [^(]*\(default: {value}\)", text)


def test_fit_prints_a_line_for_each_file_and_the_mean(monkeypatch, capsys):
    errors = [FitError("a.png", 1, 0.5, 0.75), FitError("b.mp4", 9, 0.25, 1.25)]
    monkeypatch.setattr(command, "load_face_models", lambda weights: None)
    monkeypatch.setattr(command, "folder_errors", lambda models, folder: errors)
    assert main(["evaluate", "fit", "stills", "clips"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == ["a.png", "b.mp4", "mean of 2"] * 2
    assert lines[2] == {"name": "mean of 2", "frames": 10, "lips_px": 0.375, "all_px": 1.0}


@pytest.fixture
def reenacted(monkeypatch):
    """The command with a measurement that is made up; its arguments are collected."""
    calls = []

    def measure(models, footage, evaluators, settings):
        calls.append(settings)
        if footage == "short.mp4":
            raise MediaError("the clip has 2 frames")
        return Reenactment(3, 25.0, None, None, {CLOSED_FORM: RowScore(face_psnr=27.123456), REAL: RowScore()})

    monkeypatch.setattr(command, "load_models", lambda weights: SimpleNamespace(face=None))
    monkeypatch.setattr(command, "find_perceptual", lambda: None)
    monkeypatch.setattr(reenactment, "read_footage", lambda path: path.name)
    monkeypatch.setattr(reenactment, "self_reenactment", measure)
    return calls


def test_reenactment_prints_a_line_for_each_clip_and_a_table(reenacted, capsys):
    words = ["folder/a.mp4", "short.mp4", "b.mp4", "--frames", "9", "--source=1", "--table"]
    assert main(["evaluate", "reenactment", *words]) == 0
    a, b, *table = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["clip"] for line in (a, b)] == ["a.mp4", "b.mp4"], "short.mp4 is left out"
    assert json.loads(a)["frames"] == 3 and json.loads(a)["rows"][CLOSED_FORM]["face_psnr"] == 27.12346
    assert table[0] == "| median of 2 | face PSNR dB |"
    assert reenacted[0] == ReenactmentSettings(frames=9, source=1)
    assert main(["evaluate", "reenactment", "a.mp4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert reenacted[-1] == ReenactmentSettings()


def test_reenactment_of_no_usable_clip_fails(reenacted, capsys):
    assert main(["evaluate", "reenactment", "short.mp4"]) == 2
    assert "none of the 1 videos could be measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reenactment", "a.mp4", "--frames=2"], "got frames 2, pictures 30, source 0"),
        (["reenactment", "a.mp4", "--weights=nowhere"], "weights 'nowhere': there is no such folder"),
        (["reenactment", "a.mp4", "--embedder=e.onnx"], "there is no face embedder 'e.onnx'"),
        (["fit", "no folder"], "there is no folder 'no folder'"),
        (["style", "no.wav", "no.png"], "there is no audio file 'no.wav'"),
        (["expression", "nothing"], "nothing has no folder 'clips'"),
        (["head-pose", "nothing", "none.safetensors"], "none.safetensors"),
        (["mouths", "data", "--perceptual-weights", "none.pth"], "none.pth"),
    ],
)
def test_errors_are_one_sentence(words, message, capsys):
    assert main(["evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("vividtalk evaluate: ") and error.count("\n") == 1


def test_a_talking_portrait_keeps_its_style(monkeypatch, capsys):
    waveform, rate = read_audio(DEMO / "speech.flac")
    monkeypatch.setattr(command, "read_audio", lambda path: (waveform[:, :rate], rate))
    assert main(["evaluate", "style", "speech.flac", str(DEMO / "portrait.jpg")]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("| portrait | row | color distance |")
    assert [row.split("|")[2].strip() for row in rows] == ["closed form", "network"]
    color, saturation = (float(cell) for cell in rows[0].split("|")[3:5])
    assert color < 2 and 0.9 < saturation < 1.1


def test_expression_is_printed_as_json(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(command, "load_models", lambda weights: weights)
    monkeypatch.setattr(command, "expression_metrics", lambda *args: calls.append(args) or {"real": {"clips": 3}})
    assert main(["evaluate", "expression", "data", "--split", "test", "--weights", "w"]) == 0
    assert json.loads(capsys.readouterr().out) == {"real": {"clips": 3}}
    assert calls == [(Path("data"), "test", "w")]


def test_mouths_are_printed_as_json(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(command, "load_models", lambda weights: SimpleNamespace(mesh_to_video=weights))
    monkeypatch.setattr(command, "load_perceptual", lambda path: f"network of {path}")
    monkeypatch.setattr(command, "mouth_metrics", lambda *args: calls.append(args) or {"clips": 3})
    assert (
        main(["evaluate", "mouths", "data", "--split", "test", "--weights", "w", "--perceptual-weights", "vgg.pth"])
        == 0
    )
    assert json.loads(capsys.readouterr().out) == {"clips": 3}
    assert calls == [(Path("data"), "w", "test", "network of vgg.pth")]


def test_nothing_is_left_of_the_old_commands():
    for path in (Path(pipeline.__file__).parent / "eval").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "def main(" not in text and "sys.argv" not in text, path


def written_commands():
    """Every `… vividtalk_core evaluate …` in the text of the documents that give metrics."""
    root = Path(pipeline.__file__).parents[1]
    for path in (root / "FIGURES.md", root / "vividtalk_core/assets/MODEL_CARD.md"):
        for code in re.findall(r"`[^`]*vividtalk_core (evaluate [^`]*)`", path.read_text(encoding="utf-8")):
            yield " ".join(code.replace("--split SPLIT", "--split test").split())


@pytest.mark.parametrize("command", list(written_commands()))
def test_commands_in_the_documents_are_understood(command):
    build_parser().parse_args(command.split())
