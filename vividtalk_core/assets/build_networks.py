"""Converts the three MediaPipe networks of the pinned wheel to what `face/graph.py` runs.

Nothing of MediaPipe itself is imported. Same wheel, same bytes, on every machine.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import WeightsError
from ..face.graph import Graph, Operation, write_graph
from .checksums import write_asset
from .tflite_file import Operator, TfliteGraph, Values, flex_options, options_of

MODULES = "mediapipe/modules"
NETWORKS = {
    "detector": f"{MODULES}/face_detection/face_detection_full_range_sparse.tflite",
    "landmarks": f"{MODULES}/face_landmark/face_landmark_with_attention.tflite",
    "segmentation": f"{MODULES}/selfie_segmentation/selfie_segmentation.tflite",
}
# MediaPipe's names of the outputs → ours.
OUTPUTS = {
    "Identity": "boxes",
    "Identity_1": "scores",
    "output_mesh_identity": "mesh",
    "output_lips": "lips",
    "output_left_eye": "left_eye",
    "output_right_eye": "right_eye",
    "output_left_iris": "left_iris",
    "output_right_iris": "right_iris",
    "conv_faceflag": "presence",
    "activation_10": "mask",
}
ACTIVATIONS = {0: None, 1: "relu", 3: "relu6"}  # tflite.ActivationFunctionType


def build(wheel: Path, folder: Path) -> list[Path]:
    """Convert the networks of a MediaPipe wheel, or of its unpacked folder, to safetensors files in `folder`.

    Weights of convolutions are stored as [O, I, h, w]. WeightsError if a network uses what has no converter.
    """
    written = []
    for name, member in NETWORKS.items():
        graph, weights = convert(read_member(wheel, member))
        written.append(write_asset(folder / f"{name}.safetensors", weights, {"graph": write_graph(graph)}))
    return written


def read_member(wheel: Path, member: str) -> bytes:
    """Bytes of a file inside a wheel, or below the folder that it was unpacked to."""
    if wheel.is_dir():
        return (wheel / member).read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def convert(content: bytes) -> tuple[Graph, dict[str, Tensor]]:
    """The graph and fp16 weights of a .tflite file, those of convolutions as [O, I, h, w]."""
    source = TfliteGraph(content)
    target = GraphBuilder(source)
    for operator in source.operators():
        if operator.name not in CONVERTERS:
            raise WeightsError(f"the .tflite graph uses {operator.name}, which has no converter")
        CONVERTERS[operator.name](target, operator)
    return target.graph(), target.weights


@dataclass(slots=True)
class GraphBuilder:
    """Collects operations and weights under new, dense numbers; activation 0 is the image."""

    source: TfliteGraph
    weights: dict[str, Tensor] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    renamed: dict[int, int] = field(default_factory=dict)  # .tflite tensor of a constant → the tensor it copies
    activations: dict[int, int] = field(default_factory=dict)  # .tflite tensor → number here
    count: int = 0  # of the activations that operations give

    def __post_init__(self) -> None:
        self.activations[self.source.inputs[0]] = 0

    def graph(self) -> Graph:
        """What was collected."""
        _, height, width, channels = self.source.shape(self.source.inputs[0])
        outputs = {OUTPUTS[self.source.name(i)]: self.activations[i] for i in self.source.outputs}
        return Graph((channels, height, width), outputs, tuple(self.operations))

    def constant(self, index: int) -> Values:
        """Value of a constant .tflite tensor, e.g. [O, h, w, I], or of the constant that it is an unpacked copy of."""
        value = self.source.constant(self.renamed.get(index, index))
        if value is None:
            raise WeightsError(
                f"tensor {index} of the .tflite graph is not a constant, but an operator needs its value"
            )
        return value

    def weight(self, index: int, axes: tuple[int, ...] | None = None) -> str:
        """Name of a constant as a weight, its axes brought into torch's order."""
        name = f"weight_{len(self.weights):03d}"
        value = self.constant(index)
        value = value.transpose(axes) if axes else value
        self.weights[name] = torch.from_numpy(np.array(value, np.float16, order="C"))
        return name

    def operand(self, index: int) -> int | str:
        """An activation's number, or the name of a constant [..., C] as a weight [C, 1, 1]."""
        if index in self.activations:
            return self.activations[index]
        if self.constant(index).ndim == 4:
            return self.weight(index, (0, 3, 1, 2))
        return self.weight(index)

    def add(self, name: str, inputs: list[int | str], output: int, **settings: Any) -> None:
        """Append an operation whose output is the .tflite tensor `output`, an activation [N, H, W, C]."""
        self.count += 1
        self.activations[output] = self.count
        self.operations.append(Operation(name, tuple(inputs), self.count, settings))

    def activate(self, kind: int, output: int) -> None:
        """Append the activation function that is fused into the last operation."""
        name = ACTIVATIONS[kind]
        if name is not None:
            self.add(name, [self.activations[output]], output)


