"""What can be trained: the name on the command line, the module, and its settings."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..loop.settings import TrainSettings
    from ..loop.trainer import Task


@dataclass(frozen=True, slots=True)
class LoadedTask:
    """One model that can be trained, with the defaults of its settings."""

    make: Callable[[Path, Any], Task]  # from a prepared folder and the settings
    settings: Any  # a dataclass: the model's own settings
    training: TrainSettings  # of the training loop


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """Where a task is. Its module is imported only when it is asked for, because torch takes seconds to import."""

    module: str  # of this package; it has `task(data, settings)` and may have TRAINING, defaults of the training loop
    settings: str  # name of its settings dataclass
    help: str  # one line of the command's help

    def load(self) -> LoadedTask:
        """Import the module of the task."""
        from ..loop.settings import TrainSettings

        # Only now, when the task is known: the help of the command must not wait for torch.
        module = importlib.import_module(f".{self.module}", __package__)
        training: TrainSettings = getattr(module, "TRAINING", TrainSettings())
        return LoadedTask(module.task, getattr(module, self.settings)(), training)


TASKS = {
    "expression": TaskEntry("expression", "ExpressionSettings", "audio and α → expression curves and lip offsets"),
    "pose-codebook": TaskEntry("pose_vqvae", "PoseCodebookSettings", "the codebook of head motion (VQ-VAE)"),
    "pose": TaskEntry("pose_sampler", "PoseSettings", "audio and α → codes of head motion"),
    "motion": TaskEntry("motion_vae", "MotionSettings", "meshes → dense motion (motion-VAE)"),
    "generator": TaskEntry("generator", "GeneratorSettings", "the warped portrait → frames"),
    "sync": TaskEntry("sync_expert", "SyncSettings", "the sync expert: whether lips and sound belong together"),
}
