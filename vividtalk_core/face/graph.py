"""The converted MediaPipe networks: lists of named operations over fp16 weights, executed in plain torch.

`assets/build_networks.py` writes the files. Activations are [N, C, H, W]; paddings and sizes are numbers in the file,
so that an operation is a function of its tensors and its settings alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from ..hub import load_finite_tensors, read_header


def _pad(x: Tensor, padding: list[int], value: float = 0.0) -> Tensor:
    """Pad [N, C, H, W] by [left, right, top, bottom] and, if given, [..., front, back] of the channels."""
    return F.pad(x, padding, value=value) if any(padding) else x


def conv2d(x: Tensor, weight: Tensor, bias: Tensor, *, stride: list[int], padding: list[int], groups: int) -> Tensor:
    """Convolution of [N, C, H, W]; padding is [left, right, top, bottom]: TensorFlow's is uneven for even strides."""
    left, right, top, bottom = padding
    # an even padding within the convolution needs no padded copy of the image
    if left == right and top == bottom:
        return F.conv2d(x, weight, bias, stride, (top, left), groups=groups)
    return F.conv2d(_pad(x, padding), weight, bias, stride, groups=groups)


def conv_transpose2d(x: Tensor, weight: Tensor, bias: Tensor, *, stride: list[int], size: list[int]) -> Tensor:
    """[N, C, *size]: transposed convolution, cut to `size` (height, width) as TensorFlow's SAME for kernel = stride."""
    return F.conv_transpose2d(x, weight, bias, stride)[..., : size[0], : size[1]]


def max_pool2d(x: Tensor, *, kernel: list[int], stride: list[int], padding: list[int]) -> Tensor:
    """Maximum over windows of [N, C, H, W]; the padding is −∞, so that it is never the maximum."""
    return F.max_pool2d(_pad(x, padding, float("-inf")), kernel, stride)


def avg_pool2d(x: Tensor, *, kernel: list[int], stride: list[int]) -> Tensor:
    """Mean over windows of [N, C, H, W] that lie inside it."""
    return F.avg_pool2d(x, kernel, stride)


def reshape(x: Tensor, *, shape: list[int]) -> Tensor:
    """Reshape in TensorFlow's order of memory [N, H, W, C]; `shape` leaves the batch out."""
    flat = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
    out = flat.reshape(x.shape[0], *shape)
    return out.permute(0, 3, 1, 2) if out.ndim == 4 else out


def resize_bilinear(x: Tensor, *, size: list[int], align_corners: bool, half_pixel_centers: bool) -> Tensor:
    """Bilinear resize to [N, C, *size], height and width; without a flag TensorFlow 1's: source = target · ratio."""
    if align_corners or half_pixel_centers:
        return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)
    rows = _between(x, x.shape[2], size[0])
    top, bottom, share = rows
    x = torch.lerp(x[:, :, top], x[:, :, bottom], share[:, None])
    left, right, share = _between(x, x.shape[3], size[1])
    return torch.lerp(x[..., left], x[..., right], share)


