"""The entries of a manifest for each graph: its file, inputs, outputs and states."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from multires_edge.base.errors import DataError
from multires_edge.format.fields import ABSENT, Count, FileName, Line, Name, Natural, OneOf, Sha256

# A dimension is a number, or a name if it is dynamic.
Shape = tuple[Count | Name, ...]
PRECISIONS = ("fp32", "fp16", "int8")
Kind = Annotated[str, OneOf(("full", "step", "taps", "sums"))]
Precision = Annotated[str, OneOf(PRECISIONS)]
Dtype = Annotated[str, OneOf(("float32", "float16", "int8", "int64"))]


def concrete(shape: Shape, batch: int) -> tuple[int, ...]:
    """A shape whose dynamic dimensions are the batch."""
    return tuple(batch if isinstance(size, str) else size for size in shape)


def row_bytes(shape: Shape, dtype: str) -> int:
    """Bytes of one row of a tensor whose only dynamic dimension is the batch, its first."""
    import numpy as np

    return math.prod(int(size) for size in shape[1:]) * np.dtype(dtype).itemsize


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output."""

    name: Name
    dtype: Dtype
    shape: Shape

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True, kw_only=True)
class StateSpec:
    """A state of the step graph: feed ``output`` of one call to ``input`` of the next, beginning with zeros.

    Queues have ``scale`` and ``dilation``, that of the encoder's samples only ``dilation``. Rings are
    ``in_place``: input and output may be bound to the same memory, because a step never reads the row that it
    writes. A ring (batch, 1, slots, width) has the row of step t in slot t mod ``slots``. A step reads a
    queue at all multiples of its dilation, and any other ring at its longest delay.
    """

    input: Name
    output: Name
    dtype: Dtype
    scale: Natural | None = field(default=None, metadata=ABSENT)
    dilation: Count | None = field(default=None, metadata=ABSENT)
    shape: Shape
    in_place: bool = False

    @property
    def slots(self) -> int:
        return int(self.shape[2])

    @property
    def delays(self) -> tuple[int, ...]:
        nearest = self.dilation or self.slots - 1
        return tuple(range(nearest, self.slots, nearest))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the batch."""
        return row_bytes(self.shape, self.dtype)


@dataclass(frozen=True)
class RingSpec:
    """A ring outside a graph: the row of step t is in slot t mod ``slots``, and is read after ``delays``.

    ``state`` is the name of the same ring in the step graph; both have the same layout.
    """

    state: Name
    slots: Count
    delays: tuple[Count, ...]


@dataclass(frozen=True)
class RingBank:
    """Rings of one width and type that the runtime keeps for a taps graph or a sums graph.

    The input ``taps`` (batch, 1, taps, width) takes the rows at all delays, ring after ring. The output
    ``pushes`` (batch, 1, rings, width) is the row to write into each ring after the step.

    Of a sums graph ``taps`` (batch, sums * width) takes weighted sums of these rows, and ``pushes`` (batch,
    sources * width) are the values of this step that the new rows are made of.
    """

    taps: Name
    pushes: Name
    dtype: Dtype
    width: Count
    rings: tuple[RingSpec, ...]

    @property
    def n_taps(self) -> int:
        return sum(len(ring.delays) for ring in self.rings)


@dataclass(frozen=True)
class FileSpec:
    """A file of a bundle, by its path in it."""

    file: FileName
    sha256: Sha256


@dataclass(frozen=True)
class GraphSpec:
    """One ONNX file of a bundle. ``banks`` are the rings outside a taps or sums graph.

    ``factors`` is the file with what a sums graph's sums and rows are made of.
    """

    file: FileName
    sha256: Sha256
    opset: Count
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...] = field(default=(), metadata=ABSENT)
    banks: tuple[RingBank, ...] = field(default=(), metadata=ABSENT)
    factors: FileSpec | None = field(default=None, metadata=ABSENT)

    @property
    def state_bytes(self) -> int:
        """Bytes of the state of one stream."""
        return sum(state.row_bytes for state in self.states)


Graphs = dict[Kind, dict[Precision, GraphSpec]]


@dataclass(frozen=True)
class DataUsed:
    """Data that something was measured on; ``sha256`` is None for data that were made in memory."""

    file: Line
    sha256: Sha256 | None
    records: Natural
    steps: Natural

    def __post_init__(self) -> None:
        if not 1 <= self.records <= self.steps:
            raise DataError(f"{self.records} records of {self.steps} steps, expected at least one step each")


@dataclass(frozen=True)
class Source:
    """The checkpoint, or the module of the user's own.

    ``weights`` names the network that was chosen of several. ``assumed`` is what neither the checkpoint nor
    the user said. ``module`` is the class of the user's module in which the network was found.
    """

    file: Line
    sha256: Sha256
    weights: Line | None = field(default=None, metadata=ABSENT)
    assumed: tuple[Line, ...] = field(default=(), metadata=ABSENT)
    module: Line | None = field(default=None, metadata=ABSENT)
