"""What can be trained: the name on the command line, where it is, and its settings."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """One model that can be trained. Its module is imported only when it is asked for: torch takes seconds."""

    module: str  # of this package; it has `task(data, settings)` and may have TRAINING, defaults of the loop
    settings: str  # name of its settings dataclass
    help: str  # one line of the command's help

    def load(self) -> tuple[ModuleType, Any]:
        """The module of the task and its default settings."""
        module = importlib.import_module(f".{self.module}", __package__)
        return module, getattr(module, self.settings)()


TASKS = {
    "expression": TaskEntry("expression", "ExpressionSettings", "audio and α → expression curves and lip offsets"),
    "pose-codebook": TaskEntry("pose_vqvae", "PoseCodebookSettings", "the codebook of head motion (VQ-VAE)"),
    "pose": TaskEntry("pose_sampler", "PoseSettings", "audio and α → codes of head motion"),
    "motion": TaskEntry("motion_vae", "MotionSettings", "meshes → dense motion (motion-VAE)"),
    "generator": TaskEntry("generator", "GeneratorSettings", "the warped portrait → frames"),
    "sync": TaskEntry("sync_expert", "SyncSettings", "the sync expert: whether lips and sound belong together"),
}