def _between(x: Tensor, length: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two source indices [size] for each target along an axis of x [N, C, H, W], and the weight of the second."""
    source = torch.arange(size, device=x.device, dtype=x.dtype) * (length / size)
    low = source.floor().long()
    return low, (low + 1).clamp(max=length - 1), source - low


def depth_to_space(x: Tensor, *, block: int) -> Tensor:
    """Channels of [N, C, H, W] to a block × block square of px; TensorFlow's order, which is not pixel_shuffle's."""
    return F.pixel_shuffle(torch.unflatten(x, 1, (block * block, -1)).transpose(1, 2).flatten(1, 2), block)


def square_matrix(
    points: Tensor,
    *,
    subset: list[int],
    left: int,
    right: int,
    target_angle: float,
    scale: list[float],
    size: list[int],
) -> Tensor:
    """The affine map [N, 4, 4] from an upright box of `size` (width, height) px to the box around some points.

    The box stands along the line from point `left` to point `right`, turned by −`target_angle`; `scale` widens it.
    """
    points = points[..., :2]
    line = points[:, right] - points[:, left]
    angle = target_angle - torch.atan2(line[:, 1], line[:, 0])
    cos, sin = angle.cos(), angle.sin()
    turn = torch.unflatten(torch.stack((cos, -sin, sin, cos), -1), -1, (2, 2))
    turned = points[:, subset] @ turn.mT
    high, low = turned.amax(1), turned.amin(1)
    extent = points.new_tensor(size)
    linear = turn.mT * ((high - low) * points.new_tensor(scale) / extent)[:, None]
    centre = (turn.mT @ ((high + low) / 2)[..., None]) - linear @ (extent / 2)[:, None]
    matrix = torch.eye(4, device=points.device, dtype=points.dtype).repeat(len(points), 1, 1)
    matrix[:, :2, :2], matrix[:, :2, 3:] = linear, centre
    return matrix


def sample_square(x: Tensor, matrix: Tensor, *, size: list[int]) -> Tensor:
    """[N, C, *size] bilinear from the box of `square_matrix`; zero wherever a corner would lie outside the map."""
    width, height = size
    rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5 for n in (height, width))
    target = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    source = target @ matrix[:, None, :2, :2].mT + matrix[:, None, None, :2, 3] - 0.5
    # zeros outside, and no repeated border: the networks were trained with TensorFlow's operation, which does this
    last = source.new_tensor((x.shape[3] - 1, x.shape[2] - 1))
    inside = ((source >= 0) & (source <= last)).all(-1)
    # `source` counts pixels by index: with align_corners −1 and 1 are the centres of the first and the last one
    return F.grid_sample(x, source / last * 2 - 1, align_corners=True) * inside[:, None]


def transform_points(points: Tensor, matrix: Tensor) -> Tensor:
    """Points [N, K, 2] of the upright box, in px, to the image they were cut from."""
    return points[..., :2] @ matrix[:, :2, :2].mT + matrix[:, None, :2, 3]


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "avg_pool2d": avg_pool2d,
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "depth_to_space": depth_to_space,
    "hardswish": F.hardswish,
    "max_pool2d": max_pool2d,
    "multiply": torch.mul,
    "pad": _pad,
    "prelu": F.prelu,
    "relu": F.relu,
    "relu6": F.relu6,
    "reshape": reshape,
    "resize_bilinear": resize_bilinear,
    "sample_square": sample_square,
    "sigmoid": torch.sigmoid,
    "square_matrix": square_matrix,
    "transform_points": transform_points,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a `Graph`."""

    name: str
    inputs: tuple[int | str, ...]  # the number of an activation or the name of a weight
    output: int
    settings: dict[str, Any] = field(default_factory=dict)  # numbers and lists of numbers, as JSON has them


@dataclass(frozen=True, slots=True)
class Graph:
    """A network as a list of operations."""

    input_shape: tuple[int, int, int]  # C, H, W
    outputs: dict[str, int]  # name → number of the activation
    operations: tuple[Operation, ...]  # activation 0 is the image

    def __post_init__(self) -> None:
        unknown = sorted({operation.name for operation in self.operations} - OPERATIONS.keys())
        if unknown:
            raise WeightsError(f"the graph uses operations that are not known here: {', '.join(unknown)}")
        computed = {0} | {operation.output for operation in self.operations}
        used = {i for operation in self.operations for i in operation.inputs if isinstance(i, int)}
        missing = sorted((used | set(self.outputs.values())) - computed)
        if missing:
            raise WeightsError(f"the graph uses activations that no operation computes: {missing}")

    def weight_names(self) -> set[str]:
        """Names of the weights that the operations read."""
        return {i for operation in self.operations for i in operation.inputs if isinstance(i, str)}

    def last_uses(self) -> list[list[int]]:
        """For each operation the activations that nothing needs after it."""
        last = {i: n for n, operation in enumerate(self.operations) for i in operation.inputs if isinstance(i, int)}
        kept = set(self.outputs.values())
        return [[i for i, at in last.items() if at == n and i not in kept] for n in range(len(self.operations))]


class GraphNetwork(nn.Module):
    """Executes a `Graph` in float32, whatever the precision of the stored weights."""

    def __init__(self, graph: Graph, weights: dict[str, Tensor]) -> None:
        super().__init__()
        missing, unexpected = graph.weight_names() - weights.keys(), weights.keys() - graph.weight_names()
        if missing or unexpected:
            raise WeightsError(f"weights and graph differ: missing {sorted(missing)}, unexpected {sorted(unexpected)}")
        self.graph = graph
        self._last_uses = graph.last_uses()
        for name, weight in weights.items():
            # convolutions are [O, I, h, w], other weights have fewer dimensions; channels_last halves the time of
            # these networks on a CPU
            layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
            self.register_buffer(name, weight.to(torch.float32, memory_format=layout))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.buffers()).device

    @torch.no_grad()
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Run the network on [N, C, H, W] in the range it was trained for; returns its named outputs."""
        if tuple(image.shape[1:]) != self.graph.input_shape:
            raise ValueError(
                f"image must be [N, {', '.join(map(str, self.graph.input_shape))}]; got {list(image.shape)}"
            )
        values: dict[int | str, Tensor] = {0: image, **dict(self.named_buffers())}
        for operation, done in zip(self.graph.operations, self._last_uses, strict=True):
            tensors = (values[i] for i in operation.inputs)
            values[operation.output] = OPERATIONS[operation.name](*tensors, **operation.settings)
            # freed at once: all activations together would take many times the memory of the largest
            for i in done:
                del values[i]
        return {name: values[i] for name, i in self.graph.outputs.items()}


def load_network(path: Path) -> GraphNetwork:
    """Read a network written by `assets/build_networks.py`: graph JSON in the header, fp16 weights.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: the file is damaged, or its graph cannot be executed by this version.
    """
    header = read_header(path).get("graph")
    if header is None:
        raise WeightsError(f"'{path}' has no graph in its header: it is not a converted MediaPipe network")
    tensors = load_finite_tensors(path)
    try:
        return GraphNetwork(read_graph(header), tensors)
    except WeightsError as error:
        raise WeightsError(f"'{path}': {error}") from error


def read_graph(text: str) -> Graph:
    """The `Graph` of its JSON text.

    Raises:
        WeightsError: the text is no graph, or the graph cannot be executed by this version.
    """
    try:
        graph = json.loads(text)
        operations = tuple(
            Operation(o["name"], tuple(o["inputs"]), o["output"], o.get("settings", {})) for o in graph["operations"]
        )
        channels, height, width = graph["input_shape"]
        outputs = dict(graph["outputs"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise WeightsError(f"the graph cannot be read ({error!r})") from error
    return Graph((channels, height, width), outputs, operations)


def write_graph(graph: Graph) -> str:
    """JSON text of a `Graph`; equal graphs give equal bytes."""
    operations = [
        {"name": o.name, "inputs": o.inputs, "output": o.output} | ({"settings": o.settings} if o.settings else {})
        for o in graph.operations
    ]
    content = {"input_shape": graph.input_shape, "outputs": graph.outputs, "operations": operations}
    return json.dumps(content, separators=(",", ":"), sort_keys=True)
