"""Words of a prepared folder: what is written, what is kept, and what is asked of faster-whisper."""

import sys
from types import SimpleNamespace

import pytest
import torch

from vividtalk_core.errors import DatasetError, MissingPackageError
from vividtalk_core.structures import ARKIT_NAMES
from vividtalk_core.training.dataset.layout import shard_path
from vividtalk_core.training.dataset.motion_shard import Shard, write_shard
from vividtalk_core.training.prepare.words import (
    Utterance,
    Word,
    label_words,
    read_words,
    whisper_listener,
    write_words,
)

HELLO = Utterance("en", (Word("Hello", 0.1, 0.4, 0.9), Word("there.", 0.4, 0.8, 0.75)))


def shard(name, samples=640 * 3):
    return Shard(
        name, "someone", "train", "none", 0, False, False, ARKIT_NAMES, torch.zeros(3, 52), torch.zeros(3, 2, 3),
        torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(52), torch.zeros(2, 3), torch.zeros(3), torch.zeros(3),
        torch.zeros(3, 3), torch.ones(3), torch.zeros(3), torch.full((samples,), 16384, dtype=torch.int16),
    )  # fmt: skip


def test_words_come_back(tmp_path):
    write_words(tmp_path / "a.json", HELLO)
    assert read_words(tmp_path / "a.json") == HELLO
    assert HELLO.transcript == "Hello there."
    assert read_words(tmp_path / "none.json") is None


@pytest.mark.parametrize("text", ["{", "[]", '{"language": "en"}', '{"language": "en", "words": [["a", 0]]}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DatasetError, match="is not a JSON object with language and words"):
        read_words(tmp_path / "a.json")


def test_clips_with_sound_get_words_once(tmp_path):
    for clip in (shard("one.mp4"), shard("silent.mp4", 0)):
        write_shard(shard_path(tmp_path, clip.name), clip)
    heard = []

    def listen(mono):
        heard.append(mono)
        return HELLO

    assert label_words(tmp_path, listen) == 1
    assert heard[0].shape == (640 * 3,) and heard[0].max() == 0.5
    assert read_words(tmp_path / "words/one.mp4.json") == HELLO
    assert label_words(tmp_path, listen) == 0


def test_whisper_is_asked_for_the_times_of_words(monkeypatch):
    asked = {}

    class Model:
        def __init__(self, name, **options):
            asked["name"] = name

        def transcribe(self, samples, **options):
            asked.update(options, samples=len(samples))
            word = SimpleNamespace(word=" Hello", start=0.1, end=0.4, probability=0.9)
            return [SimpleNamespace(words=[word]), SimpleNamespace(words=None)], SimpleNamespace(language="en")

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=Model))
    assert whisper_listener("tiny")(torch.zeros(1600)) == Utterance("en", HELLO.words[:1])
    assert asked["name"] == "tiny" and asked["word_timestamps"] and asked["samples"] == 1600


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingPackageError, match="pip install faster-whisper"):
        whisper_listener()
