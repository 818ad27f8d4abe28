"""Phones: files, GRID's names, closures; alignment and decoding where PocketSphinx is installed."""

import itertools
import sys
from pathlib import Path

import pytest
import torch

from vividtalk_core.audio import phones
from vividtalk_core.audio.phones import (
    Phone,
    align_phones,
    decode_phones,
    grid_transcript,
    read_phones,
    spans_of,
    write_phones,
)
from vividtalk_core.errors import DatasetError, MediaError, MissingPackageError

WORDS = [Phone("B", 0.1, 0.2), Phone("AY", 0.2, 0.4), Phone("M", 0.4, 0.5, 0.3), Phone("P", 0.6, 0.7, 0.5)]


def test_closures_are_confident_labials():
    assert spans_of(WORDS) == [(0.1, 0.2), (0.6, 0.7)]
    assert spans_of(WORDS, least_confidence=0.0) == [(0.1, 0.2), (0.4, 0.5), (0.6, 0.7)]
    assert spans_of([]) == []


def test_phones_survive_a_file(tmp_path):
    path = tmp_path / "a.json"
    write_phones(path, WORDS)
    assert read_phones(path) == WORDS
    path.write_text('[["SIL", 0, 1.5]]')
    assert read_phones(path) == [Phone("SIL", 0.0, 1.5, 1.0)]


@pytest.mark.parametrize(
    "text",
    [
        "{", '[["B", "x", 1]]', '[["B"]]', "3", "null", "{}", '[["B", 0, 1, 1, 7]]', '[["B", 1, 0.5]]', '[[1, 0, 1]]',
        '[["B", NaN, 1]]', '[["B", 0, 1, "sure"]]', '["B", 0, 1]',
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"is not (a JSON list of )?\[phone, start_s, end_s\]"):
        read_phones(path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("folder/bbaf2n.mp4", "bin blue at f two now"),
        ("s1_swwzzs.mpg", "set white with z zero soon"),
        ("id2_vcd_prbc9a.mp4", "place red by c nine again"),
        ("bbaf2x.mp4", None),
        ("bbaw2n.mp4", None),
        ("bbaf2nn.mp4", None),
        ("interview.mp4", None),
    ],
)
def test_grid_names_hold_their_sentence(name, sentence):
    assert grid_transcript(name) == sentence


def test_confidence_is_the_share_of_time_in_agreement():
    others = [Phone("B", 0.0, 0.15), Phone("P", 0.15, 0.2)]
    assert phones._agreement(Phone("B", 0.1, 0.2), others) == pytest.approx(0.5)
    assert phones._agreement(Phone("M", 0.1, 0.2), others) == 0


def test_without_pocketsphinx_the_message_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingPackageError, match="pip install pocketsphinx"):
        align_phones(torch.zeros(16000), 16000, "hello")


def test_a_transcript_needs_words():
    with pytest.raises(MediaError, match="has no words"):
        align_phones(torch.zeros(16000), 16000, " 12 ")


@pytest.fixture(scope="module")
def speech():
    """The demo's speech and its rate."""
    pytest.importorskip("pocketsphinx")
    from vividtalk_core.audio.waveform import read_audio

    (path,) = (Path(phones.__file__).parents[1] / "assets/demo").glob("speech.*")
    return read_audio(path)


def test_decoded_phones_follow_each_other(speech):
    waveform, rate = speech
    waveform = waveform[:, : 2 * rate]
    found = decode_phones(waveform, rate)
    assert len(found) > 5
    assert all(a.end_s <= b.start_s + 1e-6 and a.start_s < a.end_s for a, b in itertools.pairwise(found))
    assert all(0 <= p.confidence <= 1 for p in found) and max(p.confidence for p in found) > 0.5
    assert found[-1].end_s <= 2.0 + 1e-6
    assert decode_phones(waveform, rate, english=False) != []


def test_an_unknown_word_is_named(speech):
    with pytest.raises(ValueError, match="not in the pronunciation dictionary: xqzzt"):
        align_phones(*speech, "hello xqzzt")


def test_aligned_phones_are_those_of_the_words(speech):
    waveform, rate = speech
    words = phones._decoder()
    phones._run(words, phones._samples(waveform[:, : 3 * rate], rate))
    found = align_phones(waveform[:, : 3 * rate], rate, "please" if words.hyp() is None else words.hyp().hypstr)
    assert {p.name for p in found} - {"SIL"}
    assert found[0].start_s >= 0 and found[-1].end_s <= 3.0 + 1e-6
