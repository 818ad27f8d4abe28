"""Motion shards: expression, head pose and sound of one clip, in one safetensors file at 25 frames per second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ...audio.encoder import MEL, encode_audio
from ...errors import DatasetError, MissingFileError, SettingsError
from ...hub import load_tensors, read_header, save_tensors
from ...structures import ARKIT_NAMES, SAMPLE_RATE, AudioFeatures, check_shapes
from .layout import CLIPS, shard_paths

# Frames per second of every shard: a frame then holds exactly 640 samples and four mel frames, so that sound and
# picture cannot drift apart.
FPS = 25.0
FORMAT = "2"
SPLITS = ("train", "validation", "test")
SAMPLES_PER_FRAME = round(SAMPLE_RATE / FPS)
ALL = "all"


class Curves(Protocol):
    """What every form of a clip has: the curves of T frames."""

    @property
    def coefficients(self) -> Tensor: ...  # [T, E] β
    @property
    def lip_offsets(self) -> Tensor: ...  # [T, L, 3] model units
    @property
    def rotation(self) -> Tensor: ...  # [T, 3] rad, absolute
    @property
    def translation(self) -> Tensor: ...  # [T, 3] model units, absolute


def curve_shapes(clip: Curves) -> dict[str, tuple[Tensor, str]]:
    """The curves of a clip by name, each with its shape, e.g. [T, E], as `check_shapes` takes them."""
    return {
        "coefficients": (clip.coefficients, "T E"),
        "lip_offsets": (clip.lip_offsets, "T L 3"),
        "rotation": (clip.rotation, "T 3"),
        "translation": (clip.translation, "T 3"),
    }


@dataclass(frozen=True, eq=False, slots=True)
class Shard:
    """One clip of T frames of one speaker, calibrated: zero is this speaker's relaxed, closed mouth."""

    name: str  # of the clip, unique in its folder
    identity: str  # the speaker; none is in both "train" and "validation"
    split: str  # one of SPLITS
    licence: str
    lag_frames: int  # delay of the sound that was removed
    has_pose: bool  # False: rotation and translation are zero and not known
    has_offsets: bool  # False: the lip offsets are zero and not known
    known: tuple[str, ...]  # the coefficients that were observed; the others are zero and not known
    coefficients: Tensor  # [T, E] float32 β, 0..1
    lip_offsets: Tensor  # [T, L, 3] float16, model units
    rotation: Tensor  # [T, 3] float32 rad, absolute
    translation: Tensor  # [T, 3] float32 model units, absolute
    neutral_coefficients: Tensor  # [E] float32, subtracted from the tracked coefficients
    neutral_lip_offsets: Tensor  # [L, 3] float32, subtracted from the tracked lip offsets
    aperture: Tensor  # [T] float32 gap of the inner lips, in inter-ocular distances (IOD)
    width: Tensor  # [T] float32 distance of the mouth corners, IOD
    upper_face: Tensor  # [T, 3] float32 brows and lower lids of `head.upper_face`, IOD from rest
    valid: Tensor  # [T] uint8, 1 where the frame is used for training
    id_coefficients: Tensor  # [I] float32 α
    waveform: Tensor  # [N] int16 at 16 kHz, N = 640·T, or 0 for a clip without sound

    def __post_init__(self) -> None:
        check_shapes(
            **curve_shapes(self),
            neutral_coefficients=(self.neutral_coefficients, "E"),
            neutral_lip_offsets=(self.neutral_lip_offsets, "L 3"),
            aperture=(self.aperture, "T"),
            width=(self.width, "T"),
            upper_face=(self.upper_face, "T 3"),
            valid=(self.valid, "T"),
            id_coefficients=(self.id_coefficients, "I"),
            waveform=(self.waveform, "N"),
        )
        if self.split not in SPLITS:
            raise DatasetError(f"the split of {self.name} must be one of {', '.join(SPLITS)}; got '{self.split}'.")
        if len(self.waveform) not in (0, SAMPLES_PER_FRAME * len(self.coefficients)):
            expected = SAMPLES_PER_FRAME * len(self.coefficients)
            raise DatasetError(
                f"the sound of {self.name} has {len(self.waveform)} samples; it must have 0 or {expected}."
            )

    @property
    def frames(self) -> int:
        """T."""
        return len(self.coefficients)

    @property
    def sound(self) -> Tensor:
        """[1, N] float32 in −1..1 at 16 kHz, N = 0 for a clip without sound."""
        return self.waveform[None].float() / 32768

    @property
    def known_mask(self) -> Tensor:
        """The observed coefficients, bool of shape [E]."""
        return torch.tensor([name in self.known for name in ARKIT_NAMES])


def encode_shard(shard: Shard, encoder: str = MEL) -> AudioFeatures:
    """Audio features of a clip with sound, T = frames of the shard; see `encode_audio`."""
    return encode_audio(shard.sound, SAMPLE_RATE, FPS, encoder)


TENSORS = tuple(field.name for field in fields(Shard) if field.type == "Tensor")
# Lip offsets are most of a shard: half precision halves it, and its rounding is far below the noise of tracking.
TYPES = {"lip_offsets": torch.float16, "valid": torch.uint8, "waveform": torch.int16}


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard, whole or not at all."""
    tensors = {name: getattr(shard, name).to(TYPES.get(name, torch.float32)) for name in TENSORS}
    # A word instead of 52 names, for the usual case.
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
        MissingFileError: there is no such file.
        WeightsError: it is damaged.
        DatasetError: it is of another format or incomplete.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"there is no shard {path}; `train prepare` makes them.")
    header, tensors = read_header(path), load_tensors(path)
    if header.get("format") != FORMAT:
        raise DatasetError(
            f"{path} is a shard of format '{header.get('format', '')}', not '{FORMAT}': prepare it again."
        )
    missing = sorted(set(TENSORS) - tensors.keys())
    if missing:
        raise DatasetError(f"{path} is not a whole shard: {', '.join(missing)} missing; prepare it again.")
    try:
        return _make_shard(header, tensors)
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{path} is not a whole shard ({error}); prepare it again.") from error


def _make_shard(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Shard:
    """The shard of a header and of tensors named like its fields, e.g. coefficients [T, E]."""
    return Shard(
        name=header["name"],
        identity=header["identity"],
        split=header["split"],
        licence=header["licence"],
        lag_frames=int(header["lag_frames"]),
        has_pose=header["has_pose"] == "1",
        has_offsets=header["has_offsets"] == "1",
        known=ARKIT_NAMES if header["known"] == ALL else tuple(filter(None, header["known"].split(","))),
        coefficients=tensors["coefficients"],
        lip_offsets=tensors["lip_offsets"],
        rotation=tensors["rotation"],
        translation=tensors["translation"],
        neutral_coefficients=tensors["neutral_coefficients"],
        neutral_lip_offsets=tensors["neutral_lip_offsets"],
        aperture=tensors["aperture"],
        width=tensors["width"],
        upper_face=tensors["upper_face"],
        valid=tensors["valid"],
        id_coefficients=tensors["id_coefficients"],
        waveform=tensors["waveform"],
    )


def load_shards(folder: str | Path, split: str) -> list[Shard]:
    """The shards of a split, by name; empty if the prepared folder has none of it.

    Raises:
        DatasetError: the folder was not made by `train prepare`.
        SettingsError: there is no such split.
    """
    if split not in SPLITS:
        raise SettingsError(f"a split is one of {', '.join(SPLITS)}; got '{split}'.")
    paths = shard_paths(Path(folder), CLIPS, "train prepare")
    return [read_shard(path) for path in paths if read_header(path).get("split") == split]
