"""Reads `model.bin` of CTranslate2, the form in which packages hold Whisper's weights. Only the build needs it.

A file of version 6, all numbers little-endian (`python/ctranslate2/specs/model_spec.py` writes it):

    uint32 version · text name of the model's class · uint32 its revision
    uint32 count, then each variable: text name · uint8 rank · uint32 × rank shape · uint8 type · uint32 bytes · data
    uint32 count, then each alias: text name · text name of the variable that it stands for

A text is a uint16 count of bytes and those bytes, the last of which is 0.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

import torch
from torch import Tensor

from ..errors import WeightsError
from ..files import existing_file

VERSION = 6
# CTranslate2's DataType, in its order
TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)


def read_ctranslate2(source: str | os.PathLike[str] | bytes) -> dict[str, Tensor]:
    """All variables of a file by name, e.g. "encoder/conv1/weight" [O, I, k]; options of the model are scalars [].

    Args:
        source: the path of a `model.bin`, or its content.

    Returns:
        Tensors of the types that are stored. An alias is the same tensor as the variable that it stands for.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: the file is of another kind or version, is truncated, or goes on after its end.
    """
    if isinstance(source, bytes):
        return _variables(_Reader(source, "the content"))
    path = Path(source)
    return _variables(_Reader(existing_file(path, "CTranslate2 file").read_bytes(), f"'{path}'"))


class _Reader:
    """The numbers, texts and tensors of a file, one after the other."""

    def __init__(self, content: bytes, what: str) -> None:
        self.what = what  # the file, as messages name it
        # writable, because torch warns of tensors that are not
        self._content, self._position = bytearray(content), 0

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self._content) - self._position

    def skip(self, count: int) -> int:
        """Where the next `count` bytes begin; they are then read."""
        if count > self.left:
            raise WeightsError(
                f"{self.what} is truncated: {count} bytes are announced at byte {self._position}, {self.left} are left"
            )
        self._position += count
        return self._position - count

    def number(self, kind: str) -> int:
        """An unsigned number; `kind` is its letter in `struct`."""
        number: int = struct.unpack_from(f"<{kind}", self._content, self.skip(struct.calcsize(f"<{kind}")))[0]
        return number

    def text(self) -> str:
        """A name."""
        length = self.number("H")
        start = self.skip(length)
        word = self._content[start : start + length]
        if not word.endswith(b"\0") or not word[:-1].isascii():
            raise WeightsError(
                f"{self.what} is damaged: a name is expected at byte {start}, found {bytes(word[:20])!r}"
            )
        return word[:-1].decode()

    def tensor(self, name: str) -> Tensor:
        """The variable `name`, of any shape [...]."""
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind, size = self.number("B"), self.number("I")
        if kind >= len(TYPES):
            raise WeightsError(
                f"{self.what} has an unknown type {kind} for '{name}': only 0 to {len(TYPES) - 1} are known"
            )
        count = math.prod(shape)
        if size != count * TYPES[kind].itemsize:
            raise WeightsError(
                f"{self.what} is damaged: '{name}' {shape} of {TYPES[kind]} announces {size} bytes instead of "
                f"{count * TYPES[kind].itemsize}"
            )
        start = self.skip(size)
        if not count:
            return torch.empty(shape, dtype=TYPES[kind])
        flat = torch.frombuffer(self._content, dtype=torch.uint8, count=size, offset=start)
        # a copy, because data begin at any byte and torch views them as numbers only where they are aligned
        return flat.clone().view(TYPES[kind]).reshape(shape)


def _variables(file: _Reader) -> dict[str, Tensor]:
    """Variables and aliases of a whole file."""
    version = file.number("I")
    if version != VERSION:
        raise WeightsError(f"{file.what} is not a CTranslate2 file of version {VERSION}: it begins with {version}")
    file.text()  # the class of the model
    file.number("I")  # and its revision: both say how the model runs, not how the file is read
    tensors: dict[str, Tensor] = {}
    for _ in range(file.number("I")):
        name = file.text()
        tensors[name] = file.tensor(name)
    for _ in range(file.number("I")):
        alias, name = file.text(), file.text()
        if name not in tensors:
            raise WeightsError(f"{file.what} is damaged: '{alias}' stands for '{name}', which it does not hold")
        tensors[alias] = tensors[name]
    if file.left:
        raise WeightsError(f"{file.what} is damaged: {file.left} bytes follow after its end")
    return tensors
