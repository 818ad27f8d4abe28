"""Phones of a prepared folder."""

import pytest
import torch

from vividtalk_core.audio.phones import Phone, read_phones
from vividtalk_core.errors import DatasetError, MediaError
from vividtalk_core.structures import ARKIT_NAMES
from vividtalk_core.training.dataset.layout import shard_path
from vividtalk_core.training.dataset.motion_shard import Shard, write_shard
from vividtalk_core.training.prepare import phones
from vividtalk_core.training.prepare.phones import label_folder, transcript_of


def shard(name, samples=640 * 3):
    return Shard(
        name, "someone", "train", "none", 0, False, False, ARKIT_NAMES, torch.zeros(3, 52), torch.zeros(3, 2, 3),
        torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(52), torch.zeros(2, 3), torch.zeros(3), torch.zeros(3),
        torch.ones(3), torch.zeros(3), torch.ones(samples, dtype=torch.int16),
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
        return [Phone("B", 0.0, 0.1)]

    monkeypatch.setattr(phones, "align_phones", align)
    monkeypatch.setattr(phones, "decode_phones", lambda waveform, rate: [Phone("M", 0.0, 0.1, 0.4)])
    return asked


def test_words_are_aligned_where_they_are_known(data, transcripts, caplog):
    assert label_folder(data) == 3
    assert transcripts == ["bin blue at f two now", "My name"]
    assert read_phones(data / "phones/grid__s1_bbaf2n.mp4.json") == [Phone("B", 0.0, 0.1)]
    assert read_phones(data / "phones/told.mp4.json") == [Phone("M", 0.0, 0.1, 0.4)]
    assert "The phones of told.mp4 are recognised instead of aligned: the sound does not fit" in caplog.text
    assert not (data / "phones/silent.mp4.json").exists()


def test_what_is_there_is_kept(data, transcripts):
    label_folder(data)
    (data / "phones/untold.mp4.json").write_text("[]")
    assert label_folder(data) == 0
    assert (data / "phones/untold.mp4.json").read_text() == "[]"


def test_a_transcript_comes_before_the_name(data):
    (data / "transcripts/grid__s1_bbaf2n.mp4.txt").write_text("something else")
    assert transcript_of(data, "grid__s1_bbaf2n.mp4") == "something else"
    assert transcript_of(data, "untold.mp4") is None


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="has no folder 'clips': make it with `train prepare`"):
        label_folder(tmp_path)
