"""Waveforms: files of any format, rate, layout and sample type are read, and converted to 16 kHz mono."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import MediaError
from ..files import existing_file
from ..structures import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    from av.container import InputContainer

# The rates of recorders: another number is a mistake.
RATES = (4_000, 192_000)  # Hz
CHANNELS = 8  # 7.1
# Of the resampling kernel on each side: about 80 dB of alias rejection with a Kaiser window.
ZERO_CROSSINGS = 16
# The level that the loud parts of a voice are brought to before analysis, −20 dBFS.
LOUD_SPEECH = 0.1  # RMS
# A recording that is more than 50 dB too quiet is noise, not speech.
MAX_GAIN = 300.0

logger = logging.getLogger("vividtalk")


def read_audio(path: str | Path) -> Audio:
    """Decode the first audio track of a sound or video file.

    A track that starts after the picture is padded with silence, so that time 0 is the file's own.

    Args:
        path: any container and codec that FFmpeg reads.

    Returns:
        The waveform [C, N] and its sample rate.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the file cannot be read as media, has no audio track, or the track is empty.
    """
    import av

    path = existing_file(path, "audio file")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError(f"'{path.name}' has no audio track; choose a file with sound.")
            return _decode(container, path.name)
    except av.error.FFmpegError as error:
        raise MediaError(f"'{path.name}' cannot be read as audio ({error.strerror}).") from error


def _decode(container: InputContainer, name: str) -> Audio:
    """Waveform [C, N] and rate of the first audio stream of an open PyAV container."""
    from av import AudioResampler

    stream = container.streams.audio[0]
    # one sample type for all codecs; layout and rate stay those of the file
    to_float = AudioResampler(format="fltp")
    chunks: list[Tensor] = []
    start: float | None = None  # s
    for frame in container.decode(stream):
        start = frame.time if start is None else start
        chunks += [torch.from_numpy(out.to_ndarray()) for out in to_float.resample(frame)]
    if chunks:
        # the resampler may hold back samples until it is flushed
        chunks += [torch.from_numpy(out.to_ndarray()) for out in to_float.resample(None)]
    if not sum(chunk.shape[-1] for chunk in chunks):
        raise MediaError(f"the audio track of '{name}' is empty: 0 samples could be decoded.")
    # FFmpeg counts the start of a container in microseconds (AV_TIME_BASE)
    late_s = (start or 0.0) - (container.start_time or 0) / 1e6
    silence = chunks[0].new_zeros(chunks[0].shape[0], max(0, round(late_s * stream.rate)))
    return Audio(torch.cat([silence, *chunks], -1), stream.rate)


def to_mono_16k(waveform: Tensor, sample_rate: int) -> Tensor:
    """Any waveform as mono at 16 kHz, the input of all analysis.

    Args:
        waveform: [N], [C, N] or [1, C, N]; floats in −1..1 or any integer type at its full scale.
        sample_rate: Hz, 4 kHz to 192 kHz.

    Returns:
        [N'] float32, N' = ceil(N · 16000 / sample_rate).

    Raises:
        MediaError: empty, not a waveform's shape, NaN or infinite samples, or an impossible rate.
    """
    waveform = _as_channels(waveform)
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise MediaError(f"the sample rate must be between {RATES[0]} and {RATES[1]} Hz; got {sample_rate}.")
    mono = _as_float(waveform).mean(0)
    bad = int((~mono.isfinite()).sum())
    if bad:
        raise MediaError(f"the audio has {bad} of {mono.numel()} samples that are NaN or infinite; export it again.")
    if not mono.any():
        why = "every sample is 0"
        if waveform.any():
            # a microphone cable with one swapped wire gives such a sound, in which nothing is left of a centred voice
            why = f"its {len(waveform)} channels cancel each other, use one of them"
        logger.warning("The audio is silent: %s. The mouth will stay closed.", why)
    return resample(mono, int(sample_rate), SAMPLE_RATE)


def _as_channels(waveform: Tensor) -> Tensor:
    """[N], [C, N] or [1, C, N] to [C, N]."""
    shape = list(waveform.shape)
    if waveform.ndim == 3 and shape[0] == 1:
        waveform = waveform[0]
    elif waveform.ndim == 3:
        raise MediaError(f"one audio clip at a time: got a batch of {shape[0]}, shape {shape}.")
    if waveform.ndim not in (1, 2):
        raise MediaError(f"a waveform is [N], [C, N] or [1, C, N]; got {shape}.")
    if waveform.numel() == 0:
        raise MediaError(f"the audio is empty: its shape is {shape}.")
    waveform = waveform.reshape(-1, waveform.shape[-1])
    if waveform.shape[0] > CHANNELS:
        raise MediaError(f"a waveform has at most {CHANNELS} channels, and channels come first; got shape {shape}.")
    return waveform


def _as_float(waveform: Tensor) -> Tensor:
    """Samples [C, N] of any type as float32 in −1..1; uint8 is centred at 128, as in WAV files."""
    if waveform.dtype == torch.bool or waveform.is_complex():
        raise MediaError(f"samples must be numbers; got {waveform.dtype}.")
    if waveform.is_floating_point():
        return waveform.float()
    if waveform.dtype == torch.uint8:
        return (waveform.float() - 128) / 128
    # in double precision: float32 does not hold every value of 32-bit samples
    return (waveform.double() / (torch.iinfo(waveform.dtype).max + 1)).float()


def resample(signal: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """Windowed-sinc resampling, in time with the input: sample n of the output lies at n / rate_out seconds.

    Args:
        signal: [N] float32.
        rate_in: Hz.
        rate_out: Hz.

    Returns:
        [ceil(N · rate_out / rate_in)] float32. Beyond its ends the signal counts as silence.
    """
    if rate_in == rate_out:
        return signal
    divisor = math.gcd(rate_in, rate_out)
    up, down = rate_out // divisor, rate_in // divisor
    bank = _kernel_bank(up, down).to(signal.device)
    reach = bank.shape[1] // 2
    taps = torch.nn.functional.pad(signal, (reach - 1, reach + 1)).unfold(0, 2 * reach, 1)  # [M, 2*reach], a view
    count = -(-signal.shape[0] * up // down)
    out = signal.new_empty(count)
    # the taps of all outputs at once would take 2 · reach times the memory of the sound
    for chunk in torch.split(torch.arange(count, device=signal.device), 1 << 16):
        position = chunk * down
        out[chunk] = (taps[position // up] * bank[position % up]).sum(-1)
    return out


def _kernel_bank(up: int, down: int) -> Tensor:
    """[P, K] Kaiser-windowed sinc of K = 2·reach taps, a row for each fraction p/up of an input sample, P = up."""
    # the last 5 % below the Nyquist rate are left to the filter's slope
    cutoff = min(1.0, up / down) * 0.95  # of the input's Nyquist rate
    reach = math.ceil(ZERO_CROSSINGS / cutoff)
    fraction = torch.arange(up, dtype=torch.float64)[:, None] / up
    distance = torch.arange(1 - reach, reach + 1, dtype=torch.float64) - fraction  # from the output, input samples
    # β = 8 is 81 dB of stop band (Kaiser: 0.1102·(A − 8.7))
    window = torch.special.i0(8.0 * (1 - (distance / reach) ** 2).clamp(min=0).sqrt())
    bank = torch.sinc(cutoff * distance) * window
    # each row sums to 1, so that a constant signal stays constant and gets no ripple
    normalised: Tensor = bank / bank.sum(-1, keepdim=True)
    return normalised.float()


def analysis_gain(mono: Tensor) -> float:
    """Factor that brings the loud parts of a 16 kHz signal [N] to one level: features must not depend on volume."""
    frames = torch.nn.functional.pad(mono, (0, -mono.shape[0] % 400)).view(-1, 400)  # [K, 400], 25 ms each
    level = frames.square().mean(-1).sqrt().sort().values
    peak = level[round(0.99 * (len(level) - 1))]  # not the maximum, which may be a click
    loud = float(level[level > 0.18 * peak].median()) if peak > 0 else 0.0  # within 15 dB of it
    return min(MAX_GAIN, LOUD_SPEECH / loud) if loud > 0 else 1.0
