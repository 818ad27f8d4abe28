"""Which clips a folder holds, and that no one is in two splits."""

from pathlib import Path

import pytest

from vividtalk_core.errors import DatasetError
from vividtalk_core.training.prepare.clips import Clip, assign_splits, find_clips, split_of

# written down, so that no later version moves people between training and validation
KNOWN_SPLITS = {"0": "train", "8": "test", "9": "validation"}


@pytest.fixture
def folder(tmp_path):
    for name in ("ada/one.mp4", "ada/two.MOV", "bob/take.csv", "bob/take.wav", "bob/alone.csv", "cy.webm", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "ada/.hidden.mp4").touch()
    return tmp_path


def manifest(folder, text):
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return find_clips(folder)


def test_folder_without_manifest(folder):
    clips = find_clips(folder)
    assert [(c.file, c.identity) for c in clips] == [
        ("ada/one.mp4", "ada"), ("ada/two.MOV", "ada"), ("bob/take.csv", "bob"), ("cy.webm", "cy"),
    ]  # fmt: skip
    assert [c.name for c in clips] == ["ada__one.mp4", "ada__two.MOV", "bob__take.csv", "cy.webm"]
    assert clips[2].sound == folder / "bob/take.wav"
    assert clips[0].sound is None
    assert all(c.split == split_of(c.identity) for c in clips)


def test_split_of_a_name_is_stable_and_spread():
    assert {name: split_of(name) for name in KNOWN_SPLITS} == KNOWN_SPLITS
    many = [split_of(str(n)) for n in range(2000)]
    assert 0.07 < many.count("validation") / 2000 < 0.13
    assert 0.07 < many.count("test") / 2000 < 0.13


def test_manifest_says_who_where_and_under_which_licence(folder):
    clips = manifest(
        folder,
        "file,identity,split,licence,tier,sound\n"
        "ada/one.mp4,Ada,train,CC0,A,\n"
        "ada/two.MOV,Ada,test_seen_speaker,,B,no\n"
        "bob/take.csv,Bob,validation,,,\n"
        "gone/away.mp4,Cy,,,,yes\n",
    )
    assert [(c.identity, c.split, c.licence, c.silent) for c in clips] == [
        ("Ada", "train", "CC0", False),
        ("Ada", "test", "B", True),
        ("Bob", "validation", "", False),
        ("Cy", split_of("Cy"), "", False),
    ]
    assert clips[2].sound == folder / "bob/take.wav"
    assert clips[3].path == folder / "gone/away.mp4"


def test_clip_without_split_joins_its_identity():
    clips = [Clip(Path(str(i)), str(i), "Ada", split) for i, split in enumerate(("", "validation", ""))]
    assert [c.split for c in assign_splits(clips)] == ["validation"] * 3


def test_test_split_may_share_people():
    clips = [Clip(Path(str(i)), str(i), "Ada", split) for i, split in enumerate(("train", "test", "test"))]
    assert [c.split for c in assign_splits(clips)] == ["train", "test", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,identity,split\na.mp4,Ada,train\nb.mp4,Ada,validation\n",
            "1 identities are in both train and val",
        ),
        ("file,who\na.mp4,Ada\n", r"manifest\.csv has no column identity; it needs file and identity"),
        ("", "has no column file, identity"),
        ("file,identity\na.mp4,\n", r"line 2 of .*manifest\.csv names no file or no identity"),
        ("file,identity,split\na.mp4,Ada,dev\n", "line 2 of .* the split is one of train, validation, test; got 'dev'"),
        ("file,identity\na/b.mp4,Ada\na__b.mp4,Bob\n", r"1 clips are named twice, among them a__b\.mp4"),
    ],
)
def test_manifest_errors(folder, text, message):
    with pytest.raises(ValueError, match=message):
        manifest(folder, text)


def test_manifest_that_is_no_text(folder):
    (folder / "manifest.csv").write_bytes(b"file,identity\n\xff\xfe,\x80")
    with pytest.raises(ValueError, match=r"manifest\.csv is not a text file"):
        find_clips(folder)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_clips(tmp_path / "none")
    with pytest.raises(DatasetError, match=r"holds no clips: it needs videos \(\.mp4, .*with a sound of the same"):
        find_clips(tmp_path)
