"""Where the faces of an image are: MediaPipe's full-range detector."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .graph import load_network
from .region import Region, crop_regions, whole_image

INPUT = 192  # px, the network's square
STRIDE = 4  # px per cell; one anchor in the middle of each
BATCH = 8  # regions that go through the network at once
# Lowest score that is accepted when no search finds a better face.
FAINT = 0.8  # of the threshold
CONFIRMED = 8  # candidates of one search that are checked by the second network
OVERLAP = 0.3  # intersection over union above which two boxes are the same face
# MediaPipe's own threshold: only boxes above it are averaged, so that lower thresholds move no box.
SURE = 0.6


@dataclass(frozen=True, eq=False, slots=True)
class Detection:
    """One face."""

    box: Tensor  # [4] left, top, right, bottom in px of the image
    keypoints: Tensor  # [6, 2] px: viewer's left eye, right eye, nose tip, mouth, viewer's left ear, right ear
    score: float  # 0..1


Confirm = Callable[[Tensor, list[Detection]], list[Detection]]


class FaceDetector(nn.Module):
    """Finds faces from about 1/20 of the image's longer side up to all of it."""

    anchors: Tensor  # [2304, 2] px, centres of the network's cells

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = load_network(path)
        cells = (torch.arange(INPUT // STRIDE) + 0.5) * STRIDE
        anchors = torch.stack(torch.meshgrid(cells, cells, indexing="xy"), -1).flatten(0, 1)
        self.register_buffer("anchors", anchors, persistent=False)

    @torch.no_grad()
    def detect(self, image: Tensor, threshold: float = 0.5, confirm: Confirm | None = None) -> list[Detection]:
        """Faces of an image, the largest first.

        Args:
            image: [1, 3, H, W] RGB in 0..1.
            threshold: lowest score, 0..1.
            confirm: keeps those of some detections that are faces: `Landmarker.confirm`. With it, an image in which
                the first search finds no face is searched in all `searches`: enlarged, reduced and turned. Without a
                second network so many searches would give too many false detections on textures such as gravel.

        Returns:
            Detections in px of the image, by MediaPipe's convention (see `region`). With `confirm`, where no search
            reaches the threshold, the best face of at least `FAINT` times it.
        """
        # the whole image first: one run of the network finds nearly all faces
        if confirm is None:
            return largest_first(self._detect_in(image, whole_image(image), threshold))
        faint = []
        for regions in searches(image):
            found = self._detect_in(image, regions, threshold * FAINT)[:CONFIRMED]
            faces = confirm(image, [detection for detection in found if detection.score >= threshold])
            if faces:
                return largest_first(faces)
            faint += [detection for detection in found if detection.score < threshold]
        faint.sort(key=lambda detection: -detection.score)
        return confirm(image, faint[:CONFIRMED])[:1]

    def _detect_in(self, image: Tensor, regions: Region, threshold: float) -> list[Detection]:
        """Faces of an image [1, 3, H, W] in all regions together, the best score first."""
        found = [self._candidates(image, regions[i : i + BATCH], threshold) for i in range(0, len(regions), BATCH)]
        return merge_overlapping(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _candidates(self, image: Tensor, regions: Region, threshold: float) -> tuple[Tensor, Tensor]:
        """Boxes and keypoints [K, 8, 2] px of the image, and scores [K], of all cells above a threshold."""
        device = self.network.device
        # zeros outside the image, and values in −1..1, as MediaPipe feeds this network
        outputs: dict[str, Tensor] = self.network(crop_regions(image, regions, INPUT, "zeros").to(device) * 2 - 1)
        # MediaPipe limits the logits to ±100 too, so that scores agree with it
        scores = outputs["scores"][..., 0].clamp(-100, 100).sigmoid()
        region, cell = (scores >= threshold).nonzero(as_tuple=True)
        raw, anchors = outputs["boxes"][region, cell], self.anchors[cell]
        centre, half = raw[:, :2] + anchors, raw[:, 2:4] / 2
        points = torch.unflatten(raw[:, 4:], 1, (6, 2)) + anchors[:, None]
        points = torch.cat(((centre - half)[:, None], (centre + half)[:, None], points), 1)  # px of the crop
        matrix = regions.to(device).matrix(INPUT)[region]
        points = points @ matrix[..., :2].mT + matrix[:, None, :, 2]
        corners = points[:, :2].sort(1).values  # a quarter turn swaps the corners
        return torch.cat((corners, points[:, 2:]), 1), scores[region, cell]


def largest_first(detections: list[Detection]) -> list[Detection]:
    """Detections sorted by the area of their boxes [4]."""
    return sorted(detections, key=lambda detection: -float(_area(detection.box)))


def searches(image: Tensor) -> Iterator[Region]:
    """Where to look for faces in an image [1, 3, H, W]: sets of squares, each used only if those before it showed none.

    The whole image; the image with a wide border, for faces that fill it; turned by quarters; in tiles of a half and a
    quarter of its longer side, for small faces.
    """
    whole = whole_image(image)
    yield whole
    yield Region(whole.centre.expand(2, 2), whole.size * whole.size.new_tensor((2.0, 3.0)), whole.angle.expand(2))
    quarters = whole.angle + math.pi / 2 * torch.arange(1, 4, device=image.device)
    yield Region(whole.centre.expand(3, 2), whole.size.expand(3), quarters)
    for part in (2, 4):
        yield _tiles(image, float(whole.size) / part)


def _tiles(image: Tensor, side: float) -> Region:
    """Squares of `side` px that cover an image [1, 3, H, W] and overlap by a quarter or more."""
    # tiles overlap by a quarter of their side: a face at the border of one is complete in its neighbour
    rows, columns = (
        torch.linspace(side / 2, length - side / 2, math.ceil((length / side - 0.25) / 0.75), device=image.device)
        if length > side
        else torch.tensor([length / 2], device=image.device)
        for length in image.shape[-2:]
    )
    centre = torch.cartesian_prod(columns, rows)
    return Region(centre, centre.new_full((len(centre),), side), centre.new_zeros(len(centre)))


def merge_overlapping(points: Tensor, scores: Tensor) -> list[Detection]:
    """Non-maximum suppression that averages what it suppresses, weighted by score.

    Args:
        points: [K, 8, 2] px, the box's two corners and six keypoints.
        scores: [K], 0..1.

    Returns:
        Detections, the best score first; each has the score of its best box.
    """
    # a stable order, so that equal scores give the same result on every machine
    order = scores.argsort(descending=True, stable=True)
    points, scores = points[order], scores[order]
    found = []
    while len(scores):
        same = _overlap(points[0, :2].flatten(), points[:, :2].flatten(1)) > OVERLAP
        same[0] = True  # also where its box has no area
        averaged = same & (scores >= min(SURE, float(scores[0])))
        weights = scores[averaged] / scores[averaged].sum()
        mean = (points[averaged] * weights[:, None, None]).sum(0)
        found.append(Detection(mean[:2].flatten(), mean[2:], float(scores[0])))
        points, scores = points[~same], scores[~same]
    return found


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of a box [4] with boxes [K, 4]."""
    low, high = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    return intersection / (_area(box) + _area(boxes) - intersection)


def _area(box: Tensor) -> Tensor:
    """Area [...] of boxes [..., 4] in px², 0 where the corners are swapped."""
    return (box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1)
