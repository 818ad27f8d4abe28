"""Phones of a prepared folder, for the auxiliary loss and the closures: DATA/phones/CLIP.json.

Clips with known English words are aligned to them: those in DATA/transcripts/CLIP.txt, those of the GRID corpus, whose
file names encode the sentence, and those that Whisper heard (`train words`). The phones of the other clips are
recognised, each with a confidence. Existing files are kept.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from torch import Tensor

from ...audio.phones import Phone, SpokenWord, align_words, decode_phones, grid_transcript, write_phones
from ...errors import MediaError
from ...structures import SAMPLE_RATE
from ..dataset.layout import CLIPS, PHONES, phones_path, shard_paths, transcript_path, words_path
from ..dataset.motion_shard import Shard, read_shard
from .words import Utterance, read_words

log = logging.getLogger("vividtalk")

ENGLISH = "en"
CLOSE_S = 0.1  # between two starts of a word that agree
PAUSE_S = 0.2  # between words, in which a recording may be cut
SENTENCE_S = 2.0  # shortest piece


@dataclass(frozen=True, slots=True)
class Labelled:
    """What `label_folder` did."""

    clips: int  # whose phones were written
    differences_s: tuple[float, ...]  # between the starts of the words that PocketSphinx and Whisper time alike

    def describe(self) -> str:
        """One line, or two where words could be compared."""
        text = f"{self.clips} clips labelled"
        if self.differences_s:
            close = sum(d <= CLOSE_S for d in self.differences_s) / len(self.differences_s)
            text += (
                f"\n{len(self.differences_s)} words are timed by Whisper and PocketSphinx: their starts differ by "
                f"{median(self.differences_s):.2f} s (median), {100 * close:.0f} % by at most {CLOSE_S} s"
            )
        return text


def label_folder(data: Path) -> Labelled:
    """Write the phones of every clip with sound that has none yet.

    Raises:
        DatasetError: the folder was not made by `train prepare`.
        MissingPackageError: PocketSphinx is not installed.
    """
    paths = shard_paths(data, CLIPS, "train prepare")
    (data / PHONES).mkdir(exist_ok=True)
    written, differences = 0, list[float]()
    for path in paths:
        shard = read_shard(path)
        out = phones_path(data, shard.name)
        # Existing files are kept: they may have been corrected by hand, and finding phones takes long.
        if len(shard.waveform) and not out.is_file():
            speech = read_words(words_path(data, shard.name))
            words, phones = label(shard, transcript_of(data, shard.name), speech)
            write_phones(out, phones)
            differences += start_differences(words, speech)
            written += 1
    return Labelled(written, tuple(differences))


def transcript_of(data: Path, name: str) -> str | None:
    """The words of a clip, if they are known."""
    path = transcript_path(data, name)
    return path.read_text(encoding="utf-8") if path.is_file() else grid_transcript(name)


def label(shard: Shard, transcript: str | None, speech: Utterance | None) -> tuple[list[SpokenWord], list[Phone]]:
    """Words, if they could be aligned, and phones of a shard, timed by its sound after the delay was removed.

    Args:
        shard: with sound.
        transcript: known English words.
        speech: what Whisper heard, whose words are used where the transcript is not known.
    """
    if transcript is not None or speech is None:
        return _label(shard.waveform, transcript, shard.name)
    if speech.language != ENGLISH:
        return [], decode_phones(shard.waveform, SAMPLE_RATE, english=False)
    words: list[SpokenWord] = []
    phones: list[Phone] = []
    # a name that is in no dictionary must not cost a long clip its alignment
    for start_s, end_s, text in sentences(speech, len(shard.waveform) / SAMPLE_RATE):
        part = shard.waveform[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
        some_words, some_phones = _label(part, text, shard.name)
        words += [SpokenWord(word.text, tuple(_later(word.phones, start_s))) for word in some_words]
        phones += _later(some_phones, start_s)
    return words, phones


def _label(waveform: Tensor, transcript: str | None, name: str) -> tuple[list[SpokenWord], list[Phone]]:
    """Words, if they could be aligned, and phones of a waveform [N] int16."""
    if transcript is not None:
        try:
            words = align_words(waveform, SAMPLE_RATE, transcript)
            return words, [phone for word in words for phone in word.phones]
        except MediaError as error:
            log.warning("Phones of %s are recognised instead of aligned: %s", name, error)
    return [], decode_phones(waveform, SAMPLE_RATE)


def _later(phones: Iterable[Phone], by_s: float) -> list[Phone]:
    return [replace(phone, start_s=phone.start_s + by_s, end_s=phone.end_s + by_s) for phone in phones]


def sentences(speech: Utterance, duration_s: float) -> list[tuple[float, float, str]]:
    """Start and end in seconds and text of pieces of a recording, cut in pauses; together they cover all of it."""
    pieces, start, text = [], 0.0, list[str]()
    for word, after in itertools.pairwise((*speech.words, None)):
        text.append(word.text if word else "")
        if word and after and after.start_s - word.end_s >= PAUSE_S and word.end_s - start >= SENTENCE_S:
            middle = (word.end_s + after.start_s) / 2
            pieces.append((start, middle, " ".join(text)))
            start, text = middle, []
    return [*pieces, (start, duration_s, " ".join(text))] if text else pieces


def start_differences(words: list[SpokenWord], speech: Utterance | None) -> list[float]:
    """Seconds between the starts of the words that an alignment and Whisper have in common, in order."""
    spoken = [word for word in words if word.text and word.phones]
    heard = [] if speech is None else [word for word in speech.words if word.text]
    # only where both hear the same words: one that is missing would shift all that follow
    if [plain_word(word.text) for word in heard] != [word.text for word in spoken]:
        return []
    return [abs(s.phones[0].start_s - h.start_s) for s, h in zip(spoken, heard, strict=True)]


def plain_word(text: str) -> str:
    """A word as the pronunciation dictionary spells it."""
    return "".join(re.findall(r"[a-z']+", text.lower()))
