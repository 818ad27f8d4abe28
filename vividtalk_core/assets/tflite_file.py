"""Reads .tflite files: operators, shapes and constants, sparse ones made dense. Only the build needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite
from flatbuffers import flexbuffers

from ..errors import WeightsError
from .arrays import Ints

Values = npt.NDArray[Any]  # of the type that the file stores

NUMBERS: dict[int, type[np.generic]] = {0: np.float32, 1: np.float16, 2: np.int32}  # tflite.TensorType
OPERATOR_NAMES = {number: name for name, number in vars(tflite.BuiltinOperator).items() if not name.startswith("_")}


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a .tflite graph."""

    name: str
    inputs: list[int]
    outputs: list[int]
    table: Any  # the flatbuffers record, for its options
    custom_options: bytes


class TfliteGraph:
    """What a .tflite file holds: operators, shapes, constants (densified and as arrays)."""

    def __init__(self, content: bytes) -> None:
        self._model = tflite.Model.GetRootAsModel(content, 0)
        self._graph = self._model.Subgraphs(0)
        self.inputs = [int(i) for i in self._graph.InputsAsNumpy()]
        self.outputs = [int(i) for i in self._graph.OutputsAsNumpy()]

    def operators(self) -> list[Operator]:
        """All operators, in the order of execution."""
        return [self._operator(self._graph.Operators(i)) for i in range(self._graph.OperatorsLength())]

    def _operator(self, table: Any) -> Operator:
        code = self._model.OperatorCodes(table.OpcodeIndex())
        # files of older schemas have the number in the deprecated field alone; TFLite itself takes the larger one
        builtin = OPERATOR_NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        name = code.CustomCode().decode() if code.CustomCode() else builtin
        custom = table.CustomOptionsAsNumpy().tobytes() if table.CustomOptionsLength() else b""
        inputs, outputs = ([int(i) for i in array] for array in (table.InputsAsNumpy(), table.OutputsAsNumpy()))
        return Operator(name, inputs, outputs, table, custom)

    def name(self, index: int) -> str:
        """The name of a tensor; the shape [...] is `shape(index)`."""
        name: bytes = self._graph.Tensors(index).Name()
        return name.decode()

    def shape(self, index: int) -> list[int]:
        """The tensor's shape, channels last: [N, H, W, C] of an activation."""
        tensor = self._graph.Tensors(index)
        return [int(n) for n in tensor.ShapeAsNumpy()] if tensor.ShapeLength() else []

    def constant(self, index: int) -> Values | None:
        """The value of a constant tensor, [O, h, w, I] of a convolution; None for an activation."""
        tensor = self._graph.Tensors(index)
        buffer = self._model.Buffers(tensor.Buffer())
        if not buffer.DataLength():
            return None
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), NUMBERS[tensor.Type()])
        shape, sparsity = self.shape(index), tensor.Sparsity()
        return densify(values, shape, sparsity) if sparsity else values.reshape(shape)


def densify(values: Values, shape: list[int], sparsity: Any) -> Values:
    """The dense array [..., columns] of values that are stored as rows of (column, value) along the last dimension.

    WeightsError for any other layout.
    """
    last = sparsity.DimMetadata(sparsity.DimMetadataLength() - 1)
    # 0 is a dense dimension and 1 a sparse one (tflite.DimensionType)
    formats = [sparsity.DimMetadata(i).Format() for i in range(sparsity.DimMetadataLength())]
    if sparsity.BlockMapLength() or formats != [0] * (len(shape) - 1) + [1]:
        raise WeightsError(
            f"only tensors that are sparse along their last dimension can be read; got formats {formats}"
        )
    starts = _vector(last.ArraySegments(), last.ArraySegmentsType())
    columns = _vector(last.ArrayIndices(), last.ArrayIndicesType())
    dense: Values = np.zeros((len(starts) - 1, shape[-1]), values.dtype)
    dense[np.repeat(np.arange(len(starts) - 1), np.diff(starts)), columns] = values
    return dense.reshape(shape)


def _vector(table: Any, kind: int) -> Ints:
    """The numbers of a flatbuffers vector, shape [N]; `kind` is its SparseIndexVector type."""
    vector = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}[kind]()
    vector.Init(table.Bytes, table.Pos)
    numbers: Values = vector.ValuesAsNumpy()
    return numbers.astype(np.int64)


def options_of(operator: Operator, kind: str) -> Any:
    """The builtin options of an operator, read as the table `kind`, e.g. "Conv2DOptions"."""
    options = getattr(tflite, kind)()
    options.Init(operator.table.BuiltinOptions().Bytes, operator.table.BuiltinOptions().Pos)
    return options


def flex_options(operator: Operator) -> dict[str, Any]:
    """The custom options of one of MediaPipe's own operators."""
    options: dict[str, Any] = flexbuffers.Loads(operator.custom_options)
    return options
