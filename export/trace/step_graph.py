"""The graph of one step of a program. Its rings are states of the graph, or outside of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.rings import RingSet, RingsInGraph
from multires_edge.export.graphs.running import ExactSum, running_maximum
from multires_edge.export.graphs.step import StepGraph
from multires_edge.export.trace.filter_nodes import BankNodes, SumsOutside
from multires_edge.export.trace.precision import EXACT, Precision
from multires_edge.export.trace.product_nodes import affine
from multires_edge.export.trace.program import (
    Convolution,
    Cut,
    Delay,
    Filtered,
    Instruction,
    Layout,
    Pad,
    Pool,
    Program,
    Recurrence,
    Ring,
)
from multires_edge.export.trace.recurrent_nodes import recurrent_step
from multires_edge.export.trace.writer import Writer, onnx_type
from multires_edge.export.types import FLOAT16
from multires_edge.format.specs import RingBank, StateSpec
from multires_edge.format.targets import GraphForm


def build_traced_step_graph(
    program: Program,
    form: GraphForm,
    precision: Precision = EXACT,
    kind: type[RingSet] = RingsInGraph,
    *,
    engines: bool = False,
    sums: bool = False,
) -> StepGraph:
    """The graph of one step, dynamic in batch. Each row of a batch is a stream with its own position.

    ``kind`` decides where its rings are: with :class:`~multires_edge.export.graphs.taps.RingsOutside` it is
    the taps graph. With ``engines`` it is written for TensorRT, else for ONNX Runtime. With ``sums`` it is
    the sums graph: the rings of its banks are outside, and so is all that is computed from their rows.
    """
    nodes = _Step(program, form, precision, kind, engines=engines, sums=sums)
    nodes.write("this step's values")
    return StepGraph(nodes.graph.build(kind.doc), tuple(nodes.states), nodes.banks)


def rings_of(each: Instruction) -> tuple[Ring, ...]:
    """The rings that an instruction reads."""
    if isinstance(each, Filtered):
        return each.bank.rings
    ring = getattr(each, "ring", None)
    return () if ring is None else (ring,)


def stored_types(program: Program, precision: Precision) -> dict[str, str]:
    """The type of each ring: float16 if all that reads it computes in float16."""
    found: dict[str, str] = {}
    for each in program.instructions:
        for ring in rings_of(each):
            by = each.bank.name if isinstance(each, Filtered) else each.name
            stored = onnx_type(ring.dtype)
            if stored == "float32" and precision.type_of(by) == FLOAT16:
                stored = found.get(ring.name, "float16")
            found[ring.name] = stored
    return found


class _Step(Writer):
    """``states`` are the states of the graph, sorted by name; ``banks`` are the rings outside of it."""

    states: Sequence[StateSpec]
    banks: tuple[RingBank, ...]

    def __init__(
        self,
        program: Program,
        form: GraphForm,
        precision: Precision,
        kind: type[RingSet],
        *,
        engines: bool,
        sums: bool,
    ) -> None:
        super().__init__(GraphBuilder(kind.name, form), program, precision, whole=False, engines=engines)
        self._kind, self._sums = kind, sums

    def begin(self) -> None:
        stored = stored_types(self.program, self.precision)
        banked = {ring.name for bank in self.program.banks for ring in bank.rings}
        self.queues = {
            ring.name: StateSpec(
                input=ring.name,
                output=f"next_{ring.name}",
                dtype=stored[ring.name],
                dilation=ring.dilation,
                shape=("batch", 1, ring.slots, ring.width),
                in_place=True,
            )
            for ring in self.program.rings
            if not (self._sums and ring.name in banked)
        }
        self.rings = self._kind(self.graph, list(self.queues.values()))
        self.pooled: list[StateSpec] = []
        self._rows: dict[str, str] = {}
        self._pushed: dict[str, tuple[Ring, str]] = {}
        self._banks: dict[str, BankNodes] = {}
        for bank in self.program.banks:
            if self._sums:
                self._banks[bank.name] = SumsOutside(self, bank)
            else:
                self._banks[bank.name] = BankNodes(self, self.rings, bank, self._at(bank.rings[0]))

    def _at(self, ring: Ring) -> str:
        """The name of the rows of a ring, or of a bank that begins with it, among the graph's values."""
        return ring.name.replace("queue", "taps")

    def filtered(self, each: Filtered) -> str:
        self.type = self.precision.type_of(each.bank.name)
        return self._banks[each.bank.name].output(each)

    def end(self) -> None:
        for bank in self.program.banks:
            self.type = self.precision.type_of(bank.name)
            self._banks[bank.name].push()
        for ring, value in self._pushed.values():
            stored = self.graph.cast(value, self.queues[ring.name].dtype, f"rings/stored/{ring.name}")
            shape = self.graph.integers(f"rings/row_of_{ring.width}", [-1, 1, 1, ring.width])
            row = self.graph.node("Reshape", [stored, shape], f"rings/row/{ring.name}")
            self.rings.write(ring.name, row)
        outside = [bank.spec for bank in self._banks.values() if isinstance(bank, SumsOutside)]
        self.banks = (*self.rings.banks(), *outside)
        states = self.pooled
        if self.rings.in_graph:
            position = StateSpec(input="position", output="next_position", dtype="int64", shape=("batch",))
            states = [position, *self.queues.values(), *self.pooled]
        self.states = sorted(states, key=lambda state: state.input)
        for state in self.states:
            self.graph.output(state.output, state.dtype, state.shape, f"{state.input} for the next step")

    def over_time(self, each: Any, value: str, layout: Layout) -> str:
        graph, name = self.graph, each.name
        rest = [int(size) for size in layout.step_shape[1:]]
        if isinstance(each, Cut):
            return value
        if isinstance(each, Pad):
            return self._masked(each, value, len(rest)) if each.mask else value
        if isinstance(each, Delay):
            rows = self._read(each)
            shape = graph.integers(f"{name}/shape", [-1, *rest])
            return graph.node("Reshape", [rows, shape], name, doc=f"{each.ring.slots - 1} steps ago")
        if isinstance(each, Convolution):
            return self._convolve(each, value, layout)
        if isinstance(each, Recurrence):
            self.pooled += [_state(state, ("batch", each.width)) for state in each.states]
            return recurrent_step(self, each, value)
        return self._pool(each, value, layout, rest)

    def _pool(self, each: Pool, value: str, layout: Layout, rest: list[int]) -> str:
        graph, name = self.graph, each.name
        if each.state is None:
            return self._kept(value, layout) if each.keep else value
        states: tuple[int | str, ...] = ("batch", *rest)
        if each.how == "max":
            self.pooled.append(_state(each.state, states))
            pooled = running_maximum(graph, value, each.state, states, self.rings.position, name)
        else:
            old = ExactSum.declare(graph, each.state, states, "running sum, zeros at the start")
            self.pooled += [_state(each.state, states), _state(f"{each.state}_error", states)]
            new = old.plus(graph, value, each.state, name)
            pooled = graph.node("Add", [new.rounded, new.error], name, doc="sum of all steps so far")
            if each.how == "mean":
                count = "pool/steps"
                if not graph.has(count):
                    graph.cast(self.rings.steps, np.float32, count)
                column = graph.integers(f"pool/columns_{len(rest)}", list(range(1, len(rest) + 1)))
                count = graph.node("Unsqueeze", [count, column], f"{name}/count") if rest else count
                pooled = graph.node("Div", [pooled, count], f"{name}/mean", doc="mean of all steps so far")
        return self._kept(pooled, layout) if each.keep and each.how != "cumsum" else pooled

    def _kept(self, value: str, layout: Layout) -> str:
        """A pooled value with its axis of size 1 in the place of time."""
        assert layout.axis is not None
        axis = self.graph.integers(f"pool/axis_{layout.axis}", [layout.axis])
        return self.graph.node("Unsqueeze", [value, axis], f"{value}/kept")

    def _masked(self, pad: Pad, value: str, rank: int) -> str:
        """Padding instead of the value in the first steps of a stream."""
        graph, name = self.graph, pad.name
        steps = graph.integers(f"{name}/steps", pad.mask)
        early = graph.node("Less", [self.rings.position, steps], f"{name}/early", dtype=np.bool_)
        axes = graph.integers(f"{name}/axes", list(range(1, rank + 1)))
        early = graph.node("Unsqueeze", [early, axes], f"{name}/early_column")
        constant = graph.weight(f"{name}/value", pad.value, like=value)
        return graph.node("Where", [early, constant, value], name, dtype=graph.type_of(value))

    def _read(self, each: Delay | Convolution) -> str:
        """The rows of its ring at its delays (batch, 1, taps, width). Its source is to be written."""
        ring = each.ring
        assert ring is not None
        self._pushed[ring.name] = ring, self.names[each.source.name]
        if ring.name not in self._rows:
            graph = self.graph
            rows = self.rings.read([ring.name], self._at(ring))
            if ring.before is not None:
                at = f"rings/before/{ring.name}"
                axes = graph.integers("clock/axes", [1, 2, 3])
                ticks = graph.node("Unsqueeze", [self.rings.position, axes], f"{at}/position")
                delays = graph.integers(f"{at}/delays", np.reshape(ring.delays, (1, 1, -1, 1)))
                early = graph.node("Less", [ticks, delays], f"{at}/early", dtype=np.bool_)
                before = graph.weight(f"{at}/row", ring.before.numpy().reshape(1, 1, 1, -1), like=rows)
                rows = graph.node("Where", [early, before, rows], at, dtype=graph.type_of(rows))
            self._rows[ring.name] = rows
        return self.typed(self._rows[ring.name])

    def _convolve(self, each: Convolution, value: str, layout: Layout) -> str:
        weight = self.constant(each.weight)
        bias = None if each.bias is None else self.constant(each.bias)
        rows = None if each.ring is None else self._read(each)
        plain = weight.dim() == 3
        if plain and each.groups == 1:
            return self._dense(each, value, rows, weight, bias)
        if plain and each.groups == len(weight) == layout.step_shape[1]:
            return self._depthwise(each, value, rows, weight, bias)
        return self._grouped(each, value, rows, weight, bias)

    def _dense(
        self, each: Convolution, value: str, rows: str | None, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> str:
        """One product with the values of all taps side by side, the newest first."""
        graph, name = self.graph, each.name
        outputs, inputs, taps = weight.shape
        if rows is not None:
            shape = graph.integers(f"{name}/row", [-1, (taps - 1) * inputs])
            past = graph.node("Reshape", [rows, shape], f"{name}/past")
            value = graph.concat([value, past], 1, f"{name}/taps")
        joined = weight.flip(2).permute(0, 2, 1).reshape(outputs, taps * inputs)
        return affine(self, value, 2, joined, bias, name)

    def _depthwise(
        self, each: Convolution, value: str, rows: str | None, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> str:
        graph, name = self.graph, each.name
        filters = weight[:, 0].T.flip(0)  # (taps, channels), the newest first
        y = graph.node("Mul", [value, self.weight(f"{name}/newest", filters[0])], f"{name}/now")
        if rows is not None:
            past = graph.node("Mul", [rows, self.weight(f"{name}/older", filters[1:])], f"{name}/weighted")
            past = self.sum_of_rows(past, len(filters) - 1, f"{name}/sum")
            past = graph.node("Squeeze", [past, graph.integers("taps/axes", [1, 2])], f"{name}/past")
            y = graph.node("Add", [y, past], f"{name}/product" if bias is not None else name)
        if bias is not None:
            y = graph.node("Add", [y, self.weight(f"{name}/bias", bias)], name)
        return y

    def _grouped(
        self, each: Convolution, value: str, rows: str | None, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> str:
        """Any other convolution, over a window of its taps, the newest first."""
        graph, name, axis = self.graph, each.name, each.axis
        layout = self.layout(each.source)
        rest = [int(size) for size in layout.step_shape[1:]]
        window = graph.node("Unsqueeze", [value, graph.integers(f"{name}/time", [1])], f"{name}/now")
        if rows is not None:
            shape = graph.integers(f"{name}/rows", [-1, weight.shape[axis] - 1, *rest])
            past = graph.node("Reshape", [rows, shape], f"{name}/past")
            window = graph.concat([window, past], 1, f"{name}/taps")
        order = [0, *range(2, axis + 1), 1, *range(axis + 1, len(layout.shape))]
        window = graph.node("Transpose", [window], f"{name}/window", perm=order)
        near = list(each.dilations)
        near[each.spatial] = 1
        inputs = [window, self.weight(f"{name}/weight", weight.flip(axis))]
        if bias is not None:
            inputs.append(self.weight(f"{name}/bias", bias))
        y = graph.node(
            "Conv",
            inputs,
            f"{name}/convolved",
            kernel_shape=list(weight.shape[2:]),
            dilations=near,
            strides=list(each.strides),
            pads=[*each.padding, *each.padding],
            group=each.groups,
        )
        return graph.node("Squeeze", [y, graph.integers(f"{name}/axis", [axis])], name)


def _state(name: str, shape: tuple[int | str, ...]) -> StateSpec:
    return StateSpec(input=name, output=f"next_{name}", dtype="float32", shape=shape)
