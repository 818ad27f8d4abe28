"""The networks of stage 1, each loaded at its first use."""

from __future__ import annotations

import copy
from functools import cached_property

import torch

from ..audio.encoder import MEL, WHISPER
from ..errors import WeightsError
from ..hub import WeightSet, load_module
from ..settings import ACOUSTIC
from .expression import ExpressionConfig, ExpressionGenerator
from .pose_sampler import PoseSampler, PoseSamplerConfig

# Modes of the expression generator: a window of sound at once, or the paper's autoregression over past motion.
EXPRESSION_FILES = {"parallel": "expression.safetensors", "causal": "expression_causal.safetensors"}
MEL_FILE = "expression_mel.safetensors"  # the parallel form for the log-mel alone, without a speech encoder
POSE_FILE = "pose.safetensors"


class AudioToMeshModels:
    """Expression generators by mode, and the pose sampler.

    Args:
        weights: where the files are.
        device: of the expression generators; the pose sampler stays on the CPU, so that a seed means one motion
            on any device.
    """

    def __init__(self, weights: WeightSet, device: torch.device | str = "cpu") -> None:
        self.weights, self.device = weights, torch.device(device)
        self._expression: dict[str, ExpressionGenerator] = {}  # by file

    @property
    def modes(self) -> tuple[str, ...]:
        """Names of the modes that the weight set has files for."""
        return tuple(mode for mode, file in EXPRESSION_FILES.items() if file in self.weights)

    def expression(self, mode: str, encoder: str = WHISPER) -> ExpressionGenerator:
        """The expression generator of a mode, for features of an encoder; WeightsError if the set has none."""
        if mode not in self.modes:
            known = ", ".join((*self.modes, ACOUSTIC))
            raise WeightsError(
                f"There is no expression mode '{mode}' in the weights '{self.weights.source}': choose {known}."
            )
        file = EXPRESSION_FILES[mode]
        # a user's own weights of the mode come before the pack's network for the mel
        if mode == "parallel" and encoder == MEL and (MEL_FILE in self.weights.files or file not in self.weights.files):
            file = MEL_FILE
        if file not in self._expression:
            network = load_module(ExpressionGenerator, ExpressionConfig, self.weights.file(file))
            self._expression[file] = network.to(self.device)
        return self._expression[file]

    @property
    def has_pose(self) -> bool:
        """Whether the weight set has a pose sampler."""
        return POSE_FILE in self.weights

    @cached_property
    def pose(self) -> PoseSampler:
        """The pose sampler; WeightsError if the set has none."""
        if not self.has_pose:
            raise WeightsError(
                f"pose 'codebook' needs the weights '{POSE_FILE}', which the set '{self.weights.source}' does not "
                "contain; use the idle pose, or load a set that has them"
            )
        return load_module(PoseSampler, PoseSamplerConfig, self.weights.file(POSE_FILE))

    def to(self, device: torch.device | str) -> AudioToMeshModels:
        """The same networks on another device; these stay where they are."""
        moved = AudioToMeshModels(self.weights, device)
        # copies, because `Module.to` would move the caller's networks themselves
        moved._expression = {file: copy.deepcopy(net).to(device) for file, net in self._expression.items()}
        return moved
