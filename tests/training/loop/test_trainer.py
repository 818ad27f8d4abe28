import csv
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from torch import nn

pytest.importorskip("accelerate")

from vividtalk_core.errors import DatasetError, TrainingError, WeightsError
from vividtalk_core.hub import load_tensors, read_header, save_tensors
from vividtalk_core.training.loop.checkpoint import load_checkpoint
from vividtalk_core.training.loop.csv_log import TrainLog
from vividtalk_core.training.loop.interrupt import Interrupt
from vividtalk_core.training.loop.trainer import TrainSettings, _seed, train

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = TrainSettings(
    steps=24, batch=4, learning_rate=1e-2, warmup=4, ema=0.9, evaluate_every=6, log_every=5, cpu=True
)


class Regression:
    """The sum of four numbers, learned by a small network with dropout and a buffer."""

    def __init__(self, dropout=0.2):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Linear(8, 1))
        self.drawn, self.evaluations = [], 0

    def batch(self, generator, size):
        x = torch.randn(size, 4, generator=generator)
        self.drawn.append(x)
        return {"x": x, "y": x.sum(1, keepdim=True)}

    def losses(self, module, batch):
        error = module(batch["x"]) - batch["y"]
        return {"square": error.square().mean(), "absolute": 0.1 * error.abs().mean(), "_largest": error.abs().max()}

    def evaluate(self, module):
        assert not module.training and not torch.is_grad_enabled()
        self.evaluations += 1
        batch = self.batch(torch.Generator().manual_seed(99), 32)
        return {"score": self.losses(module, batch)["square"], "seen": len(batch["x"])}

    def save(self, path, module):
        save_tensors(path, {name: value.clone() for name, value in module.state_dict().items()})


class Given(Regression):
    """Evaluates to given scores; does something at a given step."""

    def __init__(self, scores=(), at=None, act=None):
        super().__init__()
        self.scores, self.at, self.act, self.step = list(scores), at, act, 0

    def losses(self, module, batch):
        self.step += module.training
        terms = super().losses(module, batch)
        return self.act(terms) if module.training and self.step == self.at else terms

    def evaluate(self, module):
        return {"score": self.scores.pop(0)} if self.scores else super().evaluate(module)


