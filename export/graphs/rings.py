"""Ring queues: the past of a signal, one row per step, read at fixed delays and written in place.

A ring keeps the row of step t in slot t mod ``slots``. It has one slot more than its longest delay, so a step
never reads the row that it writes: the order of reads and writes does not matter, and input and output may
share their memory.

Every row of a batch counts its own steps. Setting its rows to zero restarts a stream.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.format.specs import RingBank, StateSpec
from multires_edge.format.targets import QueueUpdate


class RingSet(ABC):
    """All rings of one step, on one clock; ``in_graph`` says whether they are states of the graph.

    ``position`` (batch,) int64 is the number of steps that each row has seen before, ``steps`` one more.
    ``name`` and ``doc`` are those of a step graph that has its rings so.
    """

    in_graph: ClassVar[bool]
    name: ClassVar[str]
    doc: ClassVar[str]

    position: str
    steps: str

    def __init__(self, graph: GraphBuilder, rings: Sequence[StateSpec]) -> None:
        self.graph = graph
        self.rings = {ring.input: ring for ring in rings}

    @abstractmethod
    def read(self, names: Sequence[str], value: str) -> str:
        """Rows of rings of equal width and type at their delays, ring after ring: (batch, 1, taps, width)."""

    @abstractmethod
    def write(self, name: str, row: str) -> None:
        """Write this step's row (batch, 1, 1, width)."""

    def banks(self) -> tuple[RingBank, ...]:
        """The rings outside the graph."""
        return ()

    def _declare_position(self) -> str:
        doc = "steps that each row has seen before this one"
        return self.graph.input("position", np.int64, ["batch"], doc)


class RingsInGraph(RingSet):
    """Every ring is an input and an output of the graph."""

    in_graph = True
    name = "multires_step"
    doc = (
        "One step of MultiresNet. Start with zeros in every state; give each next_ output to the input of "
        "the same name in the next call. Each row of the batch is a stream of its own."
    )

    def __init__(self, graph: GraphBuilder, rings: Sequence[StateSpec]) -> None:
        super().__init__(graph, rings)
        self.position = self._declare_position()
        one = graph.integers("clock/one", 1)
        self.steps = graph.node("Add", [self.position, one], "clock/next", output="next_position")
        for ring in rings:
            doc = f"rows of the last {ring.slots} steps, step t in slot t mod {ring.slots}"
            graph.input(ring.input, ring.dtype, ring.shape, doc)
        self._reads: dict[str, str] = {}
        self._write_slots: dict[str, str] = {}
        if rings:
            axes = graph.integers("clock/axes", [1, 2, 3])
            ticks = graph.node("Unsqueeze", [self.position, axes], "clock/position")
            self._reads = self._read_all(ticks)
            scattered = [ring for ring in rings if self._update_of(ring) == "ScatterND"]
            if scattered:
                self._write_slots = self._scatter_indices(ticks, scattered)

    def _update_of(self, ring: StateSpec) -> QueueUpdate:
        # TensorRT's in-place cache update takes floating point only.
        return "ScatterND" if ring.dtype in ("int8", "int64") else self.graph.form.queue_update

    def _read_all(self, ticks: str) -> dict[str, str]:
        """Read all rings. One subtraction and one remainder give the slot numbers."""
        graph, rings = self.graph, list(self.rings.values())
        # A row of indices is (0, slot). Modulo 1 gives the 0 for the axis of size one.
        pairs = [(ring, delay) for ring in rings for delay in ring.delays]
        delays = graph.integers("rings/delays", [[[(0, delay) for _, delay in pairs]]])
        since = graph.node("Sub", [ticks, delays], "rings/times")
        slots = graph.integers("rings/slots", [[[(1, ring.slots) for ring, _ in pairs]]])
        doc = "slot of each delay, (batch, 1, delays of all rings, 2)"
        indices = graph.node("Mod", [since, slots], "rings/read_slots", doc=doc)
        sizes = [len(ring.delays) for ring in rings]
        pieces = graph.split(indices, sizes, 2, "rings/split", list(self.rings))
        doc = "rows at the ring's delays, (batch, 1, delays, width)"
        return {
            name: graph.node("GatherND", [name, piece], f"rings/read/{name}", batch_dims=1, doc=doc)
            for name, piece in zip(self.rings, pieces, strict=True)
        }

    def read(self, names: Sequence[str], value: str) -> str:
        return self.graph.concat([self._reads[name] for name in names], 2, value)

    def write(self, name: str, row: str) -> None:
        graph, ring = self.graph, self.rings[name]
        update = self._update_of(ring)
        if update == "TensorScatter":
            length = graph.integers(f"rings/length/{name}", ring.slots)
            slot = graph.node("Mod", [self.position, length], f"rings/write_slot/{name}")
            how: dict[str, Any] = {"axis": -2, "mode": "linear", "doc": "write this step's row in place"}
            inputs = [name, row, slot]
        else:
            how, inputs = {"doc": "write this step's row"}, [name, self._write_slots[name], row]
        graph.node(update, inputs, f"rings/write/{name}", output=f"next_{name}", **how)

    def _scatter_indices(self, ticks: str, rings: Sequence[StateSpec]) -> dict[str, str]:
        """The indices (row of the batch, 0, slot) of the write to each ring, (batch, 1, 1, 3)."""
        graph = self.graph
        moduli = graph.integers("rings/write_moduli", [[[(1, 1, ring.slots) for ring in rings]]])
        slots = graph.node("Mod", [ticks, moduli], "rings/write_slots")
        size = graph.node("Shape", [self.position], "rings/batch_shape", dtype=np.int64)
        axis = graph.integers("rings/batch_shape_axis", [0])
        size = graph.node("Squeeze", [size, axis], "rings/batch_size")
        zero, one = graph.integers("rings/zero", 0), graph.integers("clock/one", 1)
        rows = graph.node("Range", [zero, size, one], "rings/batch_rows")
        axes = graph.integers("clock/axes", [1, 2, 3])
        rows = graph.node("Unsqueeze", [rows, axes], "rings/batch_column")
        unit = graph.integers("rings/batch_axis", [[[[1, 0, 0]]]])
        rows = graph.node("Mul", [rows, unit], "rings/batch_indices")
        indices = graph.node("Add", [slots, rows], "rings/write_indices")
        parts = [ring.input for ring in rings]
        pieces = graph.split(indices, [1] * len(parts), 2, "rings/write_split", parts)
        return dict(zip(parts, pieces, strict=True))
