"""Random choices from an explicit generator, each of which takes exactly one number from it, and sampling weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

Option = TypeVar("Option")


def happens(probability: float, generator: torch.Generator) -> bool:
    """True with a probability 0..1."""
    return float(torch.rand(1, generator=generator)) < probability


def between(bounds: tuple[float, float], generator: torch.Generator) -> float:
    """A number of low..high, uniformly distributed."""
    low, high = bounds
    return low + (high - low) * float(torch.rand(1, generator=generator))


def ratio(bounds: tuple[float, float], generator: torch.Generator) -> float:
    """A factor of low..high above 0, its logarithm uniformly distributed."""
    low, high = bounds
    # Half and twice are equally strong changes, so the logarithm is what has to be uniform.
    share = float(torch.rand(1, generator=generator))
    return float(low * (high / low) ** share)


def choice(options: tuple[Option, ...], generator: torch.Generator) -> Option:
    """One of the options."""
    return options[int(torch.randint(len(options), (1,), generator=generator))]


def speaker_weights(clips: Sequence[tuple[str, int]], balance: float) -> Tensor:
    """Sampling weights of clips, of shape [C], given the speaker and the frames of each.

    A speaker is drawn by its frames to the power of `balance`: 1 = all frames alike, 0 = all speakers alike.
    """
    frames: Counter[str] = Counter()
    for speaker, count in clips:
        frames[speaker] += count
    # A clip gets its part of the speaker's weight by its own frames, so that all moments of one speaker are equally
    # probable.
    return torch.tensor([count * frames[speaker] ** (balance - 1) for speaker, count in clips])
