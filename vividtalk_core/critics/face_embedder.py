"""CSIM: similarity of the identity of two faces, by a face embedder that the user names."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import MissingFileError, WeightsError
from ..geometry import fit_similarity
from ..head.topology import LEFT_IRIS, RIGHT_IRIS
from ..pixels import to_float

SIZE = 112  # px of the image that ArcFace-like embedders take
NOSE_TIP = 1
MOUTH_CORNERS = (61, 291)
# Where eyes, nose and mouth corners lie in the aligned image, left to right as the viewer sees them: the template of
# ArcFace (Deng et al. 2019), px.
TEMPLATE = ((38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (41.55, 92.37), (70.73, 92.20))


class FaceEmbedder:
    """An ONNX network from an aligned face of 112 px, RGB in −1..1, to a vector; OpenCV runs it.

    Args:
        path: the .onnx file, with its weights inside. CSIM of different embedders is not comparable.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: OpenCV cannot read or run it.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise MissingFileError(f"there is no face embedder '{path}': name an ONNX file, e.g. of ArcFace's family")
        self.name = path.stem
        try:
            self._network = cv2.dnn.readNetFromONNX(str(path))
            # a trial run, because OpenCV reads some networks that it cannot run
            self._run(np.zeros((1, 3, SIZE, SIZE), np.float32))
        except cv2.error as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(
                f"OpenCV cannot run '{path}' on a [1, 3, {SIZE}, {SIZE}] image ({reason}): the weights must be in "
                "the file itself, and the network one that embeds faces"
            ) from error

    def embed(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Unit vector [D] of the face with landmarks [478, 2] or [478, 3] px in an image [3, H, W], uint8 or 0..1."""
        face = align_face(image, landmarks)
        vector = self._run(((face[None] - 0.5) / 0.5).numpy())
        return torch.nn.functional.normalize(torch.from_numpy(vector.reshape(-1)), dim=0)

    def _run(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The network's output [1, D, ...] for an aligned face [1, 3, 112, 112] in −1..1."""
        self._network.setInput(image)
        output: npt.NDArray[np.float32] = self._network.forward().astype(np.float32, copy=False)
        return output


def align_face(image: Tensor, landmarks: Tensor) -> Tensor:
    """[3, 112, 112] in 0..1: an image [3, H, W] turned and scaled so that the face lies on the template.

    Args:
        image: [3, H, W], uint8 or 0..1.
        landmarks: [478, 2] or [478, 3] px.
    """
    points = landmarks[:, :2].double()
    five = torch.stack([points[i] for i in (RIGHT_IRIS[0], LEFT_IRIS[0], NOSE_TIP, *MOUTH_CORNERS)])
    matrix = similarity(five, torch.tensor(TEMPLATE, dtype=torch.float64))
    # OpenCV's pixel centres have whole numbers, ours end in .5
    shift = matrix[:, :2] @ torch.full((2,), 0.5, dtype=torch.float64) - 0.5
    matrix = torch.cat((matrix[:, :2], (matrix[:, 2] + shift)[:, None]), 1)
    pixels = to_float(image).permute(1, 2, 0).cpu().numpy()
    face = cv2.warpAffine(np.ascontiguousarray(pixels), matrix.numpy(), (SIZE, SIZE), flags=cv2.INTER_AREA)
    return torch.from_numpy(face).permute(2, 0, 1).contiguous()


def similarity(source: Tensor, target: Tensor) -> Tensor:
    """Rotation, scale and shift [2, 3] that bring points [N, 2] nearest to others [N, 2], by least squares."""
    fit = fit_similarity(source, target)
    return torch.cat((fit.scale * fit.rotation, fit.translation[:, None]), 1)


def csim(generated: Tensor, reference: Tensor) -> float:
    """Mean cosine of embeddings [T, D] with those of the reference [T, D], or of one portrait [1, D]; 1 if equal."""
    # of unit vectors the product is the cosine
    return float((generated * reference).sum(-1).mean())
