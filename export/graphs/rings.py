"""Ring queues: the past of a signal, one row a step, read at fixed delays and written in place.

A ring of ``slots`` rows keeps the row of step t in slot t mod slots. It has one slot more than its
longest delay, so the row that a step writes is never one that it reads: the order of reading and
writing does not matter, and input and output may share their memory.

Every row of a batch counts its own steps. A stream is restarted by zeroing its rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multires_edge.export.graphs.builder import GraphBuilder
from multires_edge.export.precision.types import FLOAT32, Type
from multires_edge.format.specs import RingBank, StateSpec
from multires_edge.format.targets import QueueUpdate


@dataclass(frozen=True)
class Ring:
    """A queue of rows of ``width`` values, read at ``delays`` of 1 step or more."""

    name: str
    width: int
    delays: tuple[int, ...]
    scale: int | None = None
    dtype: Type = FLOAT32

    @property
    def slots(self) -> int:
        return max(self.delays) + 1

    @property
    def state(self) -> StateSpec:
        return StateSpec(
            input=self.name,
            output=f"next_{self.name}",
            dtype=str(self.dtype),
            shape=("batch", 1, self.slots, self.width),
            scale=self.scale,
            dilation=None if self.scale is None else 1 << self.scale,
            in_place=True,
        )


class RingSet(ABC):
    """All rings of one step, on one clock; they lie in the graph, or outside of it.

    ``position`` (batch,) int64 are the steps that each row has seen before, ``steps`` one more.
    """

    def __init__(self, graph: GraphBuilder, rings: Sequence[Ring]) -> None:
        self.graph = graph
        self.rings = {ring.name: ring for ring in rings}

    @property
    @abstractmethod
    def position(self) -> str: ...

    @property
    @abstractmethod
    def steps(self) -> str: ...

    @abstractmethod
    def read(self, names: Sequence[str], value: str) -> str:
        """Rows of rings of one width and type at their delays, ring after ring: (batch, 1, taps, width)."""

    @abstractmethod
    def write(self, name: str, row: str) -> None:
        """Write this step's row (batch, 1, 1, width)."""

    @abstractmethod
    def states(self) -> list[StateSpec]:
        """The states of the graph that the rings and their clock are."""

    def banks(self) -> tuple[RingBank, ...]:
        """The rings outside of the graph."""
        return ()

    def _declare_position(self) -> str:
        return self.graph.input(
            "position", np.int64, ["batch"], "steps that each row has seen before this one"
        )


class RingsInGraph(RingSet):
    """Every ring is an input and an output of the graph, which reads and writes it in place."""

    def __init__(self, graph: GraphBuilder, rings: Sequence[Ring]) -> None:
        super().__init__(graph, rings)
        self._position = self._declare_position()
        one = graph.integers("clock/one", 1)
        self._steps = graph.node("Add", [self._position, one], "clock/next", output="next_position")
        for ring in rings:
            doc = f"rows of the last {ring.slots} steps, step t in slot t mod {ring.slots}"
            graph.input(ring.name, ring.dtype, ring.state.shape, doc)
        self._reads: dict[str, str] = {}
        self._write_slots: dict[str, str] = {}
        if rings:
            axes = graph.integers("clock/axes", [1, 2, 3])
            ticks = graph.node("Unsqueeze", [self.position, axes], "clock/position")
            self._reads = self._read_all(ticks)
            scattered = [ring for ring in rings if self._update_of(ring) == "ScatterND"]
            if scattered:
                self._write_slots = self._scatter_indices(ticks, scattered)

    def _update_of(self, ring: Ring) -> QueueUpdate:
        # TensorRT's in-place cache update takes floating point only.
        return "ScatterND" if ring.dtype == np.int8 else self.graph.form.queue_update

    @property
    def position(self) -> str:
        return self._position

    @property
    def steps(self) -> str:
        return self._steps

    def states(self) -> list[StateSpec]:
        clock = StateSpec(input="position", output="next_position", dtype="int64", shape=("batch",))
        return [clock, *(ring.state for ring in self.rings.values())]

    def _read_all(self, ticks: str) -> dict[str, str]:
        """Slot numbers of all reads of all rings in one subtraction and one remainder."""
        graph, rings = self.graph, list(self.rings.values())
        # A row of indices is (0, slot): anything modulo 1 is the 0 for the axis of size one.
        delays = np.array([(0, delay) for ring in rings for delay in ring.delays])
        slots = np.array([(1, ring.slots) for ring in rings for _ in ring.delays])
        since = graph.node("Sub", [ticks, graph.integers("rings/delays", delays[None, None])], "rings/times")
        indices = graph.node(
            "Mod",
            [since, graph.integers("rings/slots", slots[None, None])],
            "rings/read_slots",
            doc="slot of each delay, (batch, 1, delays of all rings, 2)",
        )
        sizes = [len(ring.delays) for ring in rings]
        pieces = graph.split(indices, sizes, 2, "rings/split", list(self.rings))
        return {
            ring.name: graph.node(
                "GatherND",
                [ring.name, piece],
                f"rings/read/{ring.name}",
                batch_dims=1,
                doc="rows at the ring's delays, (batch, 1, delays, width)",
            )
            for ring, piece in zip(rings, pieces, strict=True)
        }

    def read(self, names: Sequence[str], value: str) -> str:
        rows = [self._reads[name] for name in names]
        return rows[0] if len(rows) == 1 else self.graph.node("Concat", rows, value, axis=2)

    def write(self, name: str, row: str) -> None:
        graph, ring = self.graph, self.rings[name]
        if self._update_of(ring) == "TensorScatter":
            length = graph.integers(f"rings/length/{name}", ring.slots)
            slot = graph.node("Mod", [self.position, length], f"rings/write_slot/{name}")
            graph.node(
                "TensorScatter",
                [name, row, slot],
                f"rings/write/{name}",
                output=ring.state.output,
                axis=-2,
                mode="linear",
                doc="write this step's row in place",
            )
        else:
            graph.node(
                "ScatterND",
                [name, self._write_slots[name], row],
                f"rings/write/{name}",
                output=ring.state.output,
                doc="write this step's row",
            )

    def _scatter_indices(self, ticks: str, rings: Sequence[Ring]) -> dict[str, str]:
        """(row of the batch, 0, slot) of each ring's write, (batch, 1, 1, 3)."""
        graph = self.graph
        moduli = np.array([(1, 1, ring.slots) for ring in rings])
        slots = graph.node(
            "Mod",
            [ticks, graph.integers("rings/write_moduli", moduli[None, None])],
            "rings/write_slots",
        )
        size = graph.node("Shape", [self.position], "rings/batch_shape", dtype=np.int64)
        size = graph.node(
            "Squeeze", [size, graph.integers("rings/batch_shape_axis", [0])], "rings/batch_size"
        )
        zero, one = graph.integers("rings/zero", 0), graph.integers("clock/one", 1)
        rows = graph.node("Range", [zero, size, one], "rings/batch_rows")
        axes = graph.integers("clock/axes", [1, 2, 3])
        rows = graph.node("Unsqueeze", [rows, axes], "rings/batch_column")
        unit = graph.integers("rings/batch_axis", [[[[1, 0, 0]]]])
        rows = graph.node("Mul", [rows, unit], "rings/batch_indices")
        indices = graph.node("Add", [slots, rows], "rings/write_indices")
        parts = [ring.name for ring in rings]
        pieces = graph.split(indices, [1] * len(parts), 2, "rings/write_split", parts)
        return dict(zip(parts, pieces, strict=True))
