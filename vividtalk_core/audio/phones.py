"""Phones of speech with their times: alignment of a transcript, or recognition without one, with PocketSphinx, offline.

PocketSphinx is optional (`pip install pocketsphinx`, English model in the wheel). Phones are ARPAbet, without stress.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import DatasetError, MediaError, MissingFileError, MissingPackageError
from ..files import whole_file
from ..structures import SAMPLE_RATE
from .waveform import analysis_gain, to_mono_16k

if TYPE_CHECKING:
    from pocketsphinx import Decoder

CLOSURES = ("P", "B", "M")  # the lips meet
NOT_SPEECH = ("SIL", "+SPN+", "+NSN+", "(NULL)", "<s>", "</s>", "<sil>")
FRAME_S = 0.01  # of the decoder
FULL_SCALE = 32767
# PocketSphinx fails to align one sentence in ten; with a little more silence around it the same sentence succeeds.
PADS_S = (0.0, 0.1, 0.2, 0.3, 0.5)

# What the letters of a GRID file's name stand for, in the order of the sentence (Cooke et al. 2006).
GRID_WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},  # w has three syllables and is not in the corpus
    {
        "z": "zero", "1": "one", "2": "two", "3": "three", "4": "four",
        "5": "five", "6": "six", "7": "seven", "8": "eight", "9": "nine",
    },
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Phone:
    """One phone of a recording."""

    name: str  # ARPAbet, or SIL
    start_s: float
    end_s: float
    confidence: float = 1.0  # 0..1


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word of a known sentence with its phones; silence is a word without text."""

    text: str
    phones: tuple[Phone, ...]


def align_phones(waveform: Tensor, sample_rate: int, transcript: str) -> list[Phone]:
    """When the phones of a known English sentence are spoken; see `align_words`."""
    return [phone for word in align_words(waveform, sample_rate, transcript) for phone in word.phones]


def align_words(waveform: Tensor, sample_rate: int, transcript: str) -> list[SpokenWord]:
    """Find when the words and the phones of a known English sentence are spoken.

    Args:
        waveform: [N] or [C, N], floats in −1..1 or integers.
        sample_rate: Hz.
        transcript: its words; punctuation and case do not matter.

    Raises:
        MissingPackageError: PocketSphinx is not installed.
        MediaError: the sound cannot be used or does not fit the words, or a word is not in the dictionary.
    """
    words = re.findall(r"[a-z']+", transcript.lower())
    if not words:
        raise MediaError(f"the transcript '{transcript}' has no words to align")
    decoder = _decoder(lm=None)
    unknown = [word for word in words if decoder.lookup_word(word) is None]
    if unknown:
        raise MediaError(f"not in the pronunciation dictionary: {', '.join(unknown)}; spell them in English words")
    samples = _samples(waveform, sample_rate)
    for pad_s in PADS_S:
        decoder.set_align_text(" ".join(words))
        try:
            _run(decoder, _quiet(pad_s) + samples + _quiet(pad_s))
            # PocketSphinx aligns in two passes: the first finds the words, the second the phones within them
            decoder.set_alignment()
            _run(decoder, _quiet(pad_s) + samples + _quiet(pad_s))
        except RuntimeError:
            # no path through the words fits the sound with this much silence around it
            continue
        return _aligned(decoder, pad_s, len(samples) / 2 / SAMPLE_RATE)
    raise MediaError(f"the sound does not fit the transcript '{transcript}': check that they belong together")


def _aligned(decoder: Decoder, pad_s: float, duration_s: float) -> list[SpokenWord]:
    """The words of a finished alignment, without the padding."""
    words: list[SpokenWord] = []
    for word in decoder.get_alignment():
        phones: list[Phone] = []
        for phone in word:
            start, end = phone.start * FRAME_S - pad_s, (phone.start + phone.duration) * FRAME_S - pad_s
            # what lies in the padding alone is no part of the recording
            if end > 0 and start < duration_s:
                phones.append(Phone(_plain(phone.name), max(start, 0.0), min(end, duration_s)))
        # "read(2)" is the second pronunciation of "read"
        text = "" if word.name in NOT_SPEECH else re.sub(r"\(\d+\)", "", word.name)
        words.append(SpokenWord(text, tuple(phones)))
    return words


def _quiet(seconds: float) -> bytes:
    """16-bit noise of ±2 of 32767: the decoder takes the logarithm of the level, and digital silence has none."""
    samples = torch.randint(-2, 3, (round(seconds * SAMPLE_RATE),), generator=torch.Generator().manual_seed(0))
    return samples.to(torch.int16).numpy().tobytes()


def decode_phones(waveform: Tensor, sample_rate: int, english: bool = True) -> list[Phone]:
    """Recognise the phones of speech without a transcript.

    English is recognised by its words; other languages, and English that fits no words, by the phones of English alone.
    The confidence of a phone is the share of its time in which a second recognition, by phones alone, agrees.

    Args:
        waveform: [N] or [C, N], floats in −1..1 or integers.
        sample_rate: Hz.
        english: whether to try English words first.

    Raises:
        MissingPackageError: PocketSphinx is not installed.
        MediaError: the sound cannot be used.
    """
    samples = _samples(waveform, sample_rate)
    # the weight of the phone grammar against the sound; 2 is what PocketSphinx's documentation advises
    first = (english and _by_words(waveform, sample_rate, samples)) or _allphone(samples, 1.0)
    second = _allphone(samples, 2.0)
    return [Phone(p.name, p.start_s, p.end_s, round(_agreement(p, second), 3)) for p in first]


