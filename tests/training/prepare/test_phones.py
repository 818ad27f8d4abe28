"""Phones of a prepared folder."""

import pytest
import torch

from vividtalk_core.audio.phones import Phone, SpokenWord, read_phones
from vividtalk_core.errors import DatasetError, MediaError
from vividtalk_core.structures import ARKIT_NAMES
from vividtalk_core.training.dataset.layout import shard_path
from vividtalk_core.training.dataset.motion_shard import Shard, write_shard
from vividtalk_core.training.prepare import phones
from vividtalk_core.training.prepare.phones import (
    Labelled,
    label,
    label_folder,
    sentences,
    start_differences,
    transcript_of,
)
from vividtalk_core.training.prepare.words import Utterance, Word, write_words


def shard(name, samples=640 * 3):
    return Shard(
        name, "someone", "train", "none", 0, False, False, ARKIT_NAMES, torch.zeros(3, 52), torch.zeros(3, 2, 3),
        torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(52), torch.zeros(2, 3), torch.zeros(3), torch.zeros(3),
        torch.zeros(3, 3), torch.ones(3), torch.zeros(3), torch.ones(samples, dtype=torch.int16),
    )  # fmt: skip


@pytest.fixture
def data(tmp_path):
    for clip in (shard("grid__s1_bbaf2n.mp4"), shard("told.mp4"), shard("untold.mp4"), shard("silent.mp4", 0)):
        write_shard(shard_path(tmp_path, clip.name), clip)
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts/told.mp4.txt").write_text("My name")
    return tmp_path


@pytest.fixture
def transcripts(monkeypatch):
    """PocketSphinx replaced; what it was asked for."""
    asked = []

    def align(waveform, rate, transcript):
        asked.append(transcript)
        if transcript == "My name":
            raise MediaError("the sound does not fit")
        return [SpokenWord("b", (Phone("B", 0.0, 0.1),))]

    def decode(waveform, rate, english=True):
        return [Phone("M" if english else "F", 0.0, 0.1, 0.4)]

    monkeypatch.setattr(phones, "align_words", align)
    monkeypatch.setattr(phones, "decode_phones", decode)
    return asked


def test_words_are_aligned_where_they_are_known(data, transcripts, caplog):
    assert label_folder(data) == Labelled(3, ())
    assert transcripts == ["bin blue at f two now", "My name"]
    assert read_phones(data / "phones/grid__s1_bbaf2n.mp4.json") == [Phone("B", 0.0, 0.1)]
    assert read_phones(data / "phones/told.mp4.json") == [Phone("M", 0.0, 0.1, 0.4)]
    assert "Phones of told.mp4 are recognised instead of aligned: the sound does not fit" in caplog.text
    assert not (data / "phones/silent.mp4.json").exists()


def test_words_that_whisper_heard_are_aligned_if_they_are_english(data, transcripts):
    (data / "words").mkdir()
    write_words(data / "words/untold.mp4.json", Utterance("en", (Word("B!", 0.03, 0.4, 0.9),)))
    write_words(data / "words/told.mp4.json", Utterance("zh", (Word("你好", 0.0, 0.4, 0.9),)))
    (data / "transcripts/told.mp4.txt").unlink()
    result = label_folder(data)
    assert result.clips == 3
    assert transcripts == ["bin blue at f two now", "B!"]
    assert read_phones(data / "phones/told.mp4.json") == [Phone("F", 0.0, 0.1, 0.4)]
    assert "1 words are timed" in result.describe()
    assert "differ by 0.03 s (median), 100 % by at most 0.1 s" in result.describe()


def test_long_speech_is_aligned_sentence_by_sentence(data, transcripts):
    said = (
        Word("one", 0.0, 1.0, 1.0),
        Word("two", 1.1, 2.1, 1.0),
        Word("three", 2.5, 3.0, 1.0),
        Word("x", 3.4, 4, 1.0),
    )
    speech = Utterance("en", said)
    assert sentences(speech, 5.0) == [(0.0, 2.3, "one two"), (2.3, 5.0, "three x")]
    words, found = label(shard("long.mp4"), None, speech)
    assert transcripts == ["one two", "three x"]
    assert [word.phones[0] for word in words] == found
    assert [round(phone.start_s, 3) for phone in found] == [0.0, 2.3]
    assert sentences(Utterance("en", ()), 5.0) == []


def test_starts_are_compared_only_where_both_hear_the_same_words():
    spoken = [SpokenWord("", (Phone("SIL", 0.0, 0.1),)), SpokenWord("my", (Phone("M", 0.1, 0.2),))]
    same, other = (Utterance("en", (Word(text, 0.15, 0.3, 0.9),)) for text in (" My,", "may"))
    assert start_differences(spoken, same) == pytest.approx([0.05])
    assert start_differences(spoken, other) == start_differences(spoken, None) == []


def test_what_is_there_is_kept(data, transcripts):
    label_folder(data)
    (data / "phones/untold.mp4.json").write_text("[]")
    assert label_folder(data).clips == 0
    assert (data / "phones/untold.mp4.json").read_text() == "[]"


def test_a_transcript_comes_before_the_name(data):
    (data / "transcripts/grid__s1_bbaf2n.mp4.txt").write_text("something else")
    assert transcript_of(data, "grid__s1_bbaf2n.mp4") == "something else"
    assert transcript_of(data, "untold.mp4") is None


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="has no folder 'clips': make it with `train prepare`"):
        label_folder(tmp_path)
