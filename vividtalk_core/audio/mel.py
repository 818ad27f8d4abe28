"""Log-mel energies: 80 bands of a 16 kHz signal, 100 times a second."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures import MEL_RATE, SAMPLE_RATE

BANDS = 80
# 25 ms hold two periods of a low voice.
WINDOW = 400  # samples
HOP = SAMPLE_RATE // MEL_RATE
# The next power of two above the window, for which the transform is fastest.
FFT = 512
# About 50 dB under the strongest band of a voice: levels below it are noise of the recording.
FLOOR = 1e-7
# One minute is transformed at once, so that the memory of the spectra does not grow with the sound.
BLOCK = 6_000  # mel frames


def log_mel(mono: Tensor) -> Tensor:
    """Natural-log mel energies of a 16 kHz signal.

    Frame i is centred at (i + 0.5)/100 s and depends on the 25 ms around it only.

    Args:
        mono: [N] float32 at 16 kHz.

    Returns:
        [M, 80] float32, M = ceil(N / 160).
    """
    frames = max(1, math.ceil(mono.shape[0] / HOP))
    # the window hangs over its hop equally on both sides, which puts frame i at (i + 0.5) hops
    before = (WINDOW - HOP) // 2
    padded = F.pad(mono, (before, frames * HOP + WINDOW - HOP - before - mono.shape[0]))
    window = torch.hann_window(WINDOW, device=mono.device)
    bank = mel_bank().to(mono.device)
    blocks = torch.split(padded.unfold(0, WINDOW, HOP), BLOCK)  # [K, 400] each
    # a Hann window sums to WINDOW / 2: divided by its square, levels do not depend on its length
    power = (torch.fft.rfft(block * window, FFT).abs().square() * (4 / WINDOW**2) for block in blocks)
    return torch.cat([(p @ bank.T + FLOOR).log() for p in power])


def band_centres() -> Tensor:
    """[80] Hz, where each band of a mel [M, 80] peaks."""
    return _band_edges()[1:-1]


def mel_bank() -> Tensor:
    """[80, 257] triangles of height 1 over the bins of a 512-point spectrum."""
    edges = _band_edges()[:, None]
    bins = torch.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0)


def _band_edges() -> Tensor:
    """[82] Hz for `mel_bank` [80, 257]: equal steps on the mel scale from 40 Hz to 8 kHz (HTK's formula)."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (40.0, SAMPLE_RATE / 2))
    return 700 * (10 ** (torch.linspace(low, high, BANDS + 2) / 2595) - 1)
