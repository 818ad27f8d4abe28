"""Augmentation of log-mel energies: other voices and other microphones at the cost of an interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...audio.mel import band_centres
from ..sampling import between, happens, ratio

# Log-mel energies are natural logarithms of power, of which 10 dB are a factor of ten.
NAT_PER_DB = math.log(10) / 10
# Hz above which a warp bends back, so that the highest band stays the highest: as in vocal-tract length
# normalisation.
BEND = 4800.0
# Of a random colouring, linear in between: smooth over the bands, as responses of microphones are.
POINTS = 5


@dataclass(frozen=True, slots=True)
class MelAugmentation:
    """How strongly `augment_mel` changes a clip; each change is made with its own probability."""

    warp: float = 0.5  # probability of another vocal-tract length
    warp_range: tuple[float, float] = (0.85, 1.18)  # factor of the formants
    colour: float = 0.7  # probability of another microphone
    colour_db: float = 6.0  # largest gain or loss at each of 5 points over the bands
    gain_db: tuple[float, float] = (-8.0, 8.0)  # always drawn
    noise: float = 0.4  # probability of steady noise
    snr_db: tuple[float, float] = (5.0, 35.0)  # loudest band of the clip's mean over the noise
    masks: int = 2  # spans of time that are hidden, and as many of bands
    mask_s: float = 0.12  # seconds, longest hidden span: shorter than a syllable
    mask_bands: int = 8  # most hidden bands of 80


def augment_mel(mel: Tensor, settings: MelAugmentation, generator: torch.Generator) -> Tensor:
    """Change a voice and its recording, in the mel domain; nothing moves in time.

    Args:
        mel: [M, 80] natural-log energies, 100 frames a second.
        settings: see `MelAugmentation`.
        generator: every random number comes from it.

    Returns:
        [M, 80].
    """
    # The voice first, then its way through microphone and noise: the order in which a recording comes about.
    if happens(settings.warp, generator):
        mel = warp_bands(mel, ratio(settings.warp_range, generator))
    if happens(settings.colour, generator):
        mel = colour_bands(mel, settings.colour_db * (2 * torch.rand(POINTS, generator=generator) - 1))
    if happens(settings.noise, generator):
        mel = add_mel_noise(mel, between(settings.snr_db, generator), generator)
    # Always drawn: nothing that is learned may depend on the recording level.
    mel = mel + NAT_PER_DB * between(settings.gain_db, generator)
    return mask_spans(mel, settings.masks, settings.mask_s, settings.mask_bands, generator)


def warp_bands(mel: Tensor, factor: float) -> Tensor:
    """Vocal-tract length of another speaker.

    Args:
        mel: [M, 80].
        factor: what was at f Hz moves to f · factor; above 4.8 kHz (or what comes to lie there) less and less.

    Returns:
        [M, 80].
    """
    if not 0.5 <= factor <= 2:
        raise ValueError(f"a warp must be a factor between 0.5 and 2; got {factor}")
    centres = band_centres().to(mel.device)
    top = centres[-1]
    knee = BEND * min(1.0, factor)  # Hz of the output
    # two straight lines: through 0 and the knee, then from the knee to the highest band
    source = torch.where(
        centres <= knee,
        centres / factor,
        knee / factor + (centres - knee) * (top - knee / factor) / (top - knee),
    )
    high = torch.searchsorted(centres, source).clamp(1, len(centres) - 1)
    share = ((source - centres[high - 1]) / (centres[high] - centres[high - 1])).clamp(0, 1)
    return torch.lerp(mel[:, high - 1], mel[:, high], share)


def colour_bands(mel: Tensor, gains_db: Tensor) -> Tensor:
    """Another microphone: gains [G] in dB at G points over the bands of mel [M, 80]."""
    curve = torch.nn.functional.interpolate(gains_db[None, None], mel.shape[1], mode="linear", align_corners=True)
    return mel + NAT_PER_DB * curve[0, 0].to(mel)


def add_mel_noise(mel: Tensor, snr_db: float, generator: torch.Generator) -> Tensor:
    """Steady noise of a random colour, `snr_db` below the loudest band of the mean spectrum of mel [M, 80]."""
    frames, bands = mel.shape
    # The loudest band and not the sum of all, because where the voice has its energy is where noise hides it.
    loudest = mel.exp().mean(0).amax().log()
    tilt = NAT_PER_DB * 10 * (2 * torch.rand(1, generator=generator) - 1) * torch.linspace(-1, 1, bands)
    # the energy of noise in a band of few bins: a mean of squares, here of four
    power = torch.randn(frames, bands, 4, generator=generator).square().mean(-1).clamp(min=1e-3)
    level = loudest - NAT_PER_DB * snr_db
    # Energies add up, and these are their logarithms.
    return torch.logaddexp(mel, (power.log() + tilt).to(mel) + level)


def mask_spans(mel: Tensor, count: int, longest_s: float, widest: int, generator: torch.Generator) -> Tensor:
    """Hide `count` spans of time and as many spans of bands of mel [M, 80] under the clip's mean (SpecAugment)."""
    if not count:
        return mel
    frames, bands = mel.shape
    hidden = torch.zeros(frames, bands, dtype=torch.bool)
    for _ in range(count):
        start, length = _span(frames, round(100 * longest_s), generator)
        hidden[start : start + length] = True
        start, length = _span(bands, widest, generator)
        hidden[:, start : start + length] = True
    # The clip's mean and not silence: silence is itself a sign of closed lips.
    return torch.where(hidden.to(mel.device), mel.mean(0), mel)


def _span(total: int, longest: int, generator: torch.Generator) -> tuple[int, int]:
    """Start and length 0..longest of a span within 0..total."""
    length = min(total, int(torch.randint(longest + 1, (1,), generator=generator)))
    return int(torch.randint(total - length + 1, (1,), generator=generator)), length
