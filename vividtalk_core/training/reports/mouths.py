"""Mouths of stage 2 beside the real ones, on image pairs of people that were not trained on.

`python -m vividtalk_core evaluate mouths DATA` prints them as JSON. PSNR and perceptual distance compare each mouth
with its real frame and favour the mean of all that could be behind the lips; the Fréchet distance compares all mouths
with all real ones, and sees whether they look like mouths.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median

import torch
import torch.nn.functional as F
from torch import Tensor

from ...critics.perceptual import Backbone, perceptual_distance
from ...errors import DatasetError
from ...eval.frechet import frechet_distance, mean_features
from ...head.topology import OUTER_LIPS
from ...mesh_to_video.generator_network import FrameGenerator
from ...mesh_to_video.models import MeshToVideoModels
from ...mesh_to_video.motion_vae import MotionVae
from ...pixels import luma
from ..dataset.image_pairs import MOUTH_WINDOW, Batch, by_frame, compose_base, cut, image_metrics, windows
from ..dataset.image_shard import load_pairs, to_batch
from ..tasks.generator import generate

REAL, CLOSED_FORM, NETWORKS = "real", "closed form", "networks"
# The first layer of the backbone halves the size, and lips are only a few px high.
ENLARGED = 2
# px of the window that are left out of the sharpness: chin and nostrils lie there.
RIM_PX = (12, 8)  # rows and columns


@dataclass(slots=True)
class _Row:
    """What is kept of one row: features of all frames, and metrics by clip."""

    features: list[Tensor] = field(default_factory=list)  # [N, D] each
    sharpness: list[Tensor] = field(default_factory=list)  # [N] each
    psnr: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # dB
    perceptual: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def mouth_metrics(data: Path, models: MeshToVideoModels, split: str, network: Backbone) -> dict[str, object]:
    """Metrics of the mouth in closed form and with the networks.

    Args:
        data: a prepared folder with pairs.
        models: motion-VAE and generator; without them only the closed form is measured.
        split: of the pairs.
        network: the backbone, from `load_perceptual`.

    Returns:
        Counts, and for each row: `frechet_distance` from the real mouths; `psnr` in dB and `perceptual`, means over the
        clips; `sharpness`, mean absolute Laplacian of the luminance beside that of the real mouth, the median of the
        frames. `networks_better` is the share of clips in which their perceptual distance is the lower one.

    Raises:
        DatasetError: the folder has no pairs of the split.
    """
    shards = load_pairs(data, split)
    if not shards:
        raise DatasetError(f"{data} has no pairs of the split '{split}'.")
    rows: dict[str, _Row] = defaultdict(_Row)
    for shard in shards:
        clip = shard.name.rpartition(".")[0]
        for run in range(shard.runs):
            frames = by_frame(to_batch([(shard, run)]))
            with torch.no_grad():
                pictures = _pictures(models.motion, models.generator, frames)
                for name, picture in pictures.items():
                    _measure(rows[name], network, picture, frames)
                    if name != REAL:
                        _compare(rows[name], network, picture, frames, clip)
    real = torch.cat(rows[REAL].features)
    report: dict[str, object] = {"backbone": network.name, "clips": len(rows[CLOSED_FORM].psnr), "frames": len(real)}
    for name, row in rows.items():
        if name != REAL:
            report[name] = _summary(row, rows[REAL], real)
    if NETWORKS in rows:
        ours, closed = rows[NETWORKS].perceptual, rows[CLOSED_FORM].perceptual
        report["networks_better"] = round(fmean(fmean(ours[clip]) < fmean(closed[clip]) for clip in closed), 3)
    return report


def _pictures(motion: MotionVae | None, generator: FrameGenerator | None, frames: Batch) -> dict[str, Tensor]:
    """[R, 3, 256, 256] of each row."""
    pictures = {REAL: frames["target"], CLOSED_FORM: compose_base(frames, frames["flow"])}
    if generator is not None:
        pictures[NETWORKS] = generate(generator, motion, frames)[0]
    # whole numbers of 255 like the real ones: a backbone sees the rounding
    return {name: (picture.clamp(0, 1) * 255).round() / 255 for name, picture in pictures.items()}


def _measure(row: _Row, network: Backbone, picture: Tensor, frames: Batch) -> None:
    """Add the mouths of the pictures [R, 3, 256, 256] of one run to a row."""
    mouth = _mouths(picture, frames)
    row.sharpness.append(_sharpness(mouth))
    row.features.append(mean_features(network, _enlarged(mouth)))


def _compare(row: _Row, network: Backbone, picture: Tensor, frames: Batch, clip: str) -> None:
    """Add the distances of the pictures [R, 3, 256, 256] of one run from their real frames to a row."""
    mouth, real = (_enlarged(_mouths(image, frames)) for image in (picture, frames["target"]))
    row.perceptual[clip] += perceptual_distance(network, mouth, real).tolist()
    row.psnr[clip].append(image_metrics(picture, frames)["mouth_psnr"])


def _mouths(picture: Tensor, frames: Batch) -> Tensor:
    """[R, 3, 64, 64] windows around the real lips of pictures [R, 3, 256, 256]."""
    return cut(picture, windows(frames, MOUTH_WINDOW, OUTER_LIPS), MOUTH_WINDOW)


def _enlarged(mouth: Tensor) -> Tensor:
    """Windows [R, 3, h, w] at the size that the backbone sees."""
    return F.interpolate(mouth, scale_factor=ENLARGED, mode="bilinear")


def _sharpness(mouth: Tensor) -> Tensor:
    """[N] mean absolute Laplacian of windows [N, 3, h, w] around the mouth."""
    grey = luma(mouth)
    inner = grey[:, 1:-1, 1:-1]
    laplacian = 4 * inner - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    rows, columns = RIM_PX
    return laplacian[:, rows:-rows, columns:-columns].abs().mean((1, 2))


def _summary(row: _Row, real: _Row, real_features: Tensor) -> dict[str, float]:
    """The metrics of a row beside those of the real mouths, with real_features [N, D]."""
    ratio = torch.cat(row.sharpness) / torch.cat(real.sharpness).clamp(min=1e-6)
    metrics = {
        "frechet_distance": frechet_distance(torch.cat(row.features), real_features),
        "psnr": fmean(map(fmean, row.psnr.values())),
        "perceptual": fmean(map(fmean, row.perceptual.values())),
        "sharpness": median(ratio.tolist()),
    }
    return {name: round(value, 4) for name, value in metrics.items()}
