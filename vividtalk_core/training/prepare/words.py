"""Words of a prepared folder, heard by a whole Whisper: DATA/words/CLIP.json.

They tell `train phones` what is spoken and in which language. Whisper runs through faster-whisper, which is optional
(`pip install faster-whisper`); it is a tool of the preparation and no part of what ships.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ...errors import DatasetError, MissingPackageError
from ...files import whole_file
from ..dataset.layout import CLIPS, WORDS, shard_paths, words_path
from ..dataset.motion_shard import read_shard

log = logging.getLogger("vividtalk")

MODEL = "base"  # multilingual; faster-whisper downloads it from the Hub


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a recording."""

    text: str
    start_s: float
    end_s: float
    probability: float  # 0..1


@dataclass(frozen=True, slots=True)
class Utterance:
    """What is said in a recording."""

    language: str  # ISO 639-1, e.g. "en"
    words: tuple[Word, ...]

    @property
    def transcript(self) -> str:
        """The words in a row."""
        return " ".join(word.text for word in self.words)


Listener = Callable[[Tensor], Utterance]  # mono [N] float32 at 16 kHz → words


def label_words(data: Path, listener: Listener) -> int:
    """Write the words of every clip with sound that has none yet, and return how many were written.

    Args:
        data: a prepared folder.
        listener: of `whisper_listener`.

    Raises:
        DatasetError: the folder was not made by `train prepare`.
    """
    paths = shard_paths(data, CLIPS, "train prepare")
    (data / WORDS).mkdir(exist_ok=True)
    written = 0
    for path in paths:
        shard = read_shard(path)
        out = words_path(data, shard.name)
        # existing files are kept: they may have been corrected by hand
        if len(shard.waveform) and not out.is_file():
            speech = listener(shard.sound[0])
            write_words(out, speech)
            log.info("%s (%s): %s", shard.name, speech.language, speech.transcript)
            written += 1
    return written


class _Segment(Protocol):
    """What is used of faster-whisper's segments."""

    @property
    def words(self) -> Iterable[_Word] | None: ...


class _Word(Protocol):
    """What is used of its words."""

    word: str
    start: float
    end: float
    probability: float


def whisper_listener(model: str = MODEL) -> Listener:
    """A listener that runs Whisper.

    Args:
        model: a name that faster-whisper knows, or a folder with a model that CTranslate2 wrote.

    Raises:
        MissingPackageError: faster-whisper is not installed.
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise MissingPackageError("words need faster-whisper: pip install faster-whisper") from error
    network = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=1)

    def listen(mono: Tensor) -> Utterance:
        segments, info = network.transcribe(mono.numpy(), word_timestamps=True, condition_on_previous_text=False)
        return Utterance(str(info.language), tuple(_words(segments)))

    return listen


def _words(segments: Iterable[_Segment]) -> Iterable[Word]:
    for segment in segments:
        for word in segment.words or ():
            yield Word(word.word.strip(), float(word.start), float(word.end), float(word.probability))


def write_words(path: Path, speech: Utterance) -> None:
    """Write {"language": …, "words": [[word, start_s, end_s, probability], …]} as JSON."""
    rows = [[w.text, round(w.start_s, 3), round(w.end_s, 3), round(w.probability, 3)] for w in speech.words]
    with whole_file(path) as part:
        part.write_text(json.dumps({"language": speech.language, "words": rows}, ensure_ascii=False), encoding="utf-8")


def read_words(path: Path) -> Utterance | None:
    """The words of a file of `write_words`, or None if there is no such file.

    Raises:
        DatasetError: the file holds something else.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
        words = tuple(Word(str(t), float(start), float(end), float(p)) for t, start, end, p in found["words"])
        return Utterance(str(found["language"]), words)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DatasetError(
            f"'{path}' is not a JSON object with language and words [word, start_s, end_s, probability]: {error}"
        ) from error
