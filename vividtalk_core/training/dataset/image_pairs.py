"""Batches of image pairs for motion-VAE and generator, pixel weights, windows and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from ...errors import DatasetError
from ...eval.image_metrics import face_oval, mouth_box, psnr
from ...geometry import warp
from ...mesh_to_video.lip_maps import gaussian_maps
from ...structures import CROP
from ..augment.image import PictureAugmentation, augment_pictures
from ..losses.image import region_weights
from ..sampling import speaker_weights
from .image_shard import RUN, load_pairs, to_batch

FACE_WINDOW = 128  # px of the crop: holds a face, not much more
MOUTH_WINDOW = 64  # px of the crop

Batch = dict[str, Tensor]


class PairData:
    """Runs of portraits: portraits are sampled by weight, then one of their runs."""

    def __init__(self, folder: Path, balance: float, augmentation: PictureAugmentation | None) -> None:
        self.shards, self.validation = load_pairs(folder, "train"), load_pairs(folder, "validation")
        if not self.shards or not self.validation:
            raise DatasetError(
                f"{len(self.shards)} portraits to train on and {len(self.validation)} to validate with in {folder}: "
                "at least 1 of each is needed"
            )
        self.augmentation = augmentation
        self.sampling_weights = speaker_weights([(shard.identity, shard.runs) for shard in self.shards], balance)

    def batch(self, generator: Generator, size: int) -> Batch:
        """`size` augmented runs; names and shapes as in `PairShard`, see `to_batch`."""
        # A portrait by the weight of its person, then one of its runs: people with many clips would otherwise
        # dominate.
        chosen = torch.multinomial(self.sampling_weights, size, replacement=True, generator=generator).tolist()
        runs = [self.shards[index].runs for index in chosen]
        which = [int(torch.randint(count, (), generator=generator)) for count in runs]
        batch = to_batch([(self.shards[index], run) for index, run in zip(chosen, which, strict=True)])
        return augment_pictures(batch, generator, self.augmentation) if self.augmentation else batch

    def held_out(self, portraits: int, size: int = 4) -> Iterator[Batch]:
        """Runs of the validation identities, the same ones each time: one of each of `portraits` spread shards."""
        # Spread over the list, whose neighbours are frames of the same clip. The run changes with the portrait, so
        # that not every one is driven to the beginning of its clip.
        spread = torch.linspace(0, len(self.validation) - 1, min(portraits, len(self.validation))).round().long()
        runs = [(self.validation[i], n % self.validation[i].runs) for n, i in enumerate(spread.tolist())]
        for start in range(0, len(runs), size):
            yield to_batch(runs[start : start + size])


def by_frame(batch: Batch) -> Batch:
    """[B, R, ...] to [B·R, ...]; what the frames of a run share [B, ...] is repeated for each; steps are left out."""
    shared = [name for name in batch if name.startswith("source") or name == "follow"]
    frames = {name: batch[name].repeat_interleave(RUN, 0) for name in shared}
    driven = ("target", "ncc", "mask", "flow", "occlusion", "scene", "paint", "points", "lips")
    return frames | {name: batch[name].flatten(0, 1) for name in driven}


def textures(frames: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """PT_ref and PT_driven [N, 3, 256, 256] and the subtracted lip maps [N, K, 64, 64] of `by_frame`."""
    source, own, mask = frames["source"], frames["source_mask"], frames["mask"]
    pt_ref = frames["source_ncc"] * own + source * (1 - own)
    pt_driven = frames["ncc"] * mask + source * (1 - mask)
    return pt_ref, pt_driven, gaussian_maps(frames["lips"]) - gaussian_maps(frames["source_lips"])


def compose_base(frames: Batch, flow: Tensor) -> Tensor:
    """[N, 3, 256, 256] the portrait warped by flow [N, 256, 256, 2], under cheek and backdrop, and under the paint."""
    scene, paint = frames["scene"], frames["paint"]
    moved = torch.lerp(warp(frames["source"], flow), scene[:, :3], scene[:, 3:])
    # The colours of the paint are premultiplied with its alpha: its soft border does not get dark.
    return moved * (1 - paint[:, 3:]) + paint[:, :3]


def pixel_weights(frames: Batch, mouth: float, eyes: float) -> Tensor:
    """[N, 1, 256, 256] weights of pixels: 0.25 on the head, 1 on the face, `mouth` and `eyes` there."""
    lips, lids = region_weights(frames["points"], CROP)
    # Hair, ears and neck count too, but less: the face is what people look at.
    return (0.25 * frames["follow"]).maximum(frames["mask"]) + (mouth - 1) * lips + (eyes - 1) * lids


def windows(frames: Batch, size: int, points: Sequence[int] | None = None) -> Tensor:
    """Left and top [N, 2] px of windows of that size around the face, or around some of its landmarks."""
    around = frames["points"] if points is None else frames["points"][:, list(points)]
    middle = (around.amin(1) + around.amax(1)) / 2
    # Whole px, so that cutting a window does not resample it.
    return (middle - size / 2).round().long().clamp(0, CROP - size)


def cut(images: Tensor, corners: Tensor, size: int) -> Tensor:
    """Windows [N, C, size, size] of images [N, C, 256, 256] at corners [N, 2] px."""
    return torch.stack(
        [image[:, y : y + size, x : x + size] for image, (x, y) in zip(images, corners.tolist(), strict=True)]
    )


def image_metrics(predicted: Tensor, frames: Batch) -> dict[str, float]:
    """PSNR in dB of pictures [N, 3, 256, 256] in the face oval and in the mouth box of the real ones."""
    rows = []
    for picture, target, points in zip(predicted, frames["target"], frames["points"], strict=True):
        regions = {"face": face_oval(points.cpu(), CROP, CROP), "mouth": mouth_box(points.cpu(), CROP, CROP)}
        rows.append({name: psnr(picture[None], target[None], where) for name, where in regions.items()})
    return {f"{name}_psnr": sum(row[name] for row in rows) / len(rows) for name in rows[0]}
