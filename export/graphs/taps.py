"""The taps graph: the step without its queues. Past rows are inputs, and the rows to push are outputs.

It is for runtimes in which a graph cannot write a state in place. The caller owns the rings and their clock:
it gathers the taps before each step, and pushes rows and counts the step afterwards. The states of the graph
are only the sums of the pooling.
"""

from __future__ import annotations

from collections.abc import Sequence

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.rings import RingSet
from multires_edge.format.specs import RingBank, RingSpec, StateSpec


class RingsOutside(RingSet):
    """Rings of equal width and type that are read together are a bank: one input and one output."""

    in_graph = False
    name = "multires_taps"
    doc = (
        "One step of MultiresNet without its queues: give it the rows that they hold at each delay, and "
        "write the rows that it gives into them. Each row of the batch is a stream of its own."
    )

    def __init__(self, graph: GraphBuilder, rings: Sequence[StateSpec]) -> None:
        super().__init__(graph, rings)
        self._banks: list[RingBank] = []
        self._rows: dict[str, str] = {}

    @property
    def position(self) -> str:  # type: ignore[override]
        # Declared on first use: a graph without pooling needs no clock.
        return "position" if self.graph.has("position") else self._declare_position()

    @property
    def steps(self) -> str:  # type: ignore[override]
        if self.graph.has("clock/next"):
            return "clock/next"
        return self.graph.node("Add", [self.position, self.graph.integers("clock/one", 1)], "clock/next")

    def read(self, names: Sequence[str], value: str) -> str:
        rings = [self.rings[name] for name in names]
        ((width, dtype),) = {(int(ring.shape[3]), ring.dtype) for ring in rings}
        specs = tuple(RingSpec(ring.input, ring.slots, ring.delays) for ring in rings)
        bank = RingBank(value, value.replace("taps", "pushes"), dtype, width, specs)
        self._banks.append(bank)
        doc = f"rows of {', '.join(names)} at their delays, ring after ring"
        return self.graph.input(value, dtype, ["batch", 1, bank.n_taps, width], doc)

    def write(self, name: str, row: str) -> None:
        self._rows[name] = row

    def banks(self) -> tuple[RingBank, ...]:
        for bank in self._banks:
            rows = [self._rows[ring.state] for ring in bank.rings]
            self.graph.node("Concat", rows, f"rings/{bank.pushes}", output=bank.pushes, axis=2)
            doc = "this step's row of each ring, to write"
            shape = ("batch", 1, len(rows), bank.width)
            self.graph.output(bank.pushes, bank.dtype, shape, doc)
        return tuple(self._banks)