def rows(folder):
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_time(folder):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(folder)]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nothing interrupts: its task, folder, result and reports."""
    folder, task, reports = tmp_path_factory.mktemp("whole"), Regression(), []
    return task, folder, train(task, SETTINGS, folder, on_report=reports.append), reports


# ---- what a training does


def test_learns_and_returns_the_best_evaluation(whole):
    _, folder, best, _ = whole
    scores = {int(row["step"]): float(row["validation_score"]) for row in rows(folder) if row["validation_score"]}
    assert list(scores) == [6, 12, 18, 24]
    assert best["score"] == pytest.approx(min(scores.values()), rel=1e-5) and best["seen"] == 32
    assert scores[best["step"]] == min(scores.values()) < scores[6]


def test_log_holds_the_mean_of_every_term(whole):
    folder = whole[1]
    row = rows(folder)[0]
    assert list(row) == ["step", "seconds", "learning_rate", "loss", "grad_norm", "square", "absolute", "_largest",
                         "validation_score", "validation_seen"]  # fmt: skip
    assert row["step"] == "5" and row["validation_score"] == ""
    assert float(row["loss"]) == pytest.approx(float(row["square"]) + float(row["absolute"]), rel=1e-4)
    assert [int(r["step"]) for r in rows(folder) if r["loss"]] == [5, 10, 15, 20, 24]


def test_reports_are_the_rows_of_the_log(whole):
    _, folder, _, reports = whole
    assert [report.step for report in reports] == [int(row["step"]) for row in rows(folder)]
    assert {report.steps for report in reports} == {24}
    assert reports[0].values["learning_rate"] == SETTINGS.learning_rate_at(5)


class Painter(Regression):
    """A task that shows its last bias as a grey picture of 2 × 3 px, and draws numbers of its own for it."""

    def pictures(self, module):
        assert not module.training and not torch.is_grad_enabled()
        self.shown = float(module[3].bias.sigmoid())
        torch.rand(5)
        return torch.full((3, 2, 3), self.shown)


def test_pictures_of_the_evaluated_module(whole, tmp_path):
    task = Painter()
    assert train(task, SETTINGS, tmp_path) == whole[2]
    files = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == ["000006.png", "000012.png", "000018.png", "000024.png"]
    picture = cv2.imread(str(files[-1]))
    assert picture.shape == (2, 3, 3) and (picture == round(255 * task.shown)).all()
    mean = load_tensors(tmp_path / "last.safetensors")["average.3.bias"]
    assert task.shown == pytest.approx(float(mean.sigmoid())), "of the running mean"
    assert same(load_tensors(tmp_path / "last.safetensors"), load_tensors(whole[1] / "last.safetensors"))
    assert not (whole[1] / "pictures").exists(), "a task without pictures"


def test_equals_a_plain_loop(tmp_path):
    """Adam by hand on the same batches gives the same weights and the same running mean."""
    settings = replace(SETTINGS, steps=6, grad_clip=0.5, evaluate_every=6)
    task, plain = Regression(0.0), Regression(0.0)
    train(task, settings, tmp_path)
    module, mean = plain.module, {k: v.clone() for k, v in plain.module.named_parameters()}
    decayed = [w for w in module.parameters() if w.ndim > 1]
    others = [w for w in module.parameters() if w.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0}])
    for step in range(1, 7):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        batch = plain.batch(torch.Generator().manual_seed(_seed(0, "batch", step, 0)), 4)
        terms = plain.losses(module, batch)
        optimizer.zero_grad()
        (terms["square"] + terms["absolute"]).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizer.step()
        for name, weight in module.named_parameters():
            mean[name] = torch.lerp(mean[name], weight.detach(), 1 - min(0.9, (1 + step) / (10 + step)))
    for name, weight in task.module.named_parameters():
        torch.testing.assert_close(weight, dict(module.named_parameters())[name])
    best = load_tensors(tmp_path / "best.safetensors")
    for name, weight in mean.items():
        torch.testing.assert_close(best[name], weight.detach())


def test_best_file_is_of_the_best_evaluation(tmp_path):
    settings = replace(SETTINGS, ema=0.0)
    task = Given([3.0, 1.0, 2.0, 2.0])
    assert train(task, settings, tmp_path / "all") == {"score": 1.0, "step": 12}
    # with a schedule of 24 steps, the first 12 of it
    stop = Given([3.0, 1.0], at=13, act=lambda terms: {"square": terms["square"] * float("nan")})
    with pytest.raises(TrainingError):
        train(stop, settings, tmp_path / "half")
    half = load_tensors(tmp_path / "half" / "last.safetensors")
    module = {name[7:]: value for name, value in half.items() if name.startswith("module.")}
    assert same(load_tensors(tmp_path / "all" / "best.safetensors"), module)


def test_early_stop(tmp_path):
    task = Given([3.0, 1.0, 2.0, 2.0])
    assert train(task, replace(SETTINGS, patience=1), tmp_path)["step"] == 12
    assert rows(tmp_path)[-1]["step"] == "18"
    again = Given([0.5])
    assert train(again, replace(SETTINGS, patience=1), tmp_path)["step"] == 12, "it has stopped"
    assert train(again, replace(SETTINGS, patience=2), tmp_path) == {"score": 0.5, "step": 24}, "it may go on"


def test_schedule():
    settings = TrainSettings(steps=100, warmup=10, learning_rate=1.0, final_rate=0.1)
    rates = [settings.learning_rate_at(step) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert rates[54] == pytest.approx(0.55) and rates[-1] == pytest.approx(0.1)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert TrainSettings(steps=1, warmup=0).learning_rate_at(1) > 0


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_precision(tmp_path, precision):
    seen = []
    task = Regression()
    task.module[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    train(task, replace(SETTINGS, steps=2, precision=precision, ema=0.0), tmp_path)
    assert seen[0] == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert all(w.dtype == torch.float32 for w in task.module.parameters())


def test_random_numbers_of_the_caller_are_kept(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(Regression(), replace(SETTINGS, steps=2), tmp_path)
    assert torch.equal(torch.rand(3), expected)


# ---- the same seed, the same training


def test_same_seed_same_weights(whole, tmp_path):
    train(Regression(), SETTINGS, tmp_path / "again")
    train(Regression(), replace(SETTINGS, seed=1), tmp_path / "other")
    first, again, other = (
        load_tensors(f / "best.safetensors") for f in (whole[1], tmp_path / "again", tmp_path / "other")
    )
    assert same(first, again) and not same(first, other)
    assert without_time(tmp_path / "again") == without_time(whole[1])


def test_prefetch_draws_the_same_batches(whole, tmp_path):
    train(Regression(), replace(SETTINGS, prefetch=3), tmp_path)
    assert same(load_tensors(tmp_path / "best.safetensors"), load_tensors(whole[1] / "best.safetensors"))


def test_prefetch_passes_errors_on(tmp_path):
    task = Regression()
    task.batch = lambda generator, size: [][1]
    with pytest.raises(IndexError):
        train(task, replace(SETTINGS, prefetch=2), tmp_path)


@pytest.mark.parametrize("at", [1, 6, 7, 15])
def test_interrupted_is_as_never_interrupted(whole, tmp_path, at):
    def press(terms):
        os.kill(os.getpid(), signal.SIGINT)
        return terms

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(Given(at=at, act=press), SETTINGS, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert f'"step": {at},' in read_header(tmp_path / "last.safetensors")["progress"]
    task = Regression()
    assert train(task, SETTINGS, tmp_path) == whole[2]
    assert same(load_tensors(tmp_path / "best.safetensors"), load_tensors(whole[1] / "best.safetensors"))
    assert same(load_tensors(tmp_path / "last.safetensors"), load_tensors(whole[1] / "last.safetensors"))
    assert same(task.module.state_dict(), whole[0].module.state_dict())
    assert without_time(tmp_path) == without_time(whole[1])


def test_killed_after_a_checkpoint_repeats_the_lost_steps(whole, tmp_path):
    def fail(terms):
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(Given(at=17, act=fail), SETTINGS, tmp_path)
    assert rows(tmp_path)[-1]["step"] == "15", "a row of work that is lost"
    train(Regression(), SETTINGS, tmp_path)
    assert same(load_tensors(tmp_path / "last.safetensors"), load_tensors(whole[1] / "last.safetensors"))
    assert without_time(tmp_path) == without_time(whole[1])


def test_no_resume_starts_again(whole, tmp_path):
    train(Regression(), replace(SETTINGS, seed=1), tmp_path)
    train(Regression(), SETTINGS, tmp_path, resume=False)
    assert same(load_tensors(tmp_path / "last.safetensors"), load_tensors(whole[1] / "last.safetensors"))
    assert without_time(tmp_path) == without_time(whole[1])


def test_finished_training_is_not_repeated(tmp_path):
    first = train(Regression(), SETTINGS, tmp_path)
    task = Regression()
    assert train(task, SETTINGS, tmp_path) == first
    assert not task.drawn
    assert train(task, replace(SETTINGS, steps=30), tmp_path)["step"] == 30, "more steps may follow"


def test_tied_and_frozen_weights_survive_a_checkpoint(tmp_path):
    def make():
        task = Regression()
        task.module[3].weight = nn.Parameter(torch.ones(1, 8), requires_grad=False)
        task.module.append(nn.Linear(1, 1))
        task.module[4].weight = task.module[4].bias = nn.Parameter(torch.ones(1, 1))
        return task

    task = make()
    train(task, replace(SETTINGS, steps=12), tmp_path)
    assert torch.equal(task.module[3].weight, torch.ones(1, 8))
    again = make()
    train(again, replace(SETTINGS, steps=13), tmp_path)
    assert again.module[4].weight is again.module[4].bias and again.module[4].weight.item() != 1


# ---- several processes


def test_two_processes_average_their_gradients(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path)]
    workers = [
        subprocess.Popen(
            command,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)
    first, second = (load_tensors(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1))
    assert same(first, second)
    assert int(rows(tmp_path)[-1]["step"]) == 6 and (tmp_path / "best.safetensors").is_file()

    plain = TwoBranches()  # both batches at once: the mean over them is the mean of the two gradients
    optimizer = torch.optim.AdamW(plain.module.parameters(), weight_decay=0)
    for step in range(1, 7):
        drawn = [plain.batch(torch.Generator().manual_seed(_seed(0, "batch", step, rank)), 4) for rank in (0, 1)]
        batch = {name: torch.cat([part[name] for part in drawn]) for name in drawn[0]}
        optimizer.param_groups[0]["lr"] = PROCESSES.learning_rate_at(step)
        optimizer.zero_grad()
        plain.losses(plain.module, batch)["square"].backward()
        optimizer.step()
    for name, value in plain.module.state_dict().items():
        torch.testing.assert_close(first[name], value)


class TwoBranches(Regression):
    """Calls a part of its module by name and never uses another, as the tasks of this pack do."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.module = nn.ModuleDict({"used": nn.Linear(4, 1), "unused": nn.Linear(4, 1)})

    def losses(self, module, batch):
        return {"square": (module["used"](batch["x"]) - batch["y"]).square().mean()}


