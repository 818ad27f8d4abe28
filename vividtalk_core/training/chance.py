"""Draws from an explicit generator; each takes exactly one number from it."""

from __future__ import annotations

import torch


def happens(probability: float, generator: torch.Generator) -> bool:
    """True with a probability 0..1."""
    return float(torch.rand(1, generator=generator)) < probability


def between(bounds: tuple[float, float], generator: torch.Generator) -> float:
    """A number of low..high, all as likely."""
    low, high = bounds
    return low + (high - low) * float(torch.rand(1, generator=generator))


def ratio(bounds: tuple[float, float], generator: torch.Generator) -> float:
    """A factor of low..high above 0, equal ratios as likely."""
    low, high = bounds
    return low * (high / low) ** float(torch.rand(1, generator=generator))


def choice(names: tuple[str, ...], generator: torch.Generator) -> str:
    """One of the names."""
    return names[int(torch.randint(len(names), (1,), generator=generator))]
