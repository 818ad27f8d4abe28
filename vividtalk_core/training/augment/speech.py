"""Augmentation of speech: one clip becomes many voices in many rooms, and its targets follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...time_grid import sample_rows
from ..sampling import between, choice, happens, ratio
from .channel import CODECS, NOISES, add_noise, add_room, code, equalise, make_noise
from .voice import shift_voice

# At equal steps from 60 Hz to 8 kHz, about 1.4 octaves apart.
EQUALISER_POINTS = 6


@dataclass(frozen=True, slots=True)
class SpeechAugmentation:
    """How strongly `augment_speech` changes a clip; each change is made with its own probability."""

    voice: float = 0.6  # probability of another pitch and vocal-tract length
    pitch: tuple[float, float] = (0.75, 1.35)  # factor of the fundamental frequency
    formant: tuple[float, float] = (0.87, 1.15)  # factor of the formants: adults differ by ± 15 %
    tempo: float = 0.3  # probability of another tempo
    tempo_range: tuple[float, float] = (0.88, 1.14)  # factor; beyond it lips no longer move as they would
    equaliser: float = 0.5  # probability of another microphone
    equaliser_db: float = 6.0  # largest gain or loss at each of 6 frequencies
    room: float = 0.3  # probability of echoes
    rt60_s: tuple[float, float] = (0.1, 0.7)  # seconds in which they lose 60 dB
    direct_db: tuple[float, float] = (0.0, 15.0)  # direct sound over all echoes
    noise: float = 0.5  # probability of noise
    snr_db: tuple[float, float] = (5.0, 35.0)  # voice over noise
    codec: float = 0.3  # probability of a codec
    gain_db: tuple[float, float] = (-10.0, 6.0)  # always drawn


def augment_speech(
    waveform: Tensor, settings: SpeechAugmentation, generator: torch.Generator, others: Sequence[Tensor] = ()
) -> tuple[Tensor, float]:
    """Change the voice, then the room, then the recording, in the order in which sound meets them.

    Args:
        waveform: [N] float32 at 16 kHz.
        settings: see `SpeechAugmentation`.
        generator: every random number comes from it.
        others: waveforms [n] of other clips, of which babble is made; without them noise is white or pink.

    Returns:
        float32 of shape [round(N / tempo)], and the tempo, a factor for `retime`.
    """
    pitch = formant = tempo = 1.0
    if happens(settings.voice, generator):
        pitch, formant = ratio(settings.pitch, generator), ratio(settings.formant, generator)
    if happens(settings.tempo, generator):
        tempo = ratio(settings.tempo_range, generator)
    # The voice before the room, because echoes of the old voice would otherwise be shifted with it.
    waveform = shift_voice(waveform, pitch, formant, tempo)
    # Silence has no level that noise could be measured against.
    if not waveform.any():
        return waveform, tempo
    if happens(settings.equaliser, generator):
        gains = settings.equaliser_db * (2 * torch.rand(EQUALISER_POINTS, generator=generator) - 1)
        waveform = equalise(waveform, gains)
    if happens(settings.room, generator):
        rt60_s, direct_db = between(settings.rt60_s, generator), between(settings.direct_db, generator)
        waveform = add_room(waveform, rt60_s, direct_db, generator)
    if happens(settings.noise, generator):
        # Babble, the last kind, is made of other clips: without them it cannot be drawn.
        kind = choice(NOISES if others else NOISES[:-1], generator)
        noise = make_noise(kind, waveform.shape[0], generator, others)
        waveform = add_noise(waveform, noise, between(settings.snr_db, generator))
    if happens(settings.codec, generator):
        waveform = code(waveform, choice(CODECS, generator), between((0.0, 1.0), generator))
    return waveform * 10 ** (between(settings.gain_db, generator) / 20), tempo


def retime(targets: Tensor, tempo: float) -> Tensor:
    """Let targets follow a tempo; log-mel rows [M, 80] too can be given another tempo so, without a vocoder.

    Args:
        targets: [T, ...] at any fixed rate, row t stands for the time from t to t + 1.
        tempo: the factor that `augment_speech` returned: what is at t seconds moves to t / tempo.

    Returns:
        [max(1, round(T / tempo)), ...], linearly interpolated in float32, or the nearest rows of whole numbers.
    """
    if tempo <= 0:
        raise ValueError(f"tempo must be a factor above 0; got {tempo}")
    if not len(targets):
        return targets
    count = max(1, round(len(targets) / tempo))
    # The time of a row is the middle of its frame: half a frame is added before scaling, and taken off after.
    position = (torch.arange(count, device=targets.device) + 0.5) * tempo - 0.5
    # Labels and masks have no values in between.
    if not targets.is_floating_point():
        return targets[position.round().long().clamp(0, len(targets) - 1)]
    rows = sample_rows(targets.reshape(len(targets), -1).float(), position)
    return rows.view(count, *targets.shape[1:]).to(targets.dtype)