PROCESSES = replace(SETTINGS, steps=6, ema=0.0, grad_clip=0.0, weight_decay=0.0, evaluate_every=3)


def worker(out):
    """One of the processes of the test above."""
    task = TwoBranches()
    train(task, PROCESSES, out)
    save_tensors(out / f"rank{os.environ['RANK']}.safetensors", task.module.state_dict())


# ---- what can go wrong


def test_nan_names_step_and_term(tmp_path):
    def spoil(terms):
        return terms | {"absolute": terms["absolute"] * float("nan"), "_largest": torch.tensor(float("inf"))}

    message = r"step 8: the loss term 'absolute' is nan; the learning rate was 0.00905, try a lower one"
    task = Given(at=8, act=spoil)
    with pytest.raises(TrainingError, match=message):
        train(task, SETTINGS, tmp_path)
    assert all(value.isfinite().all() for value in task.module.state_dict().values())


def test_infinite_gradient_is_found_before_it_spoils_the_weights(tmp_path):
    task = Given(at=3, act=lambda terms: {"root": (terms["square"] * 0).sqrt()})
    with pytest.raises(TrainingError, match=r"step 3: the gradient is nan though the losses \{'root': 0.0\}"):
        train(task, SETTINGS, tmp_path)
    assert all(value.isfinite().all() for value in task.module.state_dict().values())


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (lambda t: {"_only": t["square"]}, r"no loss term to minimise.*got \['_only'\]"),
        (lambda t: {"wide": t["square"].expand(3)}, r"must be one number; got the shapes \{'wide': \[3\]\}"),
    ],
)
def test_bad_terms(tmp_path, terms, message):
    with pytest.raises(ValueError, match=message):
        train(Given(at=1, act=terms), SETTINGS, tmp_path)


