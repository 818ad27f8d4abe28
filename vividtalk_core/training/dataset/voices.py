"""Sound without video: speech of more voices, and sounds that are no speech."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from ...audio.waveform import read_audio, to_mono_16k
from ...audio_to_mesh.expression import PHONES
from ...errors import DatasetError
from ...structures import SAMPLE_RATE
from ...time_grid import frame_count
from ..augment.no_speech import make_no_speech
from .speech_clips import NO_PHONE, SoundtrackSettings, SpeechClip, Variants, augmented_clip, phone_labels

SOUNDS = (".flac", ".wav", ".ogg", ".mp3")
NO_SPEECH_S = 6.0  # length of a sound that is no speech


# What a trained network answers to a sound [N]: motion [T, M] and phones [T].
Teacher = Callable[[Tensor], tuple[Tensor, Tensor]]


def load_voices(
    folder: Path,
    motion_size: int,
    id_size: int,
    soundtracks: SoundtrackSettings,
    generator: Generator,
    teacher: Teacher | None = None,
) -> list[SpeechClip]:
    """The recordings of a folder: NAME.flac (or .wav, .ogg, .mp3) with its phones, NAME.json, as `audio.phones` writes.

    Without a teacher they take part only in the losses of phones and of closures. With one they have its motion, for
    the sound as it is and for all augmented ones, and its phones where there is no file of them.

    Args:
        folder: of the recordings; the part of a name before the last underscore is the voice.
        motion_size: M of the motion of the other clips.
        id_size: I; the faces are not known, so α is zero.
        soundtracks: how soundtracks become features.
        generator: every random number comes from it.
        teacher: answers to each sound as it is.

    Raises:
        DatasetError: the folder has no recording, or, without a teacher, none with phones.
    """
    # Sorted for the same batches on every file system.
    paths = [path for path in sorted(folder.glob("*")) if path.suffix in SOUNDS]
    if teacher is None:
        # Without phones a recording teaches nothing, because it has no motion either.
        paths = [path for path in paths if path.with_suffix(".json").is_file()]
    if not paths:
        asked = f"NAME{SOUNDS[0]}" if teacher else f"NAME{SOUNDS[0]} and NAME.json"
        raise DatasetError(f"{folder} has no speech{'' if teacher else ' with phones'}: {asked} are looked for")
    clips = []
    for path in paths:
        sound, labels = _read(path), path.with_suffix(".json")
        frames = frame_count(len(sound) / SAMPLE_RATE, soundtracks.config.fps)
        motion, phones = torch.zeros(frames, motion_size), torch.full((frames,), NO_PHONE)
        if teacher is not None:
            motion, phones = teacher(sound)
        if labels.is_file():
            phones = phone_labels(labels, frames, soundtracks.config.fps)
        valid = torch.full((frames,), teacher is not None)
        rows = augmented_clip(sound, motion, phones, valid, soundtracks, generator)
        voice = path.stem.rpartition("_")[0] or path.stem
        clips.append(_clip(path.stem, voice, rows, id_size, known=teacher is not None))
    return clips


def no_speech(
    count: int, rest: Tensor, id_size: int, soundtracks: SoundtrackSettings, generator: Generator
) -> list[SpeechClip]:
    """Sounds that are no speech, during which the mouth is at rest.

    Args:
        count: clips of `NO_SPEECH_S` each.
        rest: [M] standardised motion of the relaxed, closed mouth.
        id_size: I of α, which is zero.
        soundtracks: how soundtracks become features; without augmented ones, because each sound is another one.
        generator: every random number comes from it.
    """
    plain = replace(soundtracks, variants=0)
    frames = round(NO_SPEECH_S * soundtracks.config.fps)
    motion, phones = rest.repeat(frames, 1), torch.full((frames,), PHONES.index("SIL"))
    clips = []
    for number in range(count):
        sound = make_no_speech(NO_SPEECH_S, generator)
        rows = augmented_clip(sound, motion, phones, torch.ones(frames, dtype=torch.bool), plain, generator)
        clips.append(_clip(f"no speech {number}", "no speech", rows, id_size, known=True))
    return clips


def _clip(name: str, voice: str, rows: Variants, id_size: int, known: bool) -> SpeechClip:
    return SpeechClip(
        name,
        voice,
        rows.features,
        rows.motion,
        rows.phones,
        rows.valid,
        torch.zeros(id_size),
        torch.full((rows.motion[0].shape[1],), known),
    )


def _read(path: Path) -> Tensor:
    """Mono sound of shape [N] at 16 kHz."""
    return to_mono_16k(*read_audio(path))
