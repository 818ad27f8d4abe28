"""CSIM: alignment, errors, and an embedder that is built here, so that no weights are needed."""

import math

import cv2
import numpy as np
import pytest
import torch

from vividtalk_core.critics.face_embedder import (
    MOUTH_CORNERS,
    NOSE_TIP,
    TEMPLATE,
    FaceEmbedder,
    align_face,
    csim,
    similarity,
)
from vividtalk_core.errors import MissingFileError, WeightsError
from vividtalk_core.head.topology import LEFT_IRIS, RIGHT_IRIS

FIVE = (RIGHT_IRIS[0], LEFT_IRIS[0], NOSE_TIP, *MOUTH_CORNERS)


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, value):
    """A protobuf field: an integer, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor_type(name, *shape):
    dims = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def mean_network():
    """An ONNX file whose vector is the mean of each colour of its picture."""
    node = field(1, "picture") + field(2, "vector") + field(4, "GlobalAveragePool")
    graph = field(1, node) + field(2, "g") + field(11, tensor_type("picture", 1, 3, 112, 112))
    graph += field(12, tensor_type("vector", 1, 3, 1, 1))
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


@pytest.fixture
def embedder(tmp_path):
    path = tmp_path / "mean.onnx"
    path.write_bytes(mean_network())
    return FaceEmbedder(path)


def landmarks_at(points):
    landmarks = torch.zeros(478, 3)
    landmarks[list(FIVE), :2] = points.float()
    return landmarks


def moved(points, angle=0.3, scale=2.0, shift=(40.0, 90.0)):
    c, s = math.cos(angle), math.sin(angle)
    return points @ torch.tensor([[c, s], [-s, c]], dtype=points.dtype) * scale + torch.tensor(shift)


def test_similarity_finds_rotation_scale_and_shift():
    source = torch.tensor(TEMPLATE, dtype=torch.float64)
    matrix = similarity(moved(source), source)
    torch.testing.assert_close(moved(source) @ matrix[:, :2].T + matrix[:, 2], source)


def test_similarity_is_the_least_squares_answer():
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.rand(5, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    # the same as a linear system in a, b, x, y of (a −b x; b a y)
    zeros, ones = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    x, y = source.unbind(1)
    system = torch.cat((torch.stack((x, -y, ones, zeros), 1), torch.stack((y, x, zeros, ones), 1)))
    a, b, dx, dy = torch.linalg.lstsq(system, target.T.reshape(-1, 1)).solution[:, 0]
    expected = torch.stack((torch.stack((a, -b, dx)), torch.stack((b, a, dy))))
    torch.testing.assert_close(similarity(source, target), expected)


def test_eyes_nose_and_mouth_come_to_lie_on_the_template():
    points = moved(torch.tensor(TEMPLATE, dtype=torch.float64))
    image = torch.zeros(3, 400, 400)
    for x, y in points.tolist():
        cv2.circle(image[0].numpy(), (round(x), round(y)), 5, 1.0, -1)
    face = align_face(image, landmarks_at(points))
    assert face.shape == (3, 112, 112)
    for x, y in TEMPLATE:
        assert face[0, int(y), int(x)] > 0.9
    assert face[0].sum() < 5 * 40


def test_a_picture_in_place_is_not_moved():
    image = torch.rand(3, 112, 112, generator=torch.Generator().manual_seed(0))
    face = align_face(image, landmarks_at(torch.tensor(TEMPLATE)))
    torch.testing.assert_close(face, image, atol=1e-3, rtol=0)
    torch.testing.assert_close(
        align_face((image * 255).round().byte(), landmarks_at(torch.tensor(TEMPLATE))), face, atol=5e-3, rtol=0
    )


def test_embeddings_are_unit_vectors_of_the_picture_in_minus_one_to_one(embedder):
    colour = torch.tensor([0.9, 0.5, 0.3])[:, None, None].expand(3, 112, 112)
    vector = embedder.embed(colour, landmarks_at(torch.tensor(TEMPLATE)))
    expected = torch.tensor([0.8, 0.0, -0.4])
    torch.testing.assert_close(vector, expected / expected.norm(), atol=1e-3, rtol=0)
    assert embedder.name == "mean"


def test_csim_is_the_mean_cosine():
    a = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert csim(a, a) == pytest.approx(1)
    assert csim(a, -a) == pytest.approx(-1)
    assert csim(a, a[0]) == pytest.approx(float(np.mean([float(v @ a[0]) for v in a])), abs=1e-6)


def test_bad_embedders_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match="there is no face embedder"):
        FaceEmbedder(tmp_path / "none.onnx")
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(WeightsError, match=r"OpenCV cannot run '.*bad.onnx' on a \[1, 3, 112, 112\] image"):
        FaceEmbedder(path)
