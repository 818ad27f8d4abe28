"""The training loop of every model: on a CPU, one GPU, or several processes through Hugging Face Accelerate."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from ...errors import MissingPackageError, SettingsError, TrainingError
from .checkpoint import TrainingState, load_checkpoint, save_checkpoint
from .csv_log import TrainLog
from .image_grid import write_grid
from .interrupt import Interrupt
from .settings import TrainSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Report", "Task", "TrainSettings", "train"]

LAST, BEST, LOG, PICTURES = "last.safetensors", "best.safetensors", "log.csv", "pictures"


class Task(Protocol):
    """A model to train, its data, its losses and its metrics.

    A task may also have `pictures(module) -> Tensor` [3, H, W] in 0..1: what the evaluated module (in eval mode, no
    gradients) makes of held-out data. The trainer calls it after each evaluation and keeps it as a PNG file.
    """

    module: nn.Module  # its weights that require a gradient are trained

    def batch(self, generator: torch.Generator, size: int) -> dict[str, Tensor]:
        """`size` examples [B, ...] on the CPU, from which the trainer moves them; the generator makes every choice."""
        ...

    def losses(self, module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named terms of shape [], already weighted, whose sum is minimised; a term named "_…" is only logged."""
        ...

    def evaluate(self, module: nn.Module) -> dict[str, float]:
        """Metrics of the module (in eval mode, no gradients) on held-out data; the lower "score", the better."""
        ...

    def save(self, path: Path, module: nn.Module) -> None:
        """Write the weights file that inference loads."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """A row of the log."""

    step: int
    steps: int  # of the whole training
    seconds: float  # since its start, interruptions not counted
    values: dict[str, float]  # learning_rate, grad_norm, loss and each of its terms, validation_… metrics


def train(
    task: Task,
    settings: TrainSettings,
    out: Path,
    resume: bool = True,
    on_report: Callable[[Report], None] | None = None,
) -> dict[str, float]:
    """Train a task's module.

    Writes into `out`: log.csv, last.safetensors (all that resuming needs), best.safetensors (`task.save` of the best
    evaluation) and, if the task makes pictures, pictures/<step>.png. Under torchrun every process calls this with the
    same arguments; only the first writes.

    Args:
        task: module, data, losses and metrics.
        settings: see `TrainSettings`.
        out: a folder, made if it does not exist.
        resume: continue from last.safetensors if it is there; on one CPU the weights then are those of a training
            that was never interrupted, bit for bit.
        on_report: called with every row of the log, in the first process.

    Returns:
        The metrics of the best evaluation and its "step". `task.module` holds the last weights, not the best.

    Raises:
        TrainingError: a loss term, the gradient or the score is NaN or infinite.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the step is finished and the checkpoint written.
        MissingPackageError: the package accelerate is missing.
        WeightsError: the checkpoint is damaged or of another model.
        SettingsError: the checkpoint is of a training with other settings.
    """
    accelerator = _make_accelerator(settings)
    with _kept_random_state(accelerator.device), Interrupt() as interrupt:
        run = _Run(task, settings, Path(out), accelerator, on_report or (lambda report: None))
        run.start(resume)
        for batch in _draw_batches(task, settings, run.state.step, accelerator.process_index):
            if run.is_stale():
                break
            run.step(batch)
            if interrupt.is_asked(accelerator):
                run.save()
                raise KeyboardInterrupt
        accelerator.wait_for_everyone()
    return run.state.best


def _make_accelerator(settings: TrainSettings) -> Accelerator:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise MissingPackageError("training needs the package accelerate: pip install 'vividtalk[train]'") from error
    # Its state is global: without this a second training in one process could not choose another precision.
    AcceleratorState._reset_state()
    # what a step leaves out (a dropped style, a branch whose loss is off) has no gradient in that step
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=settings.cpu, mixed_precision=settings.precision, kwargs_handlers=[unused])


class _Losses(nn.Module):
    """The task's losses as a forward pass, so that gradients are averaged however the task calls its module."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.module
        self._losses = task.losses

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss terms, of shape [], of a batch of tensors [B, ...]."""
        return self._losses(self.module, batch)


class _Run:
    """One training: the module, its running mean, the optimizer and the state."""

    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        out: Path,
        accelerator: Accelerator,
        on_report: Callable[[Report], None],
    ) -> None:
        self.task, self.settings, self.out, self.accelerator = task, settings, out, accelerator
        self.on_report = on_report
        self.state = TrainingState()
        self.modules = {"module": task.module.to(accelerator.device)}
        if settings.ema:
            self.modules["average"] = copy.deepcopy(task.module).requires_grad_(False)
        self.losses, self.optimizer = accelerator.prepare(_Losses(task), _make_optimizer(task.module, settings))

    def start(self, resume: bool) -> None:
        """Read the checkpoint, if there is one, and open the log."""
        path = self.out / LAST
        if resume and path.is_file():
            self.state = load_checkpoint(path, self.modules, self.optimizer.optimizer, self.settings)
            if self.accelerator.scaler is not None and self.state.scaler:
                self.accelerator.scaler.load_state_dict(self.state.scaler)
        # All must have read before the first process writes.
        self.accelerator.wait_for_everyone()
        self.log = None
        if self.accelerator.is_main_process:
            self.out.mkdir(parents=True, exist_ok=True)
            self.log = TrainLog(self.out / LOG, self.state.step)

    def is_stale(self) -> bool:
        """Whether the score has not improved for too long."""
        return 0 < self.settings.patience <= self.state.stale

    def step(self, batch: dict[str, Tensor]) -> None:
        """One update from a batch of tensors [B, ...], and what is due after it."""
        began, state, settings = time.perf_counter(), self.state, self.settings
        number = state.step + 1
        # A seed for each step, so that a training that continues at step n draws what it would have drawn without the
        # interruption; and one for each process, whose dropout should differ.
        torch.manual_seed(_seed(settings.seed, "dropout", number, self.accelerator.process_index))
        self._update(number, {name: value.to(self.accelerator.device) for name, value in batch.items()})
        state.step = number
        row: dict[str, float] = {}
        is_last = number == settings.steps
        is_evaluation = is_last or number % settings.evaluate_every == 0
        if is_last or number % settings.log_every == 0:
            row |= self._mean_losses()
        if is_evaluation:
            row |= {f"validation_{name}": value for name, value in self._evaluate().items()}
        state.seconds += time.perf_counter() - began
        # The row before the checkpoint: if the power fails in between, the log drops rows that are newer than the
        # checkpoint.
        self._report(row)
        if is_evaluation:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, from the first process."""
        if not self.accelerator.is_main_process:
            return
        if self.accelerator.scaler is not None:
            self.state.scaler = self.accelerator.scaler.state_dict()
        optimizer = self.optimizer.optimizer
        save_checkpoint(self.out / LAST, self.modules, optimizer, self.state, self.settings)

    def _update(self, number: int, batch: dict[str, Tensor]) -> None:
        """Change the weights once, from a batch of tensors [B, ...]."""
        settings = self.settings
        rate = settings.learning_rate_at(number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # At every step, because an evaluation leaves the module in eval mode.
        self.task.module.train()
        terms = self.losses(batch)
        loss = _add_terms(terms)
        values = _to_numbers(terms)
        # Before the update, so that NaN never gets into the weights; the last checkpoint and the weights stay usable.
        _check_finite(number, values, rate)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.task.module.parameters(), settings.grad_clip or math.inf)
        norm = float(norm)
        # With fp16 a gradient that overflows is expected now and then: the scaler skips the step and lowers its
        # factor.
        if not math.isfinite(norm) and self.accelerator.scaler is None:
            raise TrainingError(f"step {number}: the gradient is {norm} though the losses {values} are finite")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average(number)
        for name, value in ({"loss": loss.item(), "grad_norm": norm} | values).items():
            self.state.sums[name] = self.state.sums.get(name, 0.0) + value
        self.state.count += 1

    @torch.no_grad()
    def _average(self, number: int) -> None:
        if "average" not in self.modules:
            return
        average, module = self.modules["average"], self.modules["module"]
        # As TensorFlow's ExponentialMovingAverage: the first weights, which are random, soon lose their influence.
        decay = min(self.settings.ema, (1 + number) / (10 + number))
        for mean, weight in zip(average.parameters(), module.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)
        for kept, buffer in zip(average.buffers(), module.buffers(), strict=True):
            # Buffers are not averaged: they hold counts, and means that move by themselves.
            kept.copy_(buffer)

    def _mean_losses(self) -> dict[str, float]:
        """Mean of each term since the last row, over all processes."""
        state = self.state
        sums = torch.tensor(list(state.sums.values()), device=self.accelerator.device) / state.count
        means = self.accelerator.reduce(sums, reduction="mean").tolist()
        row = dict(zip(state.sums, means, strict=True))
        state.sums, state.count = {}, 0
        return {"learning_rate": self.settings.learning_rate_at(state.step)} | row

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        """Metrics, computed in the first process, and whether they are the best so far, in all processes."""
        metrics: dict[str, float] = {}
        if self.accelerator.is_main_process:
            # The same seed every time: scores may differ only because the weights do.
            torch.manual_seed(_seed(self.settings.seed, "evaluate", 0, 0))
            module = self.modules.get("average", self.modules["module"]).eval()
            metrics = {name: float(value) for name, value in self.task.evaluate(module).items()}
            if not math.isfinite(metrics.get("score", math.nan)):
                raise TrainingError(
                    f"step {self.state.step}: the score must be a finite number; the metrics are {metrics}"
                )
            if metrics["score"] < self.state.best.get("score", math.inf):
                self.state.best = metrics | {"step": self.state.step}
                self.task.save(self.out / BEST, module)
            self._write_pictures(module)
        # Every process must stop after the same step, but only the first one knows the score.
        best = self._from_first(round(self.state.best.get("step", 0)))
        self.state.stale = 0 if best == self.state.step else self.state.stale + 1
        return metrics

    def _write_pictures(self, module: nn.Module) -> None:
        pictures = getattr(self.task, "pictures", None)
        if pictures is None:
            return
        folder = self.out / PICTURES
        folder.mkdir(exist_ok=True)
        write_grid(folder / f"{self.state.step:06d}.png", pictures(module))

    def _from_first(self, number: int) -> int:
        """A number of the first process, in all processes."""
        # A sum to which only the first process contributes: it works with every backend that can add.
        mine = number if self.accelerator.is_main_process else 0
        return int(self.accelerator.reduce(torch.tensor(mine, device=self.accelerator.device), reduction="sum"))

    def _report(self, row: dict[str, float]) -> None:
        if not row or self.log is None:
            return
        state = self.state
        self.log.add({"step": state.step, "seconds": round(state.seconds, 3)} | row)
        self.on_report(Report(state.step, self.settings.steps, state.seconds, row))


