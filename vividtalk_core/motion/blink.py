"""Blinks and small eye movements: seeded, with the statistics of people who talk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ..errors import SettingsError
from ..filters import smoothstep
from ..structures import ARKIT_NAMES, Expression
from .gaze import add_gaze, gaze_shifts


@dataclass(frozen=True, slots=True)
class BlinkSettings:
    """How eyes blink and look around; times in seconds, strengths as coefficients 0..1."""

    per_minute: float = 24.0  # the median of 37 tracked people is 26, and half of them are between 19 and 40
    spread: float = 0.5  # standard deviation of the logarithm of the pauses between blinks
    shortest_pause_s: float = 1.2
    first_s: float = 0.5  # nobody blinks at the first frame
    # In 25 minutes of tracked speech, blinks were twice as frequent around the end of a phrase and around a turn of the
    # head as elsewhere.
    reach_s: float = 0.6  # blinks this near to such a moment come nearer
    pull: float = 0.5  # by this share of the distance
    phrase_lead_s: float = 0.12  # most come a little before the voice ends
    turn: float = 0.7  # coefficients per second at which the eyes turn against the head at 20°/s
    double_share: float = 0.06  # of blinks that are followed by another at once
    closing_s: float = 0.075  # shorter than the opening, as in people
    closed_s: float = 0.02
    opening_s: float = 0.12
    strength: float = 1.0
    squint: float = 0.12  # of eyeSquint and browDown that comes with a full blink
    gaze_amplitude: float = 0.06  # of eyeLook*; 0 = the eyes stay where the portrait's are
    gaze_pause_s: tuple[float, float] = (0.5, 2.4)
    saccade_s: float = 0.045


def add_blinks(
    expression: Expression,
    seed: int,
    settings: BlinkSettings = BlinkSettings(),
    phrase_ends: Sequence[float] = (),
) -> Expression:
    """Blinks and gaze on top of an expression [T, E]: lids by the larger value, directions of the eyes by their sum.

    They depend on the seed, on time and on the phrases nearby only: a longer clip begins exactly like a shorter one.

    Args:
        expression: T frames.
        seed: of blinks and gaze.
        settings: how often, how fast and how far.
        phrase_ends: when phrases end, in seconds (`audio.speech.phrase_ends`): people blink there more often, and
            where the eyes of the expression turn aside.

    Raises:
        SettingsError: blinks per minute outside of 0..60.
    """
    if not 0 <= settings.per_minute <= 60:
        raise SettingsError(f"blinks must be 0 to 60 per minute; got {settings.per_minute}.")
    seconds = (torch.arange(expression.frame_count, dtype=torch.float64) + 0.5) / expression.fps
    moments = [end - settings.phrase_lead_s for end in phrase_ends] + gaze_shifts(expression, settings.turn)
    lids = blink_curve(seconds, seed, expression.fps, settings, moments)
    curves = {
        ("eyeBlinkLeft", "eyeBlinkRight"): settings.strength * lids,
        ("eyeSquintLeft", "eyeSquintRight", "browDownLeft", "browDownRight"): settings.squint * lids,
    }
    coefficients = add_gaze(expression.coefficients, gaze_curve(seconds, seed, settings))
    for names, curve in curves.items():
        index = [ARKIT_NAMES.index(name) for name in names]
        # the larger of the two and not their sum: lids that are closed already must not close further
        coefficients[:, index] = torch.maximum(coefficients[:, index], curve[:, None].to(coefficients).clamp(0, 1))
    return replace(expression, coefficients=coefficients)


def blink_times(duration_s: float, seed: int, settings: BlinkSettings) -> list[float]:
    """When the lids are closed, in seconds, ascending."""
    if settings.per_minute == 0:
        return []
    # even seeds here, odd ones for the gaze: neither shifts when the other is changed
    generator = torch.Generator().manual_seed(2 * seed)
    mean_pause = max(60.0 / settings.per_minute - settings.shortest_pause_s, 0.05)
    # the mean of a log-normal distribution is its median · exp(σ²/2)
    median = mean_pause * math.exp(-(settings.spread**2) / 2)
    times: list[float] = []
    now = settings.first_s - settings.shortest_pause_s + settings.closing_s
    while True:
        # both are drawn in every round: the random numbers of later blinks do not depend on `double_share`
        normal, double = _draw(generator, torch.randn), _draw(generator, torch.rand)
        now += settings.shortest_pause_s + median * math.exp(settings.spread * normal)
        if now > duration_s:
            return times
        times.append(now)
        if double < settings.double_share:
            # the lids open completely before they close again
            now += 0.1 + settings.closing_s + settings.opening_s
            times.append(now)


def near_moments(times: Sequence[float], moments: Sequence[float], settings: BlinkSettings) -> list[float]:
    """Blinks, in seconds, of which those near one of the moments are moved nearer to it; their order stays."""
    moved = []
    for time in times:
        distances = [moment - time for moment in moments]
        nearest = min(distances, key=abs, default=math.inf)
        moved.append(time + settings.pull * nearest if abs(nearest) <= settings.reach_s else time)
    return moved


def _draw(generator: Generator, distribution: Callable[..., Tensor]) -> float:
    """One number, a tensor of shape [], in double precision: the same bits on every machine."""
    return float(distribution((), generator=generator, dtype=torch.float64))


def blink_curve(
    seconds: Tensor, seed: int, fps: float, settings: BlinkSettings, moments: Sequence[float] = ()
) -> Tensor:
    """How far the lids are closed, [T] 0..1, at each of the times [T] in s: a column of coefficients [T, E].

    The middle of a blink is moved to the centre of a frame: at 25 fps a blink between two frames would show no frame
    with closed lids.
    """
    lids = torch.zeros_like(seconds)
    # a blink after the end may begin before it, or be moved there
    lead_s = settings.closing_s + settings.closed_s + settings.reach_s
    times = blink_times(float(seconds[-1]) + lead_s if len(seconds) else 0.0, seed, settings)
    for time in near_moments(times, moments, settings):
        away = seconds - (math.floor(time * fps) + 0.5) / fps
        travel = torch.where(away < 0, settings.closing_s, settings.opening_s)
        # smooth at both ends: lids start and stop without a jump in speed
        lids = torch.maximum(lids, 1 - smoothstep((away.abs() - settings.closed_s / 2) / travel))
    return lids


def gaze_curve(seconds: Tensor, seed: int, settings: BlinkSettings) -> Tensor:
    """[T, 2] to the viewer's right and up, within ± gaze_amplitude, at the times [T] in s.

    The eyes rest for a random pause, jump to a random direction, and return to the middle in 45 % of the jumps.
    """
    gaze = seconds.new_zeros(len(seconds), 2)
    generator = torch.Generator().manual_seed(2 * seed + 1)
    duration_s = float(seconds[-1]) if len(seconds) else 0.0
    low, high = settings.gaze_pause_s
    now, here = settings.first_s, (0.0, 0.0)  # s, direction
    while now < duration_s and settings.gaze_amplitude > 0:
        # four numbers for each jump, even where not all are used: later jumps then do not depend on the kind of earlier
        # ones
        wait, side, rise, returning = (_draw(generator, torch.rand) for _ in range(4))
        away = 0.0 if returning < 0.45 else settings.gaze_amplitude
        # half as far up and down as to the sides: the eyes' own range is flatter than wide
        there = (away * (2 * side - 1), 0.5 * away * (2 * rise - 1))
        share = ((seconds - now) / settings.saccade_s).clamp(0, 1)[:, None]
        gaze = gaze + share * _difference(there, here, seconds)
        now, here = now + low + (high - low) * wait, there
    return gaze


def _difference(there: Sequence[float], here: Sequence[float], like: Tensor) -> Tensor:
    """`there` − `here`, with the number type of `like` [T, 2]."""
    return torch.tensor([b - a for a, b in zip(here, there, strict=True)], dtype=like.dtype)
