"""What a log-mel says about a mouth: curves at 100 per second of loudness, opening, lip shape, hiss and closures.

No weights: a few bands, compared with the clip's own loud and quiet parts, so that quiet speakers, other microphones
and background noise are treated alike. The levels are taken from the whole clip; all else looks at a bounded window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures import MEL_RATE
from .mel import band_centres

# Hz. Voicing bar · first formant of closed, of open vowels · second of back, of front vowels · third · friction.
BANDS = (40, 270, 480, 850, 1350, 2000, 2900, 4300, 8000)
DECIBEL = math.log(10) / 10  # nats of log-energy
RANGE = 26 * DECIBEL  # what a band's energy falls from a wide open vowel to a closed mouth
NOISE_MARGIN = 5 * DECIBEL  # above the quiet parts of the clip: still background
LEAST_RANGE = 8 * DECIBEL  # a clip whose loud and quiet parts differ by less is not speech
# How far a band speaks for an open mouth. Open vowels are strong at 0.5–0.85 kHz (their F1) and from 1.3 to 2.9 kHz;
# a strong 0.27–0.48 kHz is the F1 of a nearly closed mouth, and of nasals.
OPENING = (0.1, -0.4, 0.5, -0.1, 0.5, 0.6, 0.1, 0.0)
# Spread (F2 high) against round lips (F2 low, energy between 0.27 and 0.48 kHz only).
SPREAD = (-0.1, -0.8, 0.0, -0.3, 0.9, 0.1, 0.4, 0.0)


@dataclass(frozen=True, eq=False, slots=True)
class Speech:
    """Curves at 100 per second, all [M]."""

    level: Tensor  # 0..1 loudness between the clip's background and its loud parts
    opening: Tensor  # 0 closed … 1 the clip's widest vowels
    spread: Tensor  # −1 round … +1 spread
    hiss: Tensor  # 0..1 friction without voice: teeth close together
    closure: Tensor  # 0..1 lips shut: silence, p, b, m


def analyse(mel: Tensor) -> Speech:
    """Curves of a log-mel [M, 80] at 100 frames per second."""
    bands = _band_energy(mel)
    loudness = bands[:, 1:7].logsumexp(-1)
    share = _above_background(bands, loudness)  # [M, 8] 0..1
    level = _above_background(loudness[:, None], loudness)[:, 0] * modulation(loudness)
    opening = (share @ share.new_tensor(OPENING)).clamp(min=0) * level.clamp(max=0.5) * 2
    loud = level > 0.5
    opening = opening / opening[loud].quantile(0.9) if loud.any() else opening
    tilt = share @ share.new_tensor(SPREAD)
    spread = torch.tanh(2 * (tilt - tilt[loud].median())) * level if loud.any() else torch.zeros_like(tilt)
    hiss = (share[:, 7] - share[:, 1:4].amax(-1)).clamp(0, 1) * (share[:, 7] > 0)
    closure = (1 - opening / 0.25).clamp(0, 1) * (1 - hiss)
    return Speech(level, opening.clamp(max=1.3), spread, hiss, closure)


def _band_energy(mel: Tensor) -> Tensor:
    """[M, 8] log-energies of the bands between the edges of `BANDS`."""
    edges = torch.bucketize(torch.tensor(BANDS[1:-1], dtype=torch.float32), band_centres()).tolist()
    return torch.stack([part.mean(-1) for part in mel.tensor_split(edges, -1)], -1)


def _above_background(bands: Tensor, loudness: Tensor) -> Tensor:
    """Energies [M, K] as 0 (the clip's background, or `RANGE` under its loud parts) … 1 (its loud parts)."""
    top = loudness.quantile(0.98)
    loud = bands[loudness > top - 15 * DECIBEL].quantile(0.9, 0)
    background = bands.quantile(0.1, 0)
    low = torch.maximum(loud - RANGE, background + NOISE_MARGIN).minimum(loud - LEAST_RANGE)
    return ((bands - low) / (loud - low)).clamp(0, 1.2)


def modulation(loudness: Tensor, window_s: float = 1.2) -> Tensor:
    """[M] 0..1, whether the loudness [M] moves as speech does: 0 for steady noise, which must not open the mouth."""
    reach = round(window_s * MEL_RATE / 2)
    smooth = blur(loudness[:, None], 2, 2)[:, 0]
    span = _extreme(smooth, reach) + _extreme(-smooth, reach)
    return ((span / DECIBEL - 4) / 6).clamp(0, 1)


def _extreme(curve: Tensor, reach: int) -> Tensor:
    """[M] the largest value within `reach` on either side."""
    return F.max_pool1d(curve[None, None], 2 * reach + 1, 1, reach)[0, 0]


def blur(curves: Tensor, before: float, after: float) -> Tensor:
    """Smooth curves [M, K] with a Gaussian whose width differs on its two sides, in frames.

    `before` is how slowly a curve rises towards what comes, `after` how slowly it falls.
    """
    reach = math.ceil(3 * max(before, after))
    lag = torch.arange(-reach, reach + 1, dtype=curves.dtype, device=curves.device)  # positive looks ahead
    kernel = torch.exp(-0.5 * (lag / torch.where(lag > 0, before, after)) ** 2)
    padded = F.pad(curves.T[:, None], (reach, reach), mode="replicate")
    return F.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].T
