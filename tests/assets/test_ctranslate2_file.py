"""CTranslate2's files: every type, aliases, and that no damaged or other file is read."""

import struct

import pytest
import torch

from vividtalk_core.assets.ctranslate2_file import TYPES, read_ctranslate2
from vividtalk_core.errors import MissingFileError, WeightsError


def text(name: str) -> bytes:
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def variable(name: str, tensor: torch.Tensor) -> bytes:
    data = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    shape = struct.pack(f"<B{tensor.dim()}I", tensor.dim(), *tensor.shape)
    return text(name) + shape + struct.pack("<BI", TYPES.index(tensor.dtype), len(data)) + data


def model(variables: dict[str, torch.Tensor], aliases: dict[str, str] | None = None, version: int = 6) -> bytes:
    aliases = aliases or {}
    head = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    tail = struct.pack("<I", len(aliases)) + b"".join(text(a) + text(n) for a, n in aliases.items())
    return head + b"".join(variable(*item) for item in variables.items()) + tail


WEIGHTS = {
    "pre_norm": torch.tensor([1], dtype=torch.int8)[0],  # moves all that follows to an odd byte
    "conv/weight": torch.arange(12.0).reshape(2, 2, 3),
    "half": torch.tensor([[0.5, -2.0]], dtype=torch.float16),
    "brain": torch.tensor([3.0], dtype=torch.bfloat16),
    "heads": torch.tensor([-7, 8], dtype=torch.int16),
    "count": torch.tensor([70000], dtype=torch.int32),
    "none": torch.zeros(0, 4),
}
FILE = model(WEIGHTS, {"projection/weight": "conv/weight"})


def test_every_type_comes_back(tmp_path):
    (tmp_path / "model.bin").write_bytes(FILE)
    for read in (
        read_ctranslate2(FILE),
        read_ctranslate2(tmp_path / "model.bin"),
        read_ctranslate2(str(tmp_path / "model.bin")),
    ):
        assert list(read) == [*WEIGHTS, "projection/weight"]
        for name, expected in WEIGHTS.items():
            assert read[name].dtype == expected.dtype and read[name].shape == expected.shape
            assert torch.equal(read[name], expected)
        assert read["projection/weight"] is read["conv/weight"]


def test_a_file_cut_anywhere_is_refused():
    for end in range(len(FILE)):
        with pytest.raises(WeightsError):
            read_ctranslate2(FILE[:end])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the content is truncated: 4 bytes are announced at byte 0, 0 are left"),
        (b"PK\3\4 a zip file", "is not a CTranslate2 file of version 6: it begins with 67324752"),
        (model(WEIGHTS, version=5), "is not a CTranslate2 file of version 6: it begins with 5"),
        (FILE + b"more", "4 bytes follow after its end"),
        (model(WEIGHTS, {"a": "b"}), "'a' stands for 'b', which it does not hold"),
        (FILE.replace(struct.pack("<BI", 4, 4), struct.pack("<BI", 9, 4)), "unknown type 9 for 'half'"),
        (
            FILE.replace(struct.pack("<BI", 4, 4), struct.pack("<BI", 0, 4)),
            r"'half' \[1, 2\] of torch.float32 announces 4 bytes instead of 8",
        ),
        (FILE.replace(b"half\0", b"half!"), "a name is expected at byte"),
    ],
)
def test_what_is_wrong_is_said(content, message):
    with pytest.raises(WeightsError, match=message):
        read_ctranslate2(content)


def test_the_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="there is no CTranslate2 file"):
        read_ctranslate2(tmp_path / "model.bin")
    (tmp_path / "model.bin").write_bytes(FILE[:50])
    with pytest.raises(WeightsError, match=r"model\.bin' is truncated"):
        read_ctranslate2(tmp_path / "model.bin")
