"""The filters of a bank as nodes of a step graph: a gather for each ring, one weighted sum of all taps."""

from __future__ import annotations

import numpy as np
import torch

from multires_edge.export.graphs.rings import RingSet
from multires_edge.export.trace.nodes import Nodes
from multires_edge.export.trace.program import FilterBank, Filtered, Ref
from multires_edge.format.specs import RingBank, RingSpec


class BankNodes:
    """Writes a bank: its taps before the step, its outputs where they are read, its rows at the end."""

    def __init__(self, nodes: Nodes, rings: RingSet, bank: FilterBank, taps: str) -> None:
        self.nodes, self.graph, self.rings, self.bank = nodes, nodes.graph, rings, bank
        self._rows = rings.read([ring.name for ring in bank.rings], taps)
        self._past: dict[tuple[int, int], str] = {}

    @property
    def taps(self) -> str:
        """The rows of all rings, in the type of the bank."""
        return self.nodes.typed(self._rows)

    def output(self, each: Filtered) -> str:
        """An output of the bank, in the layout of the value."""
        graph, name = self.graph, each.name
        if not self._past:
            self._weigh()
        shape = self.nodes.shape(self.nodes.program.layouts[name])
        y = self._past[each.output, each.part]
        for number, (ref, factors) in enumerate(each.terms):
            last = number + 1 == len(each.terms) and len(shape) == 2
            term = self._times(self._flat(ref), factors, f"{name}/now_{number}")
            y = graph.node("Add", [term, y], name if last else f"{name}/sum_{number}")
        if len(shape) == 2:
            return y
        sizes = graph.integers(f"{name}/shape", [-1, *map(int, shape[1:])])
        return graph.node("Reshape", [y, sizes], name)

    def _weigh(self) -> None:
        """The sums over the taps, for all outputs and all parts of the channels."""
        graph, bank, at = self.graph, self.bank, f"{self.bank.name}/past"
        outputs, taps, width = bank.outputs.shape
        weights = self.nodes.weight(f"{at}/weights", bank.outputs[None])
        doc = "sum over the taps, all values of the bank"
        past = self.nodes.sum_of_rows(
            graph.node("Mul", [self.taps, weights], f"{at}/weighted"), taps, f"{at}/sum", doc
        )
        if bool(bank.bias.any()):
            bias = self.nodes.weight(f"{at}/bias", bank.bias[None, :, None])
            past = graph.node("Add", [past, bias], f"{at}/biased")
        self._split(
            graph.node("Reshape", [past, graph.integers(f"{at}/shape", [-1, outputs * width])], f"{at}/row")
        )

    def _split(self, row: str) -> None:
        """Take the sums (batch, outputs * width) apart."""
        graph, bank, outputs = self.graph, self.bank, len(self.bank.outputs)
        places = [(output, part) for output in range(outputs) for part in range(len(bank.widths))]
        names = [f"{output}.{part}" for output, part in places]
        parts = graph.split(row, bank.widths * outputs, 1, f"{bank.name}/past/split", names)
        self._past = dict(zip(places, parts, strict=True))

    def push(self) -> None:
        """Write this step's rows of all rings."""
        graph, bank, at = self.graph, self.bank, f"{self.bank.name}/rows"
        axes = graph.integers("filters/axes", [1, 2])
        sources = []
        for number, refs in enumerate(bank.sources):
            whole = graph.concat([self._flat(ref) for ref in refs], 1, f"{at}/source_{number}")
            sources.append(graph.node("Unsqueeze", [whole, axes], f"{at}/now_{number}"))
        past = self._past_of_rows(at)
        rows: list[str] = []
        for number, (ring, row) in enumerate(zip(bank.rings, bank.rows, strict=True)):
            terms = [
                self._times(sources[i], factors, f"{at}/{number}/source_{i}")
                for i, factors in row.sources.items()
            ]
            terms += [
                self._times(rows[i], factors, f"{at}/{number}/row_{i}") for i, factors in row.rows.items()
            ]
            if number in past:
                terms.append(past[number])
            if bool(row.bias.any()):
                terms.append(self.nodes.weight(f"{at}/{number}/bias", row.bias))
            value = terms[0]
            for i, term in enumerate(terms[1:], 1):
                value = graph.node("Add", [value, term], f"{at}/{number}/sum_{i}")
            rows.append(value)
            self.rings.write(ring.name, value)

    def _past_of_rows(self, at: str) -> dict[int, str]:
        """The part of the taps in each row that has some, (batch, 1, 1, width)."""
        graph, bank = self.graph, self.bank
        reading = [number for number, row in enumerate(bank.rows) if row.taps]
        if not reading:
            return {}
        count = bank.outputs.shape[1]
        used = [tap for number in reading for tap in bank.rows[number].taps]
        once = len(set(used)) == len(used)
        weights = torch.zeros(1 if once else len(reading), count, bank.width, dtype=bank.outputs.dtype)
        chosen = np.zeros((len(reading), count))
        for i, number in enumerate(reading):
            for tap, factors in bank.rows[number].taps.items():
                weights[0 if once else i, tap] = factors
                chosen[i, tap] = 1
        weighted = graph.node(
            "Mul", [self.taps, self.nodes.weight(f"{at}/weights", weights[None])], f"{at}/weighted"
        )
        names = [str(number) for number in reading]
        if not once:
            past = self.nodes.sum_of_rows(weighted, count, f"{at}/past", "the taps in each row")
            parts = graph.split(past, [1] * len(reading), 1, f"{at}/split", names)
        elif np.array_equal(chosen, np.eye(*chosen.shape)):  # nothing to sum
            spare = ["unread"] if count > len(reading) else []
            sizes = [1] * len(reading) + [count - len(reading)] * len(spare)
            parts = graph.split(weighted, sizes, 2, f"{at}/split", [*names, *spare])
        else:
            past = graph.node(
                "MatMul", [graph.weight(f"{at}/chosen", chosen, like=weighted), weighted], f"{at}/past"
            )
            parts = graph.split(past, [1] * len(reading), 2, f"{at}/split", names)
        return dict(zip(reading, parts, strict=False))

    def _flat(self, ref: Ref) -> str:
        """A value as (batch, width)."""
        graph, layout = self.graph, self.nodes.layout(ref)
        value = self.nodes.value(ref)
        if len(self.nodes.shape(layout)) == 2:
            return value
        name = f"{value}/flat"
        if graph.has(name):
            return name
        return graph.node("Reshape", [value, graph.integers(f"{name}/shape", [-1, layout.width])], name)

    def _times(self, value: str, factors: torch.Tensor, name: str) -> str:
        if bool((factors == 1).all()):
            return value
        return self.graph.node("Mul", [value, self.nodes.weight(f"{name}/factors", factors)], name)


