"""How a training runs, whatever is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import SettingsError

PRECISIONS = ("no", "fp16", "bf16")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of `trainer.train`; the same ones give the same weights on one CPU, interrupted or not."""

    steps: int = 20_000  # updates of the weights
    batch: int = 32  # examples per update and process
    learning_rate: float = 3e-4  # at its highest, after the warm-up
    warmup: int = 200  # steps in which the learning rate rises from 0
    final_rate: float = 0.01  # learning rate of the last step, as a share of the highest (cosine in between)
    weight_decay: float = 0.01  # of matrices and kernels; biases and gains are never decayed
    grad_clip: float = 1.0  # longest gradient, as a norm over all weights; 0 = any
    ema: float = 0.0  # decay of the running mean of the weights, e.g. 0.999; that mean is what is kept; 0 = off
    seed: int = 0  # of batches, augmentation and dropout
    precision: str = "no"  # mixed precision: no, fp16 or bf16
    evaluate_every: int = 500  # steps between evaluations; a checkpoint is written at each
    patience: int = 10  # evaluations without a better score after which training stops; 0 = never
    log_every: int = 50  # steps per row of log.csv, which holds their mean
    prefetch: int = 0  # batches drawn ahead in a thread: useful where a GPU waits for the CPU
    cpu: bool = False  # stay on the CPU even where there is a GPU

    def __post_init__(self) -> None:
        check_counts(self, "steps", "batch", "evaluate_every", "log_every")
        check_weights(self, "warmup", "weight_decay", "grad_clip", "patience", "prefetch", "final_rate")
        # at 1 the running mean would keep its first weights for ever
        check_shares(self, "ema", below=True)
        _check("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0")
        _check("precision", f"'{self.precision}'", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step 1..steps: a linear rise, then half a cosine down to `final_rate`."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        # Loshchilov and Hutter 2017, without restarts.
        share = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * (1 + math.cos(math.pi * share)) / 2)


def check_counts(settings: object, *names: str) -> None:
    """SettingsError unless the named fields are 1 or more."""
    for name in names:
        _check(name, getattr(settings, name), getattr(settings, name) >= 1, "at least 1")


def check_weights(settings: object, *names: str) -> None:
    """SettingsError unless the named fields are finite and 0 or more."""
    for name in names:
        _check(name, getattr(settings, name), 0 <= getattr(settings, name) < math.inf, "0 or more")


def check_shares(settings: object, *names: str, below: bool = False) -> None:
    """SettingsError unless the named fields are between 0 and 1; with `below`, 1 itself is refused too."""
    rule = "0 or more and below 1" if below else "between 0 and 1"
    for name in names:
        value = getattr(settings, name)
        _check(name, value, 0 <= value < 1 if below else 0 <= value <= 1, rule)


def _check(name: str, value: object, fine: bool, rule: str) -> None:
    if not fine:
        raise SettingsError(f"{name} must be {rule}; got {value}")
