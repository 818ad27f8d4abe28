import argparse
import inspect
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

pytest.importorskip("accelerate")

from vividtalk_core.cli.command import main
from vividtalk_core.cli.options import add_options, given
from vividtalk_core.errors import MissingFileError, SettingsError
from vividtalk_core.hub import load_tensors, save_tensors
from vividtalk_core.settings import ArticulationSettings, TalkSettings
from vividtalk_core.training.loop.settings import TrainSettings
from vividtalk_core.training.prepare import phones as labelling
from vividtalk_core.training.prepare import prepare as preparation
from vividtalk_core.training.tasks.registry import TASKS

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--steps", 4, "--batch", 2, "--evaluate-every", 2, "--warmup", 0, "--cpu")


@dataclass(frozen=True, slots=True)
class Inner:
    """Of Outer."""

    reach: int = 3  # frames, 50 % of them twice


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """What the tests train instead of a sync expert."""

    width: int = 3  # of the layer
    bias: bool = True
    title: str = "x"  # a word
    pitch: tuple[float, float] = (0.5, 2.0)  # factors
    layers: tuple[int, ...] = (1, 2)
    rate: float = field(default=0.5)  # by a field
    inner: Inner = field(default_factory=Inner)
    seed: int = 0


class Task:
    def __init__(self, settings, stop_at=0):
        torch.manual_seed(settings.seed)
        self.module, self.stop_at, self.steps = nn.Linear(settings.width, 1, bias=settings.bias), stop_at, 0

    def batch(self, generator, size):
        return {"x": torch.randn(size, self.module.in_features, generator=generator)}

    def losses(self, module, batch):
        self.steps += module.training
        if self.steps == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"square": (module(batch["x"]) - 1).square().mean()}

    def evaluate(self, module):
        return {"score": float(self.losses(module, self.batch(torch.Generator().manual_seed(1), 8))["square"])}

    def save(self, path, module):
        save_tensors(path, module.state_dict())


@pytest.fixture
def sync(monkeypatch):
    """A sync expert task for the tests; `asked` collects what it was made from."""
    module = ModuleType("vividtalk_core.training.tasks.sync_expert")
    module.SyncSettings, module.asked, module.stop_at = SyncSettings, [], 0

    def task(data, settings):
        module.asked.append((data, settings))
        if data.name == "empty":
            raise MissingFileError(f"'{data}' holds\n no shards.")
        return Task(settings, module.stop_at)

    module.task = task
    monkeypatch.setitem(sys.modules, "vividtalk_core.training.tasks.sync_expert", module)
    before = signal.getsignal(signal.SIGTERM)
    yield module
    signal.signal(signal.SIGTERM, before)


def run(*words):
    return main(["train", *(str(word) for word in words)])


def refused(capsys, *words):
    """The one line on stderr of a command that fails with exit code 2."""
    try:
        code = run(*words)
    except SystemExit as error:
        code = error.code
    out, line = capsys.readouterr()
    assert code == 2 and not out and line.count("\n") == 1
    assert line.startswith("vividtalk train")
    return line


# ---- train


