"""478 landmarks of a face: MediaPipe's attention mesh, with refined lips and eyes and the irises.

Convention:
    Landmarks are MediaPipe's values, in px by index: see `region`. z is in px too, smaller is nearer. Measured with
    mirrored faces, the network itself counts pixels nearly by centres at .5 (0.33 over 56 pictures), which leaves a
    shift of 0.5 px · (1 − region size / 192) at most; `align.to_pixel_centres` takes it out.
    Points 0..467 are the mesh, 468..472 the iris at the viewer's left (its centre first), 473..477 the right one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .detector import Detection
from .graph import load_network
from .region import Region, crop_regions

INPUT = 192  # px, the network's square
SCALE = 1.5  # side of the region over the longer side of the face's box, MediaPipe's own
PRESENT = 0.5  # presence from which a region shows a face, MediaPipe's own
# How far landmarks of a true face may move when it is cropped anew: 98 % of them stay below 0.014.
STEADY = 0.04  # of a region
LEFT_CORNER, RIGHT_CORNER = 33, 263  # outer eye corners, as the viewer sees them
# Rims of the eyes: the irises have no depth of their own and take the mean of these.
LEFT_RIM = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173)
RIGHT_RIM = (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)


def region_of_detection(detection: Detection) -> Region:
    """The square in which the landmarks of a detected face are looked for (N = 1), upright along the eyes."""
    left_top, right_bottom = detection.box[:2], detection.box[2:]
    centre, size = (left_top + right_bottom) / 2, (right_bottom - left_top).amax() * SCALE
    line = detection.keypoints[1] - detection.keypoints[0]
    return Region(centre[None], size[None], torch.atan2(line[1], line[0])[None])


def region_of_landmarks(landmarks: Tensor) -> Region:
    """The squares around landmarks [N, 478, 3] px: upright along the outer eye corners, 1.5 times the face's box.

    The box is taken along the eyes, so that a turned image gives the turned region; MediaPipe takes it along the image.
    """
    points = landmarks[..., :2]
    line = points[:, RIGHT_CORNER] - points[:, LEFT_CORNER]
    angle = torch.atan2(line[:, 1], line[:, 0])
    turn = torch.unflatten(torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), -1), -1, (2, 2))
    upright = points @ turn  # by −angle
    low, high = upright.amin(1), upright.amax(1)
    centre = (turn @ ((low + high) / 2)[..., None])[..., 0]
    return Region(centre, (high - low).amax(-1) * SCALE, angle)


class Landmarker(nn.Module):
    """Landmarks of the faces in given regions."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = load_network(path)
        # The network refines lips, left and right eye in squares of their own, around these points of the mesh.
        subsets = [o.settings["subset"] for o in self.network.graph.operations if o.name == "square_matrix"]
        self.refined = dict(zip(("lips", "left_eye", "right_eye"), subsets, strict=True))

    @torch.no_grad()
    def landmarks(self, image: Tensor, regions: Region) -> tuple[Tensor, Tensor]:
        """Landmarks of N faces.

        Args:
            image: [1, 3, H, W] RGB in 0..1, or [N, 3, H, W] with one face each.
            regions: N squares, from `region_of_detection` or the last frame's `region_of_landmarks`.

        Returns:
            landmarks [N, 478, 3] px of the image, presence [N] 0..1 of a face in each region.
        """
        device = self.network.device
        outputs: dict[str, Tensor] = self.network(crop_regions(image, regions, INPUT).to(device))
        points = self._assemble(outputs)  # [N, 478, 3] px of the crop
        matrix = regions.to(device).matrix(INPUT)
        position = points[..., :2] @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
        depth = points[..., 2:] * (regions.size.to(device) / INPUT)[:, None, None]
        return torch.cat((position, depth), -1), outputs["presence"].flatten().sigmoid()

    def refine(self, image: Tensor, region: Region, rounds: int = 2) -> tuple[Tensor, Tensor]:
        """`landmarks` [N, 478, 3], each round in the region of the round before, to depend less on the detector."""
        if rounds < 1:
            raise ValueError(f"rounds must be at least 1; got {rounds}")
        landmarks, presence = self.landmarks(image, region)
        for _ in range(rounds - 1):
            landmarks, presence = self.landmarks(image, region_of_landmarks(landmarks))
        return landmarks, presence

    def confirm(self, image: Tensor, detections: list[Detection]) -> list[Detection]:
        """Those detections in an image [1, 3, H, W] that are faces.

        Their presence is high enough, and a second run in the region of the first landmarks gives the same landmarks.
        """
        if not detections:
            return []
        regions = [region_of_detection(detection) for detection in detections]
        region = Region(
            torch.cat([r.centre for r in regions]),
            torch.cat([r.size for r in regions]),
            torch.cat([r.angle for r in regions]),
        )
        first, presence = self.landmarks(image, region)
        second, _ = self.landmarks(image, region_of_landmarks(first))
        drift = (second - first)[..., :2].norm(dim=-1).mean(-1) / region.size.to(first.device)
        kept = (presence >= PRESENT) & (drift <= STEADY)
        return [detection for detection, keep in zip(detections, kept.tolist(), strict=True) if keep]

    def _assemble(self, outputs: dict[str, Tensor]) -> Tensor:
        """[N, 478, 3] px of the crop: the mesh with x, y of the refined parts, then the irises."""
        mesh = torch.unflatten(outputs["mesh"].flatten(1), 1, (468, 3)).clone()
        for name, subset in self.refined.items():
            # the refined parts have no depth of their own: z stays that of the mesh
            mesh[:, subset, :2] = torch.unflatten(outputs[name].flatten(1), 1, (-1, 2))
        irises = []
        for name, rim in (("left_iris", LEFT_RIM), ("right_iris", RIGHT_RIM)):
            iris = torch.unflatten(outputs[name].flatten(1), 1, (5, 2))
            depth = mesh[:, rim, 2:].mean(1, True).expand(-1, 5, 1)
            irises.append(torch.cat((iris, depth), 2))
        return torch.cat((mesh, *irises), 1)
