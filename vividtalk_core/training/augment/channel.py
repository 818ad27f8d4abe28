"""The recording channel of speech: noise, room, microphone and codec. Nothing is moved in time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...structures import SAMPLE_RATE

# Samples; transforms are brought to a multiple of it, because an FFT of a prime length is many times slower.
BLOCK = 512
NOISES = ("white", "pink", "babble")
CODECS = ("mu-law", "telephone", "low-pass", "crush", "holes")
DECAY = math.log(1000)  # 60 dB of amplitude
# Hz, the band of a narrow-band telephone line (ITU-T G.712).
TELEPHONE = (300.0, 3400.0)
# Samples, 32 ms: about as long as the blocks in which audio codecs decide what is audible.
HOLES_FFT = 512


def make_noise(kind: str, count: int, generator: torch.Generator, others: Sequence[Tensor] = ()) -> Tensor:
    """Noise of RMS 1.

    Args:
        kind: "white", "pink" (3 dB less per octave) or "babble" (several other clips at once).
        count: N samples.
        generator: every random number comes from it.
        others: waveforms [n] of other speakers, for "babble".

    Returns:
        float32 of shape [count].
    """
    if kind not in NOISES:
        raise ValueError(f"the noise must be one of {', '.join(NOISES)}; got '{kind}'")
    noise = _make_babble(count, generator, others) if kind == "babble" else torch.randn(count, generator=generator)
    if kind == "pink":
        hz = _bin_frequencies(count).clamp(min=20)
        # The power of pink noise is proportional to 1/f, its amplitude therefore to the root of that.
        noise = _filter(noise, hz.rsqrt())
    return noise / _rms(noise)


def _make_babble(count: int, generator: torch.Generator, others: Sequence[Tensor]) -> Tensor:
    """The sum, of shape [count], of 3 to 7 excerpts of other waveforms, each of RMS 1."""
    others = [other for other in others if len(other)]
    if not others:
        raise ValueError("babble is made of other clips: give at least one; got 0")
    voices = int(torch.randint(3, 8, (1,), generator=generator))
    noise = torch.zeros(count)
    for index in torch.randint(len(others), (voices,), generator=generator).tolist():
        other = others[index]
        start = int(torch.randint(len(other), (1,), generator=generator))
        # Read in a circle, so that a clip that is shorter than the noise can take part as well.
        excerpt = other[(torch.arange(count) + start) % len(other)]
        noise += excerpt / _rms(excerpt)
    return noise


def add_noise(waveform: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    """Mix a waveform with noise of RMS 1, both of shape [N], `snr_db` below the RMS of the waveform."""
    return waveform + noise * (_rms(waveform) * 10 ** (-snr_db / 20))


def add_room(waveform: Tensor, rt60_s: float, direct_db: float, generator: torch.Generator) -> Tensor:
    """Add the reverberation of a room.

    Args:
        waveform: [N] float32 at 16 kHz.
        rt60_s: seconds in which an echo loses 60 dB.
        direct_db: energy of the direct sound, which stays where it is, over that of all echoes.
        generator: draws the echoes, noise that decays exponentially.

    Returns:
        float32 of shape [N], as loud as before.
    """
    if rt60_s <= 0:
        raise ValueError(f"rt60_s must be above 0; got {rt60_s}")
    taps = math.ceil(rt60_s * SAMPLE_RATE)
    seconds = torch.arange(1, taps + 1) / SAMPLE_RATE
    # Late reverberation is like white noise that decays exponentially (Moorer 1979). Real rooms would need
    # recordings.
    echoes = torch.randn(taps, generator=generator) * (-DECAY * seconds / rt60_s).exp()
    # The first echo of a wall comes after at least a millisecond: none is nearer than 17 cm.
    echoes *= (seconds > 0.001).float()
    echoes *= 10 ** (-direct_db / 20) / echoes.norm().clamp(min=1e-9)
    # The direct sound is the first sample of the response: it is not delayed, so that the lips stay in time.
    response = torch.cat((torch.ones(1), echoes))
    # Long enough for the last echo: the transform is circular, and what does not fit would return at the beginning.
    length = _whole_blocks(waveform.shape[0] + taps)
    spectrum = torch.fft.rfft(waveform, n=length) * torch.fft.rfft(response, n=length)
    wet = torch.fft.irfft(spectrum, n=length)[: waveform.shape[0]]
    # As loud as before, because noise is added next, at a level that is relative to this one.
    reverberant: Tensor = wet * (_rms(waveform) / _rms(wet))
    return reverberant


def equalise(waveform: Tensor, gains_db: Tensor) -> Tensor:
    """Filter a waveform of shape [N] by gains in dB, of shape [G], at equal steps of the octave from 60 Hz to 8 kHz."""
    hz = _bin_frequencies(waveform.shape[0]).clamp(min=60.0)
    # Steps of equal ratios of frequency, because hearing and the responses of microphones are even in octaves.
    position = (hz / 60).log2() / math.log2(8000 / 60) * (len(gains_db) - 1)
    low = position.long().clamp(0, len(gains_db) - 2)
    db = torch.lerp(gains_db[low], gains_db[low + 1], (position - low).clamp(0, 1))
    return _filter(waveform, 10 ** (db / 20))


def code(waveform: Tensor, kind: str, strength: float) -> Tensor:
    """Encode and decode with a lossy codec.

    Args:
        waveform: [N] float32 in −1..1.
        kind: "mu-law" (logarithmic steps), "telephone" (300–3400 Hz), "low-pass", "crush" (few bits), "holes" (bins
            far below the loudest one of a moment are removed, as by MP3 at a low bit rate).
        strength: 0 = hardly audible .. 1 = just intelligible.

    Returns:
        float32 of shape [N].
    """
    if kind not in CODECS:
        raise ValueError(f"the codec must be one of {', '.join(CODECS)}; got '{kind}'")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be between 0 and 1; got {strength}")
    # From G.711's own 256 steps down to 32.
    if kind == "mu-law":
        return _mu_law(waveform, steps=2 ** (8 - 3 * strength))
    if kind == "telephone":
        return _filter(waveform, _band_pass(waveform.shape[0], *TELEPHONE))
    # The cut-off falls from 7 kHz, where only the hiss of s is lost, to 2.5 kHz, which still holds two formants.
    if kind == "low-pass":
        return _filter(waveform, _band_pass(waveform.shape[0], 0.0, 7000.0 * (2500 / 7000) ** strength))
    peak = waveform.abs().amax().clamp(min=1e-9) if len(waveform) else 1.0
    if kind == "crush":
        steps = 2 ** (11 - 5 * strength) / 2
        return (waveform / peak * steps).round() / steps * peak
    return _cut_holes(waveform, below_db=60 - 35 * strength)


def _mu_law(waveform: Tensor, steps: float) -> Tensor:
    """A waveform of shape [N] quantised on a logarithmic scale with `steps` steps (µ = 255, ITU-T G.711)."""
    scale = waveform.abs().amax().clamp(min=1e-9) if len(waveform) else 1.0
    level = torch.log1p(255 * (waveform / scale).abs()) / math.log(256)
    level = (level * steps / 2).round() / (steps / 2)
    return waveform.sign() * ((level * math.log(256)).exp() - 1) / 255 * scale


def _cut_holes(waveform: Tensor, below_db: float) -> Tensor:
    """A waveform of shape [N] without the spectral bins that are `below_db` under the loudest one of their moment."""
    window = torch.hann_window(HOLES_FFT)
    padded = F.pad(waveform, (0, HOLES_FFT))
    spectrum = torch.stft(padded, HOLES_FFT, window=window, return_complex=True, pad_mode="constant")
    level = spectrum.abs()
    # a loud low vowel masks high frequencies less, so high bins are kept down to a lower level
    slope_db = torch.linspace(0, 20, level.shape[0])[:, None]
    kept = level >= level.amax(0) * 10 ** (-(below_db + slope_db) / 20)
    return torch.istft(spectrum * kept, HOLES_FFT, window=window, length=padded.shape[0])[: waveform.shape[0]]


def _band_pass(count: int, low: float, high: float) -> Tensor:
    """Gains for `_filter` of a waveform of shape [count]: 1 between the two Hz, with slopes of a third of an octave."""
    hz = _bin_frequencies(count)
    # Smooth slopes, because a sharp edge of the spectrum rings in time.
    gain = torch.sigmoid((high / hz.clamp(min=1)).log2() * 24)
    return gain * torch.sigmoid((hz.clamp(min=1) / low).log2() * 24) if low else gain


def _bin_frequencies(count: int) -> Tensor:
    """Hz of each bin that `_filter` has for a waveform of shape [count]."""
    length = _whole_blocks(count + BLOCK)
    return torch.linspace(0, SAMPLE_RATE / 2, length // 2 + 1)


def _filter(waveform: Tensor, gains: Tensor) -> Tensor:
    """A waveform of shape [N] through a filter without delay, with gains at `_bin_frequencies(N)`."""
    # Silence at the end, because the transform is circular: the end would leak into the beginning.
    length = _whole_blocks(waveform.shape[0] + BLOCK)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(waveform, n=length) * gains, n=length)
    return filtered[: waveform.shape[0]]


def _whole_blocks(count: int) -> int:
    return math.ceil(count / BLOCK) * BLOCK


def _rms(waveform: Tensor) -> Tensor:
    """Root mean square, of shape [], of a waveform of shape [N]; never 0."""
    # Never 0, because every caller divides by it, and a clip may be silent.
    return waveform.square().mean().sqrt().clamp(min=1e-9)
