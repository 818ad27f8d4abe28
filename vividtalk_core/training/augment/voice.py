"""Voice conversion by signal processing: pitch, vocal-tract length and tempo of speech, changed independently."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Samples, 32 ms: longer ones smear the bursts of p, t and k, shorter ones lose the harmonics of a low voice.
FFT = 512
# At this hop the squares of a Hann window add up to a constant, which the inverse transform needs.
HOP = FFT // 4
# Samples of the cepstrum that describe the vocal tract, 2 ms: shorter than a period of a 400 Hz voice, whose
# harmonics would otherwise be taken for formants.
LIFTER = 32
FLOOR = 1e-5  # of a magnitude, below 16-bit sound
# Nat, 20 dB: a moved formant never lifts noise by more.
MAX_GAIN = 2.3
# Samples; lengths are brought to a multiple of it, because an FFT of a prime length is slow.
BLOCK = 320


def shift_voice(waveform: Tensor, pitch: float = 1.0, formant: float = 1.0, tempo: float = 1.0) -> Tensor:
    """Change a voice by a phase vocoder that moves the spectral envelope independently of the harmonics.

    Args:
        waveform: [N] float32 at 16 kHz.
        pitch: factor of the fundamental frequency.
        formant: factor of the formants: above 1 a shorter vocal tract, as of a child.
        tempo: what is at t seconds moves to t / tempo; `speech.retime` moves targets likewise.

    Returns:
        [round(N / tempo)] float32; with `tempo` 1 every sound stays where it is.
    """
    for name, factor in (("pitch", pitch), ("formant", formant), ("tempo", tempo)):
        if not 0.25 <= factor <= 4:
            raise ValueError(f"{name} must be a factor between 0.25 and 4; got {factor}")
    count = round(waveform.shape[0] / tempo)
    if pitch == formant == tempo == 1 or not count:
        return waveform[:count].clone()
    window = torch.hann_window(FFT, device=waveform.device)
    tail = -waveform.shape[0] % BLOCK + FFT  # room for the last frame
    padded = torch.nn.functional.pad(waveform, (0, tail))
    spectrum = torch.stft(padded, FFT, HOP, window=window, return_complex=True, pad_mode="constant").T  # [K, F]
    # Resampling below moves harmonics and envelope alike by `pitch`, but the envelope has to end at `formant`: it is
    # moved by the quotient beforehand.
    spectrum = spectrum * _move_envelope(spectrum.abs(), pitch / formant)
    # stretching in time and then resampling to the old length raises the harmonics and keeps the timing
    padded_count = math.ceil(count / BLOCK) * BLOCK
    # A multiple of 16, again because of prime lengths.
    length = round(padded_count * pitch / 16) * 16
    stretch = length / padded_count / tempo
    if stretch != 1:
        spectrum = _stretch(spectrum, stretch, math.ceil(length / HOP) + 4)
    stretched = torch.istft(spectrum.T, FFT, HOP, window=window, length=length)
    return _resample(stretched, padded_count)[:count]


def _move_envelope(magnitude: Tensor, factor: float) -> Tensor:
    """[K, F] gains after which the envelope at frequency f is what it was at f · factor."""
    level = magnitude.clamp(min=FLOOR).log()
    if factor == 1:
        return torch.ones_like(level)
    cepstrum = torch.fft.irfft(level)  # [K, FFT], real and even
    # The slow part of the log spectrum is the vocal tract, the fast part are the harmonics of the vocal folds.
    cepstrum[:, LIFTER : FFT - LIFTER + 1] = 0
    envelope = torch.fft.rfft(cepstrum).real
    last = envelope.shape[1] - 1
    position = (torch.arange(last + 1, device=level.device) * factor).clamp(max=last)
    low = position.long().clamp(max=last - 1)
    moved = torch.lerp(envelope[:, low], envelope[:, low + 1], position - low)
    gains: Tensor = (moved - envelope).clamp(-MAX_GAIN, MAX_GAIN).exp()
    return gains


def _stretch(spectrum: Tensor, stretch: float, frames: int) -> Tensor:
    """Frames [K, F] of a short-time spectrum to [frames, F]: `stretch` times as long at the same pitch."""
    position = (torch.arange(frames, device=spectrum.device) / stretch).clamp(max=spectrum.shape[0] - 2)
    low = position.long()
    level, phase = spectrum.abs(), spectrum.angle()
    # Magnitudes are interpolated, but phases are summed up: interpolated phases would cancel each other out.
    magnitude = torch.lerp(level[low], level[low + 1], (position - low)[:, None])
    # wrapped to one turn, because a sum over minutes would lose precision
    turn = torch.remainder(phase[low + 1] - phase[low], 2 * math.pi)
    advance = torch.cat((phase[:1], turn[:-1])).double().cumsum(0)
    return torch.polar(magnitude, torch.remainder(advance, 2 * math.pi).float())


def _resample(signal: Tensor, count: int) -> Tensor:
    """Resample a signal of shape [L] to shape [count], the same time span, band-limited."""
    if signal.shape[0] == count:
        return signal
    resampled: Tensor = torch.fft.irfft(torch.fft.rfft(signal)[: count // 2 + 1], n=count)
    # irfft divides by the new length, but the spectrum was made with the old one.
    return resampled * (count / signal.shape[0])