def _padding(options: Any, size: list[int], kernel: list[int]) -> list[int]:
    """TensorFlow's padding of [N, H, W, C] as [left, right, top, bottom]; the odd pixel of SAME goes right and down."""
    if options.Padding() == 1:  # VALID
        return [0, 0, 0, 0]
    padding = []
    for length, window, stride in zip(size[::-1], kernel[::-1], (options.StrideW(), options.StrideH()), strict=True):
        total = max((-(-length // stride) - 1) * stride + window - length, 0)
        padding += [total // 2, total - total // 2]
    return padding


def _copy(target: GraphBuilder, operator: Operator) -> None:
    # only constants are unpacked so: `constant` gives them dense, and weights are stored in half precision anyway
    source, output = operator.inputs[0], operator.outputs[0]
    if source in target.activations:
        target.activations[output] = target.activations[source]
    else:
        target.renamed[output] = target.renamed.get(source, source)


def _slice(target: GraphBuilder, operator: Operator) -> None:
    if target.source.shape(operator.inputs[0]) != target.source.shape(operator.outputs[0]):
        raise WeightsError("only a STRIDED_SLICE that keeps everything can be converted")
    _copy(target, operator)


def _convolution(target: GraphBuilder, operator: Operator) -> None:
    depthwise = operator.name == "DEPTHWISE_CONV_2D"
    options = options_of(operator, "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions")
    image, weight, bias = operator.inputs
    if (options.DilationHFactor(), options.DilationWFactor()) != (1, 1):
        raise WeightsError("dilated convolutions cannot be converted")
    shape = target.source.shape(weight)
    padding = _padding(options, target.source.shape(image)[1:3], shape[1:3])
    # TFLite has [O, h, w, I], and [1, h, w, C] where depthwise; torch wants [O, I, h, w]
    axes = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
    inputs = [target.operand(image), target.weight(weight, axes), target.weight(bias)]
    stride, groups = [options.StrideH(), options.StrideW()], shape[3] if depthwise else 1
    target.add("conv2d", inputs, operator.outputs[0], stride=stride, padding=padding, groups=groups)
    target.activate(options.FusedActivationFunction(), operator.outputs[0])


def _transposed(target: GraphBuilder, operator: Operator) -> None:
    # MediaPipe's own operator stores TFLite's parameters of a transposed convolution: padding, stride width and height
    _, stride_width, stride_height = np.frombuffer(operator.custom_options, "<i4", 3).tolist()
    image, weight, bias = operator.inputs
    # torch wants [I, O, h, w] of a transposed convolution; TFLite has [O, h, w, I]
    inputs = [target.operand(image), target.weight(weight, (3, 0, 1, 2)), target.weight(bias)]
    size = target.source.shape(operator.outputs[0])[1:3]
    target.add("conv_transpose2d", inputs, operator.outputs[0], stride=[stride_height, stride_width], size=size)


def _pooling(target: GraphBuilder, operator: Operator) -> None:
    options = options_of(operator, "Pool2DOptions")
    kernel, stride = [options.FilterHeight(), options.FilterWidth()], [options.StrideH(), options.StrideW()]
    padding = _padding(options, target.source.shape(operator.inputs[0])[1:3], kernel)
    inputs, output = [target.operand(operator.inputs[0])], operator.outputs[0]
    if operator.name == "MAX_POOL_2D":
        target.add("max_pool2d", inputs, output, kernel=kernel, stride=stride, padding=padding)
    elif any(padding):
        raise WeightsError("a padded AVERAGE_POOL_2D cannot be converted")
    else:
        target.add("avg_pool2d", inputs, output, kernel=kernel, stride=stride)


def _arithmetic(target: GraphBuilder, operator: Operator) -> None:
    options = options_of(operator, "AddOptions" if operator.name == "ADD" else "MulOptions")
    name = "add" if operator.name == "ADD" else "multiply"
    target.add(name, [target.operand(i) for i in operator.inputs], operator.outputs[0])
    target.activate(options.FusedActivationFunction(), operator.outputs[0])


def _pad(target: GraphBuilder, operator: Operator) -> None:
    _, (top, bottom), (left, right), channels = target.constant(operator.inputs[1]).tolist()
    # F.pad counts from the last dimension: columns, rows, then channels
    padding = [left, right, top, bottom, *channels]
    target.add("pad", [target.operand(operator.inputs[0])], operator.outputs[0], padding=padding)


def _prelu(target: GraphBuilder, operator: Operator) -> None:
    image, slope = operator.inputs
    name = target.weight(slope, (2, 0, 1))
    target.weights[name] = target.weights[name].flatten()  # torch wants [C]; TFLite has [1, 1, C]
    target.add("prelu", [target.operand(image), name], operator.outputs[0])


def _reshape(target: GraphBuilder, operator: Operator) -> None:
    shape = target.source.shape(operator.outputs[0])[1:]
    target.add("reshape", [target.operand(operator.inputs[0])], operator.outputs[0], shape=shape)


def _resize(target: GraphBuilder, operator: Operator) -> None:
    options = options_of(operator, "ResizeBilinearOptions")
    size = target.source.shape(operator.outputs[0])[1:3]
    flags = {"align_corners": bool(options.AlignCorners()), "half_pixel_centers": bool(options.HalfPixelCenters())}
    target.add("resize_bilinear", [target.operand(operator.inputs[0])], operator.outputs[0], size=size, **flags)


def _depth_to_space(target: GraphBuilder, operator: Operator) -> None:
    block = options_of(operator, "DepthToSpaceOptions").BlockSize()
    target.add("depth_to_space", [target.operand(operator.inputs[0])], operator.outputs[0], block=block)


def _square_matrix(target: GraphBuilder, operator: Operator) -> None:
    options = flex_options(operator)
    settings = {
        "subset": options["subset_idxs"],
        "left": options["left_rotation_idx"],
        "right": options["right_rotation_idx"],
        "target_angle": options["target_rotation_radians"],
        "scale": [options["scale_x"], options["scale_y"]],
        "size": [options["output_width"], options["output_height"]],
    }
    target.add("square_matrix", [target.operand(operator.inputs[0])], operator.outputs[0], **settings)


def _sample_square(target: GraphBuilder, operator: Operator) -> None:
    options = flex_options(operator)
    size = [options["output_width"], options["output_height"]]
    target.add("sample_square", [target.operand(i) for i in operator.inputs], operator.outputs[0], size=size)


def _simple(name: str) -> Callable[[GraphBuilder, Operator], None]:
    def converter(target: GraphBuilder, operator: Operator) -> None:
        target.add(name, [target.operand(i) for i in operator.inputs], operator.outputs[0])

    return converter


CONVERTERS: dict[str, Callable[[GraphBuilder, Operator], None]] = {
    "ADD": _arithmetic,
    "AVERAGE_POOL_2D": _pooling,
    "CONV_2D": _convolution,
    "Convolution2DTransposeBias": _transposed,
    "DENSIFY": _copy,
    "DEPTHWISE_CONV_2D": _convolution,
    "DEPTH_TO_SPACE": _depth_to_space,
    "DEQUANTIZE": _copy,
    "HARD_SWISH": _simple("hardswish"),
    "LOGISTIC": _simple("sigmoid"),
    "Landmarks2TransformMatrix": _square_matrix,
    "MAX_POOL_2D": _pooling,
    "MUL": _arithmetic,
    "PAD": _pad,
    "PRELU": _prelu,
    "RELU": _simple("relu"),
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
    "STRIDED_SLICE": _slice,
    "TransformLandmarks": _simple("transform_points"),
    "TransformTensorBilinear": _sample_square,
}