def _by_words(waveform: Tensor, sample_rate: int, samples: bytes) -> list[Phone]:
    """Phones of the most likely words of a waveform [C, N], none if the words cannot be aligned."""
    decoder = _decoder()
    _run(decoder, samples)
    # "read(2)" is the second pronunciation of "read": the number is no part of the transcript
    words = "" if decoder.hyp() is None else re.sub(r"\(\d+\)", "", decoder.hyp().hypstr)
    try:
        return align_phones(waveform, sample_rate, words)
    except MediaError:
        return []


def _allphone(samples: bytes, weight: float) -> list[Phone]:
    """Phones of 16-bit samples by the sounds of English alone; `weight` is that of the phone grammar."""
    from pocketsphinx import get_model_path

    # beams as wide as PocketSphinx's documentation advises for phones
    grammar = get_model_path("en-us/en-us-phone.lm.bin")
    decoder = _decoder(allphone=grammar, lw=weight, pip=0.3, beam=1e-20, pbeam=1e-20)
    _run(decoder, samples)
    segments = decoder.seg() or ()
    return [Phone(_plain(s.word), s.start_frame * FRAME_S, (s.end_frame + 1) * FRAME_S) for s in segments]


def _agreement(phone: Phone, others: Sequence[Phone]) -> float:
    """Share of a phone's time, 0..1, in which the others have the same name."""
    shared = sum(
        max(0.0, min(phone.end_s, o.end_s) - max(phone.start_s, o.start_s)) for o in others if o.name == phone.name
    )
    return min(1.0, shared / (phone.end_s - phone.start_s))


def _decoder(**options: object) -> Decoder:
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise MissingPackageError("phones need PocketSphinx: pip install pocketsphinx") from error
    return Decoder(loglevel="FATAL", **options)


def _run(decoder: Decoder, samples: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()


def _samples(waveform: Tensor, sample_rate: int) -> bytes:
    """A waveform [C, N] as 16-bit mono at 16 kHz, at one level for all voices."""
    mono = to_mono_16k(waveform, sample_rate)
    return (mono * analysis_gain(mono)).clamp(-1, 1).mul(FULL_SCALE).to(torch.int16).numpy().tobytes()


def _plain(name: str) -> str:
    return "SIL" if name in NOT_SPEECH else name


def grid_transcript(name: str) -> str | None:
    """The sentence of a GRID file, e.g. "bin blue at f two now" of "s1_bbaf2n.mp4"; None for other names."""
    letters = Path(name).stem.lower().rpartition("_")[2]
    if len(letters) != len(GRID_WORDS) or any(c not in words for c, words in zip(letters, GRID_WORDS, strict=True)):
        return None
    return " ".join(words[c] for c, words in zip(letters, GRID_WORDS, strict=True))


def spans_of(
    phones: Iterable[Phone], names: Sequence[str] = CLOSURES, least_confidence: float = 0.5
) -> list[tuple[float, float]]:
    """Start and end in seconds of each phone of some names, by default p, b and m, of at least some confidence."""
    return [(p.start_s, p.end_s) for p in phones if p.name in names and p.confidence >= least_confidence]


def write_phones(path: Path, phones: Iterable[Phone]) -> None:
    """Write phones as JSON rows [name, start_s, end_s, confidence]."""
    rows = [[p.name, round(p.start_s, 3), round(p.end_s, 3), p.confidence] for p in phones]
    with whole_file(path) as part:
        part.write_text(json.dumps(rows), encoding="utf-8")


def read_phones(path: Path) -> list[Phone]:
    """Read JSON rows [name, start_s, end_s] or [name, start_s, end_s, confidence].

    Raises:
        MissingFileError: there is no such file.
        DatasetError: the file holds something else.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no file of phones '{path}'")
    try:
        rows = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"'{path}' is not a JSON list of [phone, start_s, end_s]: {error}") from error
    if not isinstance(rows, list):
        raise DatasetError(f"'{path}' is not a JSON list of [phone, start_s, end_s]: it is a {type(rows).__name__}")
    return [_phone(path, row) for row in rows]


def _phone(path: Path, row: object) -> Phone:
    """A phone of a row as JSON has it, where a whole number may stand for a time."""
    match row:
        case [str(name), int() | float() as start_s, int() | float() as end_s, *rest] if len(rest) < 2:
            confidence = rest[0] if rest else 1.0
            # false where one is NaN
            if 0 <= start_s <= end_s < math.inf and isinstance(confidence, (int, float)):
                return Phone(name, float(start_s), float(end_s), float(confidence))
    raise DatasetError(f"a row of '{path}' is not [phone, start_s, end_s] with 0 ≤ start_s ≤ end_s: {json.dumps(row)}")
