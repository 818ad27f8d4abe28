"""Pair shards: one frame of a clip is the portrait, other frames of the clip are the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ...errors import DatasetError, MissingFileError, SettingsError, WeightsError
from ...filters import upsample
from ...hub import load_tensors, read_header, save_tensors
from ...pixels import to_float
from ...structures import CROP, check_shapes
from .layout import PAIRS, shard_paths
from .motion_shard import SPLITS

FORMAT = "pairs-2"
# Consecutive frames per run: one loss compares the change between them.
RUN = 2
# px; motion between neighbouring frames is smooth, so a quarter of the pixels is enough.
STEP_SIZE = 128


@dataclass(frozen=True, eq=False, slots=True)
class PairShard:
    """A portrait and N runs of R = 2 consecutive frames, rendered in closed form; 256 crops, uint8 is 0..1."""

    name: str  # unique in its folder
    identity: str
    split: str  # one of SPLITS
    source: Tensor  # [3, H, W] uint8, the portrait's crop
    source_ncc: Tensor  # [4, H, W] uint8, its NCC and inner-face mask
    source_points: Tensor  # [478, 2] float32 px of the crop
    source_lips: Tensor  # [20, 2] float32 px, lip landmarks of its mesh
    follow: Tensor  # [1, H, W] uint8, weight of motion, 0 on the still background
    target: Tensor  # [N, R, 3, H, W] uint8, the real frames in the portrait's crop
    ncc: Tensor  # [N, R, 4, H, W] uint8, driven NCC and inner-face mask
    flow: Tensor  # [N, R, H, W, 2] float16 grid units, closed form
    occlusion: Tensor  # [N, R, 1, H, W] uint8
    scene: Tensor  # [N, R, 4, H, W] uint8, mirrored cheek and backdrop over the warped portrait: RGB, and alpha
    paint: Tensor  # [N, R, 4, H, W] uint8, mouth interior and lash lines: RGB times alpha, and alpha
    points: Tensor  # [N, R, 478, 2] float32 px, tracked landmarks of the real frames
    lips: Tensor  # [N, R, 20, 2] float32 px, lip landmarks of the driven mesh
    step: Tensor  # [N, 128, 128, 2] float16 grid units: where the second frame's pixels were in the first
    step_mask: Tensor  # [N, 1, 128, 128] uint8, 1 where `step` is known

    def __post_init__(self) -> None:
        check_shapes(
            source=(self.source, f"3 {CROP} {CROP}"),
            source_ncc=(self.source_ncc, f"4 {CROP} {CROP}"),
            source_points=(self.source_points, "478 2"),
            source_lips=(self.source_lips, "K 2"),
            follow=(self.follow, f"1 {CROP} {CROP}"),
            target=(self.target, f"N {RUN} 3 {CROP} {CROP}"),
            ncc=(self.ncc, f"N {RUN} 4 {CROP} {CROP}"),
            flow=(self.flow, f"N {RUN} {CROP} {CROP} 2"),
            occlusion=(self.occlusion, f"N {RUN} 1 {CROP} {CROP}"),
            scene=(self.scene, f"N {RUN} 4 {CROP} {CROP}"),
            paint=(self.paint, f"N {RUN} 4 {CROP} {CROP}"),
            points=(self.points, f"N {RUN} 478 2"),
            lips=(self.lips, f"N {RUN} K 2"),
            step=(self.step, f"N {STEP_SIZE} {STEP_SIZE} 2"),
            step_mask=(self.step_mask, f"N 1 {STEP_SIZE} {STEP_SIZE}"),
        )
        if self.split not in SPLITS:
            raise DatasetError(f"the split of {self.name} must be one of {', '.join(SPLITS)}; got '{self.split}'.")

    @property
    def runs(self) -> int:
        """N."""
        return len(self.target)


TENSORS = tuple(field.name for field in fields(PairShard) if field.type == "Tensor")


def write_pairs(path: Path, shard: PairShard) -> None:
    """Write a shard, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"format": FORMAT, "name": shard.name, "identity": shard.identity, "split": shard.split}
    save_tensors(path, {name: getattr(shard, name) for name in TENSORS}, header)


def is_current(path: Path) -> bool:
    """Whether a file is a pair shard of this format; an older or a damaged one must be rendered again."""
    try:
        return read_header(path).get("format") == FORMAT
    except (MissingFileError, WeightsError):
        return False


def read_pairs(path: str | Path) -> PairShard:
    """Read a shard; DatasetError if it is damaged or something else."""
    path = Path(path)
    header, tensors = read_header(path), load_tensors(path)
    if header.get("format") != FORMAT:
        raise DatasetError(
            f"{path} has the format '{header.get('format', '')}', not '{FORMAT}': run `train pairs` again."
        )
    missing = sorted(set(TENSORS) - tensors.keys())
    if missing:
        raise DatasetError(f"{path} is not a whole shard: {', '.join(missing)} missing; run `train pairs` again.")
    try:
        return make_pair_shard(header["name"], header["identity"], header["split"], tensors)
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{path} is not a whole shard ({error}); run `train pairs` again.") from error


def make_pair_shard(name: str, identity: str, split: str, tensors: Mapping[str, Tensor]) -> PairShard:
    """A shard of tensors named like its fields, e.g. target [N, R, 3, H, W], in the shapes that `PairShard` states."""
    return PairShard(
        name=name,
        identity=identity,
        split=split,
        source=tensors["source"],
        source_ncc=tensors["source_ncc"],
        source_points=tensors["source_points"],
        source_lips=tensors["source_lips"],
        follow=tensors["follow"],
        target=tensors["target"],
        ncc=tensors["ncc"],
        flow=tensors["flow"],
        occlusion=tensors["occlusion"],
        scene=tensors["scene"],
        paint=tensors["paint"],
        points=tensors["points"],
        lips=tensors["lips"],
        step=tensors["step"],
        step_mask=tensors["step_mask"],
    )


def load_pairs(folder: str | Path, split: str) -> list[PairShard]:
    """The pair shards of a split, by name; their pictures stay on disk until they are used.

    Raises:
        DatasetError: the folder has no pairs.
        SettingsError: there is no such split.
    """
    if split not in SPLITS:
        raise SettingsError(f"a split is one of {', '.join(SPLITS)}; got '{split}'.")
    paths = shard_paths(Path(folder), PAIRS, "train pairs")
    return [read_pairs(path) for path in paths if read_header(path).get("split") == split]


def to_batch(runs: list[tuple[PairShard, int]]) -> dict[str, Tensor]:
    """Examples as float32 tensors [B, R, ...]: images, masks and NCC in 0..1, points in px.

    Args:
        runs: B shards, each with the number of a run.
    """
    columns: dict[str, list[Tensor]] = {name: [] for name in TENSORS}
    for shard, run in runs:
        for name in TENSORS:
            value = getattr(shard, name)
            columns[name].append(value if name.startswith("source") or name == "follow" else value[run])
    # Floats only here: a shard holds its pictures as uint8, a quarter of the size.
    batch = {name: to_float(torch.stack(values)) for name, values in columns.items()}
    ncc, source_ncc = batch.pop("ncc"), batch.pop("source_ncc")
    batch |= {"ncc": ncc[:, :, :3], "mask": ncc[:, :, 3:], "source_ncc": source_ncc[:, :3]}
    batch["source_mask"] = source_ncc[:, 3:]
    batch["step"] = upsample(batch["step"].movedim(-1, 1), CROP).movedim(1, -1)
    # known only where all the pixels are known that the step is interpolated from
    batch["step_mask"] = (upsample(batch["step_mask"], CROP) > 0.999).float()
    return batch
