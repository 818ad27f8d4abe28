"""Where the faces of an image are: MediaPipe's full-range detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .graph import load_network
from .region import Region, crop_regions, whole_image

INPUT = 192  # px, the network's square
STRIDE = 4  # px per cell; one anchor in the middle of each
OVERLAP = 0.3  # intersection over union above which two boxes are the same face


@dataclass(frozen=True, eq=False, slots=True)
class Detection:
    """One face."""

    box: Tensor  # [4] left, top, right, bottom in px of the image
    keypoints: Tensor  # [6, 2] px: viewer's left eye, right eye, nose tip, mouth, viewer's left ear, right ear
    score: float  # 0..1


class FaceDetector(nn.Module):
    """Finds faces from about 1/20 of the image's longer side up to all of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = load_network(path)
        cells = (torch.arange(INPUT // STRIDE) + 0.5) * STRIDE / INPUT
        anchors = torch.stack(torch.meshgrid(cells, cells, indexing="xy"), -1).flatten(0, 1)
        self.register_buffer("anchors", anchors, persistent=False)  # [2304, 2] 0..1

    @torch.no_grad()
    def detect(self, image: Tensor, threshold: float = 0.5) -> list[Detection]:
        """Faces of an image, the largest first.

        Args:
            image: [1, 3, H, W] RGB in 0..1.
            threshold: lowest score, 0..1.

        Returns:
            Detections in px of the image, by MediaPipe's convention (see `region`).
        """
        found = self._detect_in(image, whole_image(image), threshold)
        return sorted(found, key=lambda detection: -_area(detection.box))

    def _detect_in(self, image: Tensor, region: Region, threshold: float) -> list[Detection]:
        crop = crop_regions(image, region, INPUT, "zeros").to(self.network.device)
        outputs = self.network(crop * 2 - 1)
        scores = outputs["scores"][0, :, 0].clamp(-100, 100).sigmoid()
        keep = scores >= threshold
        scores, raw, anchors = scores[keep], outputs["boxes"][0, keep] / INPUT, self.anchors[keep]
        centre, half = raw[:, :2] + anchors, raw[:, 2:4] / 2
        points = raw[:, 4:].unflatten(1, (6, 2)) + anchors[:, None]
        points = torch.cat(((centre - half)[:, None], (centre + half)[:, None], points), 1)  # [K, 8, 2] 0..1
        points = points * region.size[0] + region.centre[0] - region.size[0] / 2
        return merge_overlapping(points, scores)


def merge_overlapping(points: Tensor, scores: Tensor) -> list[Detection]:
    """Non-maximum suppression that averages what it suppresses, weighted by score.

    Args:
        points: [K, 8, 2] px, the box's two corners and six keypoints.
        scores: [K].

    Returns:
        Detections, the best score first; each has the score of its best member.
    """
    order = scores.argsort(descending=True, stable=True)
    points, scores = points[order], scores[order]
    found = []
    while len(scores):
        same = _overlap(points[0, :2].flatten(), points[:, :2].flatten(1)) > OVERLAP
        same[0] = True
        weights = scores[same] / scores[same].sum()
        mean = (points[same] * weights[:, None, None]).sum(0)
        found.append(Detection(mean[:2].flatten(), mean[2:], float(scores[0])))
        points, scores = points[~same], scores[~same]
    return found


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of a box [4] with boxes [K, 4]."""
    low, high = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    return intersection / (_area(box) + _area(boxes) - intersection)


def _area(box: Tensor) -> Tensor:
    return (box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1)