class SumsOutside(BankNodes):
    """A bank whose rings, sums and rows are outside: the sums are an input, the sources an output."""

    def __init__(self, nodes: Nodes, bank: FilterBank) -> None:
        self.nodes, self.graph, self.bank = nodes, nodes.graph, bank
        first = bank.rings[0].name
        rings = tuple(RingSpec(ring.name, ring.slots, tuple(ring.delays)) for ring in bank.rings)
        sums, sources = first.replace("queue", "sums"), first.replace("queue", "sources")
        self.spec = RingBank(sums, sources, "float32", bank.width, rings)
        self._past = {}
        doc = "weighted sums of the rows of its rings, known before the step"
        self.graph.input(sums, np.float32, ["batch", len(bank.outputs) * bank.width], doc)

    def _weigh(self) -> None:
        self._split(self.spec.taps)

    def push(self) -> None:
        """Give the values of this step that the rows are made of."""
        parts = [self._flat(ref) for refs in self.bank.sources for ref in refs]
        self.graph.node("Concat", parts, f"{self.bank.name}/sources", output=self.spec.pushes, axis=1)
        shape = ("batch", len(self.bank.sources) * self.bank.width)
        self.graph.output(
            self.spec.pushes, np.float32, shape, "values that the rows of its rings are made of"
        )
