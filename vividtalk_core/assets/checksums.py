"""Writes assets so that the same content is the same bytes, and keeps their sha256 in `sha256.json`."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

CHECKSUMS = "sha256.json"


def write_asset(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """Write a safetensors file beside its name and rename it; one metadata key keeps the header's order fixed."""
    if len(metadata) != 1:
        raise ValueError(f"an asset takes exactly one metadata entry, whose order cannot vary; got {sorted(metadata)}")
    _write(path, save(tensors, metadata))
    return path


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record(paths: list[Path]) -> None:
    """Merge the sha256 of files into `sha256.json` beside them."""
    for folder in {path.parent for path in paths}:
        sums = recorded(folder) | {path.name: sha256(path) for path in paths if path.parent == folder}
        _write(folder / CHECKSUMS, (json.dumps(sums, indent=2, sort_keys=True) + "\n").encode())


def recorded(folder: Path) -> dict[str, str]:
    """File name → sha256, as `sha256.json` of a folder has it."""
    path = folder / CHECKSUMS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def check(folder: Path) -> None:
    """Raise ValueError if a file of `folder` is not the one that `sha256.json` lists."""
    for name, expected in recorded(folder).items():
        found = sha256(folder / name)
        if found != expected:
            raise ValueError(f"{folder / name} has sha256 {found}, expected {expected}: rebuild or reinstall the pack")


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
