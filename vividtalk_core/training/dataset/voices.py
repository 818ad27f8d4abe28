"""Speech without video: it has no motion, but more voices, and phones at which the lips must close."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Generator, Tensor

from ...audio.waveform import read_audio, to_mono_16k
from ...errors import DatasetError
from ...structures import SAMPLE_RATE
from ...time_grid import frame_count
from .speech_clips import SoundtrackSettings, SpeechClip, augmented_clip, phone_labels

SOUNDS = (".flac", ".wav", ".ogg", ".mp3")


def load_voices(
    folder: Path, motion_size: int, id_size: int, soundtracks: SoundtrackSettings, generator: Generator
) -> list[SpeechClip]:
    """The recordings of a folder: NAME.flac (or .wav, .ogg, .mp3) with its phones, NAME.json, as `audio.phones` writes.

    Args:
        folder: of the recordings; the part of a name before the last underscore is the voice.
        motion_size: M of the motion of the other clips; here it is zero and never valid.
        id_size: I; the faces are not known, so α is zero.
        soundtracks: how soundtracks become features.
        generator: every random number comes from it.

    Raises:
        DatasetError: the folder has no recording with phones.
    """
    # Without phones a recording teaches nothing, because it has no motion either. Sorted for the same batches on
    # every file system.
    paths = [path for path in sorted(folder.glob("*")) if path.suffix in SOUNDS and path.with_suffix(".json").is_file()]
    if not paths:
        raise DatasetError(f"{folder} has no speech with phones: NAME{SOUNDS[0]} and NAME.json are looked for")
    clips = []
    for path in paths:
        sound = _read(path)
        frames = frame_count(len(sound) / SAMPLE_RATE, soundtracks.fps)
        phones = phone_labels(path.with_suffix(".json"), frames, soundtracks.fps)
        # Never valid: such a clip takes part only in the losses of phones and of closures.
        motion, valid = torch.zeros(frames, motion_size), torch.zeros(frames, dtype=torch.bool)
        voice = path.stem.rpartition("_")[0] or path.stem
        rows = augmented_clip(sound, motion, phones, valid, soundtracks, generator)
        clips.append(
            SpeechClip(
                path.stem,
                voice,
                rows.features,
                rows.motion,
                rows.phones,
                rows.valid,
                torch.zeros(id_size),
                torch.zeros(motion_size, dtype=torch.bool),
            )
        )
    return clips


def _read(path: Path) -> Tensor:
    """Mono sound of shape [N] at 16 kHz."""
    return to_mono_16k(*read_audio(path))