@pytest.mark.parametrize("metrics", [{"other": 1.0}, {"score": float("nan")}])
def test_bad_metrics(tmp_path, metrics):
    task = Regression()
    task.evaluate = lambda module: metrics
    with pytest.raises(ValueError, match="step 6: the score must be a finite number; the metrics are"):
        train(task, SETTINGS, tmp_path)


def test_nothing_to_train(tmp_path):
    task = Regression()
    task.module.requires_grad_(False)
    with pytest.raises(ValueError, match="Sequential has no weights that require a gradient"):
        train(task, SETTINGS, tmp_path)


def test_another_training_does_not_continue_here(tmp_path):
    train(Regression(), replace(SETTINGS, steps=6), tmp_path)
    with pytest.raises(ValueError, match=r"batch was 4 and is 5, ema was 0.9 and is 0.5\): use --no-resume"):
        train(Regression(), replace(SETTINGS, batch=5, ema=0.5), tmp_path)
    other = Regression()
    other.module[0] = nn.Linear(4, 8, bias=False)
    with pytest.raises(ValueError, match="is of another model: use --no-resume or another folder"):
        train(other, SETTINGS, tmp_path)


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "last.safetensors"
    save_tensors(path, {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="is no training checkpoint of format 1"):
        train(Regression(), SETTINGS, tmp_path)
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_checkpoint(path, {}, None, SETTINGS)


@pytest.mark.parametrize("change", [{"progress": "{"}, {"progress": '{"pace": 1}'}, {"settings": "1"}])
def test_a_damaged_checkpoint(tmp_path, change):
    train(Regression(), replace(SETTINGS, steps=6), tmp_path)
    path = tmp_path / "last.safetensors"
    save_tensors(path, load_tensors(path), read_header(path) | change)
    with pytest.raises(WeightsError, match=r"is damaged .*: use --no-resume or another folder"):
        train(Regression(), SETTINGS, tmp_path)


def test_without_accelerate(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"pip install 'vividtalk\[train\]'"):
        train(Regression(), SETTINGS, tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("steps", 0, "at least 1"),
        ("log_every", -1, "at least 1"),
        ("warmup", -1, "0 or more"),
        ("grad_clip", float("inf"), "0 or more"),
        ("learning_rate", 0.0, "above 0"),
        ("ema", 1.0, "0 or more and below 1"),
        ("precision", "fp8", "one of no, fp16, bf16"),
    ],
)
def test_bad_settings(name, value, rule):
    with pytest.raises(ValueError, match=f"{name} must be {rule}; got .*{value}"):
        replace(SETTINGS, **{name: value})


# ---- its parts


def test_log_grows_columns(tmp_path):
    log = TrainLog(tmp_path / "log.csv")
    log.add({"step": 1, "a": 0.5})
    log.add({"step": 2, "b": 2.0})
    log.add({"step": 3, "a": 1 / 3})
    assert (tmp_path / "log.csv").read_text().split() == ["step,a,b", "1,0.5,", "2,,2", "3,0.333333,"]
    assert [row["step"] for row in TrainLog(tmp_path / "log.csv", last_step=2).rows] == ["1", "2"]
    assert (tmp_path / "log.csv").read_text().split()[-1] == "2,,2"


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "step\nfirst\n", "\udcff"])
def test_a_file_that_is_no_log(tmp_path, text):
    (tmp_path / "log.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(DatasetError, match="is not the log of a training"):
        TrainLog(tmp_path / "log.csv", last_step=2)


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, even where the tests run in the background and the shell ignores it for them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_second_interrupt_is_at_once():
    with pytest.raises(KeyboardInterrupt), Interrupt():
        usual = signal.getsignal(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        # two signals that come before Python looks for the first one are one to it
        while signal.getsignal(signal.SIGTERM) is usual:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_trains_in_a_thread(tmp_path):
    results = []
    job = threading.Thread(target=lambda: results.append(train(Regression(), replace(SETTINGS, steps=2), tmp_path)))
    job.start()
    job.join()
    assert results[0]["step"] == 2


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
