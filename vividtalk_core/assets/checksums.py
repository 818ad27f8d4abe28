"""Writes assets so that equal content gives equal bytes, and keeps their sha256 in `sha256.json`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from ..errors import WeightsError
from ..files import whole_file

CHECKSUMS = "sha256.json"


def write_asset(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """Write tensors of any shape [N, ...] to a safetensors file.

    There must be one metadata key, because the order of several varies.
    """
    if len(metadata) != 1:
        raise ValueError(f"an asset takes exactly one metadata entry, whose order cannot vary; got {sorted(metadata)}")
    with whole_file(path) as part:
        part.write_bytes(save(tensors, metadata))
    return path


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def recorded(folder: Path) -> dict[str, str]:
    """File name → sha256, as `sha256.json` of a folder has it."""
    path = folder / CHECKSUMS
    sums: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return sums


def record(paths: list[Path]) -> None:
    """Merge the sha256 of files into `sha256.json` beside them."""
    for folder in {path.parent for path in paths}:
        sums = recorded(folder) | {path.name: sha256(path) for path in paths if path.parent == folder}
        with whole_file(folder / CHECKSUMS) as part:
            part.write_text(json.dumps(sums, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check(paths: list[Path], expected: dict[str, str]) -> None:
    """Raise WeightsError unless each file has the sha256 that `expected` gives for its name."""
    for path in paths:
        found, listed = sha256(path), expected.get(path.name, "no")
        if found != listed:
            raise WeightsError(
                f"{path.name} has sha256 {found}, but {CHECKSUMS} lists {listed} for it: use the pinned packages, or "
                "--update"
            )
