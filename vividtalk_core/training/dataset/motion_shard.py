"""Shards: what one clip teaches, in one safetensors file at 25 frames per second."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ...audio.encoder import encode_audio
from ...hub import load_tensors, read_header, save_tensors
from ...structures import ARKIT_NAMES, SAMPLE_RATE, AudioFeatures, check_shapes

FPS = 25.0  # frames per second of every shard
FORMAT = "1"
FOLDER = "clips"  # of a prepared folder
SPLITS = ("train", "validation", "test")
SAMPLES_PER_FRAME = round(SAMPLE_RATE / FPS)
ALL = "all"


@dataclass(frozen=True, eq=False, slots=True)
class Shard:
    """One clip of T frames of one speaker, calibrated: zero is this speaker's relaxed, closed mouth."""

    name: str  # of the clip, unique in its folder
    identity: str  # who it is; no one is in both "train" and "validation"
    split: str  # one of SPLITS
    licence: str
    lag_frames: int  # by which the sound came late and was moved forward
    has_pose: bool  # False: rotation and translation are zero and mean nothing
    has_offsets: bool  # False: the lip offsets are zero and mean nothing
    known: tuple[str, ...]  # the coefficients that were observed; the others are zero and mean nothing
    coefficients: Tensor  # [T, E] float32 β, 0..1
    lip_offsets: Tensor  # [T, L, 3] float16, model units
    rotation: Tensor  # [T, 3] float32 rad, absolute
    translation: Tensor  # [T, 3] float32 model units, absolute
    neutral_coefficients: Tensor  # [E] float32, what was taken off
    neutral_lip_offsets: Tensor  # [L, 3] float32, what was taken off
    aperture: Tensor  # [T] float32 inner lips apart, in inter-ocular distances
    width: Tensor  # [T] float32 mouth corners apart, in inter-ocular distances
    valid: Tensor  # [T] uint8, 1 where the frame may be learned from
    id_coefficients: Tensor  # [I] float32 α
    waveform: Tensor  # [N] int16 at 16 kHz, N = 640·T, or 0 for a clip without sound

    def __post_init__(self) -> None:
        check_shapes(
            coefficients=(self.coefficients, "T E"),
            lip_offsets=(self.lip_offsets, "T L 3"),
            rotation=(self.rotation, "T 3"),
            translation=(self.translation, "T 3"),
            neutral_coefficients=(self.neutral_coefficients, "E"),
            neutral_lip_offsets=(self.neutral_lip_offsets, "L 3"),
            aperture=(self.aperture, "T"),
            width=(self.width, "T"),
            valid=(self.valid, "T"),
            id_coefficients=(self.id_coefficients, "I"),
            waveform=(self.waveform, "N"),
        )
        if self.split not in SPLITS:
            raise ValueError(f"the split of {self.name} must be one of {', '.join(SPLITS)}; got '{self.split}'.")
        if len(self.waveform) not in (0, SAMPLES_PER_FRAME * len(self.coefficients)):
            wanted = SAMPLES_PER_FRAME * len(self.coefficients)
            raise ValueError(f"the sound of {self.name} has {len(self.waveform)} samples; 0 or {wanted} are wanted.")

    @property
    def frames(self) -> int:
        return len(self.coefficients)

    @property
    def sound(self) -> Tensor:
        """[1, N] float32 in −1..1 at 16 kHz, N = 0 for a clip without sound."""
        return self.waveform[None].float() / 32768

    @property
    def known_mask(self) -> Tensor:
        """[E] bool, which coefficients were observed."""
        return torch.tensor([name in self.known for name in ARKIT_NAMES])


def hear(shard: Shard, encoder: str = "mel") -> AudioFeatures:
    """What is heard in a clip with sound, T rows; see `encode_audio`."""
    return encode_audio(shard.sound, SAMPLE_RATE, FPS, encoder)


TENSORS = tuple(field.name for field in fields(Shard) if field.type == "Tensor")
TYPES = {"lip_offsets": torch.float16, "valid": torch.uint8, "waveform": torch.int16}


def shard_path(folder: Path, name: str) -> Path:
    """Where a prepared folder keeps the clip of that name."""
    return folder / FOLDER / f"{name}.safetensors"


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard, whole or not at all."""
    tensors = {name: getattr(shard, name).to(TYPES.get(name, torch.float32)) for name in TENSORS}
    known = ALL if shard.known == ARKIT_NAMES else ",".join(shard.known)
    header = {
        "format": FORMAT,
        "name": shard.name,
        "identity": shard.identity,
        "split": shard.split,
        "licence": shard.licence,
        "lag_frames": str(shard.lag_frames),
        "has_pose": str(int(shard.has_pose)),
        "has_offsets": str(int(shard.has_offsets)),
        "known": known,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, tensors, header)


def read_shard(path: str | Path) -> Shard:
    """Read a shard.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of another format, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no shard {path}; `prepare` makes them.")
    header, tensors = read_header(path), load_tensors(path)
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is a shard of format '{header.get('format', '')}', not '{FORMAT}': prepare it again.")
    missing = sorted(set(TENSORS) - tensors.keys())
    if missing:
        raise ValueError(f"{path} is not a whole shard: {', '.join(missing)} missing; prepare it again.")
    return Shard(
        **{name: header[name] for name in ("name", "identity", "split", "licence")},
        lag_frames=int(header["lag_frames"]),
        has_pose=header["has_pose"] == "1",
        has_offsets=header["has_offsets"] == "1",
        known=ARKIT_NAMES if header["known"] == ALL else tuple(filter(None, header["known"].split(","))),
        **{name: tensors[name] for name in TENSORS},
    )


def load_shards(folder: str | Path, split: str) -> list[Shard]:
    """The shards of a split, by name; empty if the prepared folder has none of it.

    Raises:
        FileNotFoundError: the folder was not made by `prepare`.
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"a split is one of {', '.join(SPLITS)}; got '{split}'.")
    clips = Path(folder) / FOLDER
    if not clips.is_dir():
        raise FileNotFoundError(f"{folder} has no folder '{FOLDER}': it was not made by `prepare`.")
    paths = sorted(clips.glob("*.safetensors"))
    return [read_shard(path) for path in paths if read_header(path).get("split") == split]
