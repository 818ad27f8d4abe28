"""Sounds without speech: noise, hum and simple music, during which a mouth stays shut."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from ...structures import SAMPLE_RATE
from ..sampling import between, choice, ratio
from .channel import DECAY, equalise, make_noise

# Semitones above a root: triads, sevenths, and a bare fifth.
CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 11), (0, 3, 7, 10), (0, 7, 12))
HARMONICS = 8
EQUALISER_POINTS = 6


def make_no_speech(seconds: float, generator: Generator) -> Tensor:
    """A random sound without speech.

    Args:
        seconds: its length.
        generator: every random number comes from it.

    Returns:
        [N] float32 at 16 kHz with peaks of 0.5.
    """
    count = round(seconds * SAMPLE_RATE)
    # two at a time, because music comes with noise and drums with tones
    sound = sum(
        (level * choice(KINDS, generator)(count, generator) for level in (1.0, between((0.0, 0.7), generator))),
        torch.zeros(count),
    )
    sound = equalise(sound, 12 * (2 * torch.rand(EQUALISER_POINTS, generator=generator) - 1))
    return sound * (0.5 / sound.abs().amax().clamp(min=1e-9))


def _steady_noise(count: int, generator: Generator) -> Tensor:
    """[N] white or pink noise: wind, a fan, a street."""
    return make_noise(choice(("white", "pink"), generator), count, generator)


def _swelling_noise(count: int, generator: Generator) -> Tensor:
    """[N] noise as loud and as quiet as syllables, a few times a second: only its sound tells that nobody speaks."""
    return _steady_noise(count, generator) * _swells(count, between((0.5, 6.0), generator), generator)


def _hum(count: int, generator: Generator) -> Tensor:
    """[N] the hum of mains or a motor: a fundamental that hardly changes, with its harmonics."""
    hertz = ratio((40.0, 240.0), generator)
    return _tone(torch.full((count,), hertz), generator)


def _chords(count: int, generator: Generator) -> Tensor:
    """[N] chords, plucked or held, of 0.2 to 2 s each."""
    length = round(between((0.2, 2.0), generator) * SAMPLE_RATE)
    parts, done = [], 0
    decay_s = ratio((0.1, 10.0), generator)  # from plucked to held
    while done < count:
        root = ratio((65.0, 520.0), generator)
        t = torch.arange(length) / SAMPLE_RATE
        notes = [_tone(torch.full((length,), root * 2 ** (s / 12)), generator) for s in choice(CHORDS, generator)]
        # 10 ms from nothing to full, so that it does not click
        parts.append(torch.stack(notes).sum(0) * (t / 0.01).clamp(max=1) * torch.exp(-t / decay_s))
        done += length
    return _unit(torch.cat(parts)[:count])


def _melody(count: int, generator: Generator) -> Tensor:
    """[N] one voice of gliding notes with vibrato, as of a violin or a theremin."""
    steps = max(2, round(count / SAMPLE_RATE * between((1.0, 6.0), generator)))
    notes = 220 * 2 ** (torch.randint(-12, 25, (steps,), generator=generator) / 12)
    index = (torch.arange(count) * steps / count).long()
    hertz = notes[index]
    # glides of 50 ms
    width = round(0.05 * SAMPLE_RATE)
    padded = torch.nn.functional.pad(hertz[None, None], (width // 2, width - 1 - width // 2), mode="replicate")
    hertz = torch.nn.functional.avg_pool1d(padded, width, 1)[0, 0]
    t = torch.arange(count) / SAMPLE_RATE
    vibrato = 1 + 0.01 * torch.sin(2 * math.pi * between((4.0, 7.0), generator) * t)
    return _tone(hertz * vibrato, generator) * _swells(count, between((0.3, 3.0), generator), generator)


def _drums(count: int, generator: Generator) -> Tensor:
    """[N] strokes at a steady beat: bursts of noise, and low tones that die away."""
    beat = round(SAMPLE_RATE / between((1.5, 8.0), generator))
    t = torch.arange(min(count, SAMPLE_RATE // 2)) / SAMPLE_RATE
    drum = torch.sin(2 * math.pi * between((50.0, 200.0), generator) * t) * torch.exp(-t / 0.1)
    snare = torch.randn(len(t), generator=generator) * torch.exp(-t / between((0.01, 0.12), generator))
    sound = torch.zeros(count + len(t))
    for start in range(0, count, beat):
        stroke = drum if float(torch.rand(1, generator=generator)) < 0.5 else snare
        sound[start : start + len(t)] += stroke
    return _unit(sound[:count])


KINDS: tuple[Callable[[int, Generator], Tensor], ...] = (
    _steady_noise,
    _swelling_noise,
    _hum,
    _chords,
    _melody,
    _drums,
)


def _tone(hertz: Tensor, generator: Generator) -> Tensor:
    """[N] a tone of changing frequency [N] in Hz, with harmonics of random strength below half the sample rate."""
    phase = 2 * math.pi * hertz.double().cumsum(0) / SAMPLE_RATE
    rolloff = between((0.5, 3.0), generator)
    sound = torch.zeros(len(hertz))
    for k in range(1, HARMONICS + 1):
        level = float(torch.rand(1, generator=generator)) / k**rolloff
        sound += level * torch.sin(k * phase).float() * (k * hertz < SAMPLE_RATE / 2).float()
    return _unit(sound)


def _swells(count: int, hertz: float, generator: Generator) -> Tensor:
    """[N] a loudness between −20 dB and 0 that changes `hertz` times a second."""
    points = max(2, round(count / SAMPLE_RATE * hertz * 2))
    level = torch.rand(points, generator=generator)
    smooth = torch.nn.functional.interpolate(level[None, None], size=count, mode="linear")[0, 0]
    return torch.exp(-(DECAY / 3) * smooth)


def _unit(sound: Tensor) -> Tensor:
    """The sound [N] at RMS 1."""
    unit: Tensor = sound / sound.square().mean().sqrt().clamp(min=1e-9)
    return unit
