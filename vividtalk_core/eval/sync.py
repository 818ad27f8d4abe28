"""Lip sync: LSE-C, LSE-D and the offset, measured with the sync expert of this pack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio.encoder import MEL, encode_audio, mel_rows
from ..critics.sync_expert import SyncConfig, SyncExpert
from ..errors import MediaError
from ..hub import WeightSet, load_module, resolve_weights
from ..structures import check_shapes
from ..time_grid import resampled_positions, sample_rows

# Frames that sound is shifted by to either side, as SyncNet does.
REACH = 15


@dataclass(frozen=True, slots=True)
class SyncScore:
    """SyncNet's metrics, measured with this pack's expert: not comparable with published values."""

    lse_c: float  # confidence: median over the offsets of the mean distance, less the least; higher is better
    lse_d: float  # the least mean distance of lips and sound over the offsets, 0..2; lower is better
    offset: int  # frames by which the lips come after the sound, where the distance is least


def load_sync_expert(weights: str | WeightSet = "embedded") -> SyncExpert:
    """The sync expert of a weight set."""
    chosen = weights if isinstance(weights, WeightSet) else resolve_weights(weights)
    return load_module(SyncExpert, SyncConfig, chosen.file("sync.safetensors"))


@torch.no_grad()
def sync_score(
    expert: SyncExpert, waveform: Tensor, sample_rate: int, curves: Tensor, fps: float, reach: int = REACH
) -> SyncScore:
    """LSE-C and LSE-D (Chung and Zisserman 2016, as Prajwal et al. 2020 report them) of one clip.

    For each offset within ±reach, the distances of the embeddings of lips and sound are averaged over the windows of
    the clip. LSE-D is the least of these means, LSE-C their median less the least.

    Args:
        expert: from `load_sync_expert`.
        waveform: [N] or [C, N] that starts with the first frame.
        sample_rate: Hz.
        curves: [T, 2] aperture and width in IOD.
        fps: frames per second of the curves.
        reach: frames of the expert's rate.

    Raises:
        MediaError: the clip is too short to be shifted.
    """
    check_shapes(curves=(curves, "T 2"))
    # The expert knows one frame rate: lips are resampled to it, sound is encoded at it.
    rate = expert.config.fps
    features = mel_rows(encode_audio(waveform, sample_rate, rate, MEL))
    lips = at_rate(curves.float(), fps, rate)
    # Sound and picture of a file rarely end together.
    count = min(len(features), len(lips))
    distances = offset_distances(expert, features[:count], lips[:count], reach)
    least, best = distances.min(0)
    return SyncScore(float(distances.median() - least), float(least), int(best) - reach)


def offset_distances(expert: SyncExpert, features: Tensor, curves: Tensor, reach: int) -> Tensor:
    """Mean distance of lips from the sound `lag` frames before them, for each lag from −reach to reach.

    Args:
        expert: the networks.
        features: [T, 320].
        curves: [T, 2] IOD.
        reach: frames.

    Returns:
        Distances of shape [2·reach + 1].
    """
    least = expert.config.window + 2 * reach
    if len(features) < least:
        raise MediaError(
            f"{len(features)} frames that have both sound and image are too few to measure sync: use a clip of "
            f"{least} or more, {least / expert.config.fps:.1f} s"
        )
    speech, lips = expert(features[None], curves[None])  # [1, windows, D]
    distance = torch.cdist(lips[0], speech[0])  # [lip window, speech window]
    # Diagonal −lag pairs lip window i with sound window i − lag.
    return torch.stack([distance.diagonal(-lag).mean() for lag in range(-reach, reach + 1)])


def at_rate(curves: Tensor, fps: float, rate: float) -> Tensor:
    """Curves [T, K] at another frame rate [T', K], linearly interpolated between the middles of the frames."""
    if fps == rate:
        return curves
    count = max(1, round(len(curves) * rate / fps))
    return sample_rows(curves, resampled_positions(count, fps, rate))
