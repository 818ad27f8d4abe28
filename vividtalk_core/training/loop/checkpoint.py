"""An interrupted training in one safetensors file: weights, their running mean, the optimizer and the progress."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import SettingsError, WeightsError
from ...hub import load_tensors, read_header, save_tensors
from .settings import TrainSettings

FORMAT = "1"
# settings that may change when a training continues; any other change would make it another training
FREE = ("steps", "evaluate_every", "patience", "log_every", "prefetch", "cpu")


@dataclass(slots=True)
class TrainingState:
    """The progress of a training."""

    step: int = 0  # updates done
    seconds: float = 0.0  # spent on them, interruptions not counted
    best: dict[str, float] = field(default_factory=dict)  # metrics of the best evaluation and its "step"
    stale: int = 0  # evaluations since then
    sums: dict[str, float] = field(default_factory=dict)  # of each loss term since the last row of the log
    count: int = 0  # steps in those sums
    scaler: dict[str, float] = field(default_factory=dict)  # of the gradients, fp16 only


def save_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    settings: TrainSettings,
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: the .safetensors file.
        modules: by name; the optimizer trains the one named "module".
        optimizer: its state is stored under the names of the weights.
        state: goes into the header.
        settings: goes into the header, so that no other training continues from this file.
    """
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for name, _, values in _optimizer_states(modules["module"], optimizer):
        # Under the name of the weight and not its number: the numbers change when a module gets another part.
        tensors |= {f"optimizer.{key}.{name}": value for key, value in values.items()}
    header = {"format": FORMAT, "progress": json.dumps(asdict(state)), "settings": json.dumps(asdict(settings))}
    # safetensors refuses two names for one memory, which tied weights are
    save_tensors(path, {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, header)


def load_checkpoint(
    path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, settings: TrainSettings
) -> TrainingState:
    """Restore what `save_checkpoint` wrote into the modules and the optimizer, on their devices.

    Raises:
        WeightsError: the file is damaged, or of another model or another version.
        SettingsError: it is of a training with other settings.
    """
    header = read_header(path)
    if header.get("format") != FORMAT or not {"progress", "settings"} <= header.keys():
        raise WeightsError(f"'{path}' is no training checkpoint of format {FORMAT}: use --no-resume or another folder")
    try:
        progress, before = TrainingState(**json.loads(header["progress"])), dict(json.loads(header["settings"]))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"'{path}' is damaged ({error}): use --no-resume or another folder") from error
    # Before anything is copied: a refused file must not leave the modules half restored.
    _compare_settings(path, before, asdict(settings))
    tensors = load_tensors(path)
    try:
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, name))
    except RuntimeError as error:
        raise WeightsError(f"'{path}' is of another model: use --no-resume or another folder ({error})") from error
    states = _by_key(_below(tensors, "optimizer"))
    numbered = {
        number: {key: values[name] for key, values in states.items() if name in values}
        for name, number, _ in _optimizer_states(modules["module"], optimizer)
    }
    # The groups of the new optimizer: learning rate and weight decay come from the settings, only its memory from the
    # file.
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {n: s for n, s in numbered.items() if s}, "param_groups": groups})
    return progress


def _compare_settings(path: Path, found: dict[str, object], asked: dict[str, object]) -> None:
    other = [
        f"{name} was {found.get(name)} and is {value}"
        for name, value in asked.items()
        if name not in FREE and found.get(name) != value
    ]
    if other:
        raise SettingsError(f"'{path}' is of a training with other settings ({', '.join(other)}): use --no-resume")


def _below(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors, of any shape [...], whose names begin with "name.", without it."""
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _by_key(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """{"exp_avg.layer.weight": …} to {"exp_avg": {"layer.weight": …}}, tensors of any shape [...]."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        key, _, weight = name.partition(".")
        found.setdefault(key, {})[weight] = value
    return found


def _optimizer_states(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, int, dict[str, Tensor]]]:
    """Name, number in the optimizer's own count, and state of every weight, e.g. [O, I], that it trains."""
    # By identity, because the optimizer holds the weights themselves and no names.
    names = {id(weight): name for name, weight in module.named_parameters()}
    weights = (weight for group in optimizer.param_groups for weight in group["params"])
    for index, weight in enumerate(weights):
        yield names[id(weight)], index, optimizer.state.get(weight, {})
