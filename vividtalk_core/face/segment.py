"""The pixels of the person in a picture: MediaPipe's selfie segmentation."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..structures import check_shapes
from .graph import load_network

INPUT = 256  # px, the network's square; the image is stretched to it


class PersonSegmenter(nn.Module):
    """Separates people from the background."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = load_network(path)

    @torch.no_grad()
    def segment(self, image: Tensor) -> Tensor:
        """Soft matte of the people in an image.

        Args:
            image: [1, 3, H, W] RGB in 0..1.

        Returns:
            [1, 1, H, W] 0..1, 1 on people; as sharp as a 256 px image can be.
        """
        check_shapes(image=(image, "1 3 H W"))
        # the sides' ratio is not kept, as in MediaPipe's own graph
        small = F.interpolate(image, (INPUT, INPUT), mode="bilinear", antialias=True)
        outputs: dict[str, Tensor] = self.network(small.to(self.network.device))
        return F.interpolate(outputs["mask"], image.shape[-2:], mode="bilinear")