def test_train(sync, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    options = ("--width", 5, "--no-bias", "--pitch", "0.8,1.5", "--inner-reach", 7, "--seed", 9, "--ema", 0.5)
    assert run("sync", tmp_path, out, *SHORT, *options) == 0
    data, settings = sync.asked[0]
    assert data == tmp_path
    assert settings == SyncSettings(width=5, bias=False, pitch=(0.8, 1.5), inner=Inner(7), seed=9)
    record = json.loads((out / "settings.json").read_text())
    assert record["task"] == "sync" and record["settings"]["pitch"] == [0.8, 1.5]
    assert record["settings"]["seed"] == record["training"]["seed"] == 9, "one seed for both"
    assert record["training"]["steps"] == 4 and record["training"]["ema"] == 0.5
    assert load_tensors(out / "best.safetensors")["weight"].shape == (1, 5)
    stdout, stderr = capsys.readouterr()
    path, best = stdout.strip().split(": ", 1)
    assert path == str(out / "best.safetensors") and json.loads(best)["step"] in (2, 4)
    assert [line.split(",")[0] for line in stderr.splitlines()] == ["step 2/4", "step 4/4"]
    assert "loss" in stderr and "validation_score" in stderr


def test_no_progress(sync, tmp_path, capsys):
    assert run("sync", tmp_path, tmp_path / "out", *SHORT, "--no-progress") == 0
    assert not capsys.readouterr().err


def test_a_task_may_know_better_settings(sync, tmp_path):
    sync.TRAINING = TrainSettings(steps=2, batch=3, warmup=0, cpu=True)
    assert run("sync", tmp_path, tmp_path / "out", "--batch", 4) == 0
    training = json.loads((tmp_path / "out" / "settings.json").read_text())["training"]
    assert training["steps"] == 2 and training["batch"] == 4


def test_sigterm_leaves_what_the_same_command_goes_on_from(sync, tmp_path, capsys):
    command = ("sync", tmp_path, tmp_path / "out", *SHORT)
    sync.stop_at = 3
    assert run(*command) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("interrupted, the same command continues from the last finished step")
    sync.stop_at = 0
    assert run(*command) == 0
    assert capsys.readouterr().err.splitlines()[0].startswith("step 4/4")


def test_another_training_is_not_gone_on_with(sync, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("sync", tmp_path, out, *SHORT) == 0
    before = (out / "settings.json").read_bytes()
    capsys.readouterr()
    line = refused(capsys, "sync", tmp_path, out, *SHORT, "--width", 4, "--ema", 0.5)
    assert "other settings (width was 3 and is 4, ema was 0.0 and is 0.5): use --no-resume" in line
    assert (out / "settings.json").read_bytes() == before
    assert run("sync", tmp_path, out, *SHORT, "--steps", 6) == 0, "more steps may follow"
    assert run("sync", tmp_path, out, *SHORT, "--width", 4, "--no-resume") == 0
    (out / "settings.json").write_text(json.dumps(json.loads(before) | {"task": "pose"}))
    capsys.readouterr()
    assert "holds a training of 'pose': choose another folder" in refused(capsys, "sync", tmp_path, out)


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"task": "sync", "settings": 1, "training": {}}', "\udcff"])
def test_damaged_settings_are_refused(sync, tmp_path, capsys, text):
    out = tmp_path / "out"
    assert run("sync", tmp_path, out, *SHORT) == 0
    (out / "settings.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    capsys.readouterr()
    assert "settings.json' is damaged" in refused(capsys, "sync", tmp_path, out, *SHORT)
    assert run("sync", tmp_path, out, *SHORT, "--no-resume") == 0


def test_errors_are_one_sentence(sync, tmp_path, capsys):
    assert f"'{tmp_path / 'empty'}' holds no shards." in refused(capsys, "sync", tmp_path / "empty", tmp_path)
    assert "steps must be at least 1; got 0" in refused(capsys, "sync", tmp_path, tmp_path, "--steps", 0)
    assert "invalid int value: 'x'" in refused(capsys, "sync", tmp_path, tmp_path, "--width", "x")
    assert "'1,2,3' is not 2 values" in refused(capsys, "sync", tmp_path, tmp_path, "--pitch", "1,2,3")
    assert "'1,a' is not made of ints" in refused(capsys, "sync", tmp_path, tmp_path, "--layers", "1,a")
    assert "invalid choice: 'walk'" in refused(capsys, "walk", tmp_path, tmp_path)
    assert "required: OUT" in refused(capsys, "sync", tmp_path)
    assert not list(tmp_path.iterdir())


def test_nan_is_reported(sync, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Task, "batch", lambda self, generator, size: {"x": torch.full((size, 3), float("nan"))})
    line = refused(capsys, "sync", tmp_path, tmp_path / "out", *SHORT)
    assert "step 1: the loss term 'square' is nan" in line


@pytest.mark.parametrize("name", TASKS)
def test_help_of_every_task_names_its_settings(name, capsys):
    """The real modules: each has its settings, and every field of them is an option with a comment."""
    with pytest.raises(SystemExit) as done:
        run(name, "--help")
    text = capsys.readouterr().out
    assert done.value.code == 0 and "--learning-rate" in text and f"\n{name}:" in text
    lines = [line for line in text.split(f"\n{name}:")[1].splitlines() if line.startswith("  --")]
    assert lines


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 0),
        ("talk --help", 0),
        ("drive --help", 0),
        ("bench --help", 0),
        ("build --help", 0),
        ("train --help", 0),
        ("train phones --help", 0),
        ("sing", 2),
        ("talk --portriat a.png", 2),
        ("train walk DATA OUT", 2),
        ("build --only feet", 2),
    ],
)
def test_help_and_misspelt_words_import_no_torch(words, code):
    script = (
        "import atexit, sys, runpy; atexit.register(lambda: sys.stderr.write(str('torch' in sys.modules)));"
        f"sys.argv = ['x', *{words.split()!r}]; runpy.run_module('vividtalk_core', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code and done.stderr.endswith("False")
    assert (done.stdout if code == 0 else done.stderr).startswith("usage: vividtalk" if code == 0 else "vividtalk")


@pytest.mark.parametrize("error", [ValueError("a bug"), TypeError("a bug"), KeyError("a bug")])
def test_a_bug_is_not_taken_for_bad_input(sync, tmp_path, error, monkeypatch):
    def task(data, settings):
        raise error

    monkeypatch.setattr(sync, "task", task)
    with pytest.raises(type(error)):
        run("sync", tmp_path, tmp_path / "out", *SHORT)


def test_several_processes_train_through_torchrun(tmp_path):
    """The command that the help names; without data it ends with our own sentence, in each of the processes."""
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "vividtalk_core"]
    words += ["train", "sync", str(tmp_path / "none"), str(tmp_path / "out"), "--cpu"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "vividtalk train: " in done.stderr and "exitcode  : 2" in done.stderr


# ---- prepare


def test_prepare(tmp_path, monkeypatch, capsys):
    asked = []

    def prepare(folder, out, workers, progress, settings):
        asked.append((folder, out, workers, settings))
        out.mkdir()
        progress(1, 1, None)
        return SimpleNamespace(describe=lambda: "1 of 1 clips kept", kept=("a",))

    monkeypatch.setattr(preparation, "prepare", prepare)
    out = tmp_path / "out"
    assert run("prepare", tmp_path, out, "--workers", 2, "--no-track", "--lag-reach", 5) == 0
    folder, target, workers, settings = asked[0]
    assert (folder, target, workers, settings.track, settings.lag.reach) == (tmp_path, out, 2, False, 5)
    assert json.loads((out / "settings.json").read_text())["settings"]["lag"]["reach"] == 5
    stdout, stderr = capsys.readouterr()
    assert stdout == "1 of 1 clips kept\n" and stderr.startswith("prepare 100% [####")


def test_a_folder_of_which_nothing_is_kept_is_an_error(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/text.mp4").write_text("no video")
    assert run("prepare", tmp_path / "in", tmp_path / "out", "--no-progress") == 2
    stdout, stderr = capsys.readouterr()
    assert "0 of 1 clips kept" in stdout
    folders = f"'{tmp_path / 'in'}' can be trained on: the report in '{tmp_path / 'out'}'"
    assert stderr == f"vividtalk train: no clip of {folders} gives the reasons\n"


def test_prepare_errors(tmp_path, capsys):
    assert "there is no folder" in refused(capsys, "prepare", tmp_path / "nowhere", tmp_path / "out")
    assert "--workers must be at least 1; got 0" in refused(capsys, "prepare", tmp_path, tmp_path, "--workers", 0)


def test_phones(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(labelling, "label_folder", lambda data: labelling.Labelled(3, ()))
    assert run("phones", tmp_path) == 0
    assert capsys.readouterr().out == "3 clips labelled\n"


def test_phones_of_another_folder(tmp_path, capsys):
    assert "has no folder 'clips'" in refused(capsys, "phones", tmp_path)


# ---- options


def test_options_show_comment_and_default():
    parser = argparse.ArgumentParser()
    names = add_options(parser, SyncSettings(), known=["title"])
    assert names == ["width", "bias", "title", "pitch", "layers", "rate", "inner_reach", "seed"]
    text = " ".join(parser.format_help().split())
    for shown in (
        "--width N of the layer (default: 3)",
        "--bias, --no-bias (default: True)",
        "--pitch X factors (default: 0.5,2.0)",
        "--rate X by a field (default: 0.5)",
        "--inner-reach N frames, 50 % of them twice (default: 3)",
    ):
        assert shown in text
    assert "--title" not in text


def test_options_change_only_what_is_given():
    parser = argparse.ArgumentParser()
    add_options(parser, SyncSettings())
    start = SyncSettings(width=8, rate=0.1, inner=Inner(9))
    assert given(start, vars(parser.parse_args([]))) == start
    changed = given(start, vars(parser.parse_args(["--layers", "4,5,6", "--title", "y z", "--rate", "1e-3"])))
    assert changed == SyncSettings(width=8, layers=(4, 5, 6), title="y z", rate=1e-3, inner=Inner(9))


def test_options_of_other_types_are_refused():
    @dataclass
    class Odd:
        names: "dict[str, int]" = field(default_factory=dict)

    with pytest.raises(TypeError, match=r"a setting of type dict\[str, int\] cannot be given"):
        add_options(argparse.ArgumentParser(), Odd())


def test_declared_options():
    parser = argparse.ArgumentParser()
    add_options(parser, TalkSettings(), known=["pose"])
    args = parser.parse_args(
        ["--smoothing", "0.1", "--jaw-gain", "2", "--mode", "causal", "--encoder", "x", "--force", "--no-blinks"]
    )
    articulation = ArticulationSettings(jaw_gain=2, smoothing_s=0.1)
    expected = TalkSettings(mode="causal", encoder="x", force=True, blinks=False, articulation=articulation)
    assert given(TalkSettings(), vars(args)) == expected
    text = parser.format_help()
    assert "--smoothing" in text and "--smoothing-s" not in text and "--articulation" not in text
    assert "--chunk" not in text and "--pose " not in text and "--mode {parallel,causal,acoustic}" in text
    with pytest.raises(SettingsError, match="fps must be between 1 and 120; got 0"):
        given(TalkSettings(), vars(parser.parse_args(["--fps", "0"])))


def test_options_of_a_subset():
    parser = argparse.ArgumentParser()
    assert add_options(parser, TalkSettings(), only=("strength",)) == ["strength"]
    assert "--fps" not in parser.format_help()


def test_options_without_sources(monkeypatch):
    def missing(cls):
        raise OSError("no source")

    monkeypatch.setattr(inspect, "getsource", missing)
    parser = argparse.ArgumentParser()
    add_options(parser, SyncSettings())
    assert "--width N (default: 3)" in " ".join(parser.format_help().split())