def _make_optimizer(module: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    if not weights:
        raise SettingsError(f"{type(module).__name__} has no weights that require a gradient: nothing can be trained")
    groups = [
        # Decay pulls weights towards 0, which makes no sense for the gain of a norm, and little for a bias.
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate)


def _add_terms(terms: dict[str, Tensor]) -> Tensor:
    """The sum of all terms, each of shape [], without those that are only logged."""
    shapes = {name: list(value.shape) for name, value in terms.items() if value.ndim}
    if shapes:
        raise ValueError(f"every loss term must be one number; got the shapes {shapes}")
    parts = [value for name, value in terms.items() if not name.startswith("_")]
    if not parts:
        raise ValueError(f"there is no loss term to minimise: those named '_…' are only logged; got {sorted(terms)}")
    return torch.stack([part.float() for part in parts]).sum()


def _to_numbers(terms: dict[str, Tensor]) -> dict[str, float]:
    """The terms, each of shape [], as numbers."""
    # Stacked, because each conversion to a number waits for the GPU: one wait instead of one for every term.
    stacked = torch.stack([value.detach().float() for value in terms.values()])
    return dict(zip(terms, stacked.tolist(), strict=True))


def _check_finite(number: int, values: dict[str, float], rate: float) -> None:
    bad = [f"'{name}' is {v}" for name, v in values.items() if not (math.isfinite(v) or name.startswith("_"))]
    if bad:
        raise TrainingError(
            f"step {number}: the loss term {' and '.join(bad)}; the learning rate was {rate:.3g}, try a lower one "
            "or look at the batch"
        )


def _seed(seed: int, what: str, step: int, rank: int) -> int:
    """One of 2⁶³ seeds for each purpose, step and process."""
    # A hash, so that no two purposes, steps or processes share their numbers; not Python's own, which differs between
    # processes. The shift leaves 63 bits, because torch takes signed numbers.
    digest = hashlib.blake2b(f"{seed}/{what}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _draw_batches(task: Task, settings: TrainSettings, done: int, rank: int) -> Iterator[dict[str, Tensor]]:
    """The batches, tensors [B, ...], of steps done + 1 … steps, the same ones whether drawn ahead or not."""

    def draw(step: int) -> dict[str, Tensor]:
        """The batch of a step, tensors [B, ...]."""
        return task.batch(torch.Generator().manual_seed(_seed(settings.seed, "batch", step, rank)), settings.batch)

    steps = range(done + 1, settings.steps + 1)
    if not settings.prefetch:
        yield from map(draw, steps)
        return
    # One thread: batches are needed in their order, and a second one would compete with the step for the CPU.
    pool = ThreadPoolExecutor(1)
    try:
        # Every batch has a generator of its own, so that drawing ahead cannot change what is drawn.
        ahead = [pool.submit(draw, step) for step in steps[: settings.prefetch]]
        for step in steps:
            batch = ahead.pop(0).result()
            if step + settings.prefetch <= settings.steps:
                ahead.append(pool.submit(draw, step + settings.prefetch))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _kept_random_state(device: torch.device) -> Iterator[None]:
    """Give torch's own random numbers back as they were: the loop seeds them for dropout."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
