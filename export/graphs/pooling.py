"""Pooling of a stream: the mean of all steps so far, or of the last N, exact for as long as it runs.

A running float32 sum loses a little at each addition, so sums are kept as two numbers, the rounded
sum and its exact rounding error (TwoSum; Knuth, TAOCP 2, 4.2.2; the resulting sum is as good as one
in twice the precision: Ogita, Rump and Oishi 2005, "Accurate sum and dot product", Prop. 4.5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx

from multires_edge.export.graphs.builder import GraphBuilder
from multires_edge.export.graphs.rings import Ring, RingSet
from multires_edge.runtime.errors import ConfigError
from multires_edge.runtime.manifest import StateSpec

PREFIX_RING = "pool_prefix"
MAX_WINDOW = 1 << 24  # counts up to here are exact in float32


@dataclass(frozen=True)
class Pooling:
    """``window`` is None for the mean of everything seen so far, else the number of last steps."""

    window: int | None = None

    @classmethod
    def parse(cls, text: str) -> Pooling:
        """Read "cumulative" or "window:N". Raises ConfigError."""
        if text == "cumulative":
            return cls()
        match = re.fullmatch(r"window:(\d+)", text)
        if not match or not 1 <= int(match[1]) <= MAX_WINDOW:
            raise ConfigError(
                f"pool is {text!r}, expected cumulative, or window:N with N from 1 to {MAX_WINDOW}"
            )
        return cls(int(match[1]))

    def rings(self, d_model: int) -> list[Ring]:
        """The rings that this pooling reads and writes."""
        if self.window is None:
            return []
        return [Ring(PREFIX_RING, 2 * d_model, ((self.window,),))]

    def build(
        self, graph: GraphBuilder, rings: RingSet, features: str, d_model: int
    ) -> tuple[str, list[StateSpec]]:
        """Mean of ``features`` (batch, d_model) over time, and the states that this takes."""
        if self.window is None:
            return _pool_cumulative(graph, rings, features, d_model)
        return _pool_window(graph, rings, features, d_model, self.window)

    def __str__(self) -> str:
        return "cumulative" if self.window is None else f"window:{self.window}"


def _pool_cumulative(
    graph: GraphBuilder, rings: RingSet, features: str, d_model: int
) -> tuple[str, list[StateSpec]]:
    """Mean of ``features`` (batch, d_model) over all steps so far, and its states."""
    states = [_state(graph, "pool_sum", d_model), _state(graph, "pool_sum_error", d_model)]
    total, error = _two_sum(graph, states[0], states[1], features)
    exact = graph.node("Add", [total, error], "pool/total")
    steps = graph.node("Cast", [rings.steps], "pool/steps", to=onnx.TensorProto.FLOAT)
    column = graph.node("Unsqueeze", [steps, graph.integers("pool/column", [1])], "pool/count")
    pooled = graph.node("Div", [exact, column], "pool", doc="mean of all steps so far")
    return pooled, states


def _pool_window(
    graph: GraphBuilder, rings: RingSet, features: str, d_model: int, window: int
) -> tuple[str, list[StateSpec]]:
    """Mean of ``features`` over the last ``window`` steps, and its states.

    Time is cut into blocks of ``window`` steps and only sums since a block's start are kept: a ring
    of them for the last ``window`` steps, and the total of the block before. The window is the end
    of one block and the start of the next:

        sum = (total of the last block) - (its sum up to where the window starts) + (this block's sum)

    Nothing older than 2 * window steps has any part in it, so no error can build up over time; and
    each sum is kept in two numbers, so the subtraction leaves nothing behind either.
    """
    total_states = [_state(graph, "pool_block", d_model), _state(graph, "pool_block_error", d_model)]
    sum_states = [_state(graph, "pool_sum", d_model), _state(graph, "pool_sum_error", d_model)]
    length = graph.integers("pool/window", window)
    zero, nothing = graph.integers("pool/first", 0), graph.weight("pool/nothing", 0.0)
    column = graph.integers("pool/column", [1])
    within = graph.node("Mod", [rings.position, length], "pool/step_of_block")
    first = graph.node("Equal", [within, zero], "pool/is_first")
    first = graph.node("Unsqueeze", [first, column], "pool/starts_block")
    before, kept = [], []
    for done, running in zip(total_states, sum_states, strict=True):
        last = graph.node(
            "Where", [first, running.input, done.input], f"pool/last_block/{done.input}",
            output=done.output, doc="at a block's start, the running sum is the last block's total",
        )  # fmt: skip
        before.append(last)
        name = f"pool/this_block/{running.input}"
        kept.append(graph.node("Where", [first, nothing, running.input], name))
    running, error = _two_sum(graph, *sum_states, features, value=kept)
    pair = graph.node("Concat", [running, error], "pool/pair", axis=1)
    axes = graph.integers("pool/row_axes", [1, 2])
    row = graph.node("Unsqueeze", [pair, axes], "pool/row")
    ring_state = rings.write(PREFIX_RING, row)
    old = graph.node("Squeeze", [rings.read(PREFIX_RING), axes], "pool/old_row")
    d = [d_model, d_model]
    old_sum, old_error = graph.split(old, d, 1, "pool/old", ["sum", "error"])
    end = graph.node("Sub", [before[0], old_sum], "pool/end_of_last_block")
    end_error = graph.node("Sub", [before[1], old_error], "pool/end_of_last_block_error")
    whole = graph.node("Add", [end, running], "pool/rounded")
    small = graph.node("Add", [end_error, error], "pool/rounding_error")
    exact = graph.node("Add", [whole, small], "pool/total")
    count = graph.node("Min", [rings.steps, length], "pool/steps")
    count = graph.node("Cast", [count], "pool/steps_float", to=onnx.TensorProto.FLOAT)
    count = graph.node("Unsqueeze", [count, column], "pool/count")
    pooled = graph.node("Div", [exact, count], "pool", doc=f"mean of the last {window} steps")
    return pooled, [*total_states, *sum_states, ring_state]


def _state(graph: GraphBuilder, name: str, d_model: int) -> StateSpec:
    shape = ("batch", d_model)
    graph.input(name, np.float32, shape, "pooling state, zeros at the start")
    return StateSpec(name, f"next_{name}", "float32", shape)


def _two_sum(
    graph: GraphBuilder,
    sum_state: StateSpec,
    error_state: StateSpec,
    addend: str,
    value: list[str] | None = None,
) -> tuple[str, str]:
    """Add to a sum and its error; ``value`` stands for the two states where they were changed first."""
    old, old_error = value or [sum_state.input, error_state.input]
    total = graph.node("Add", [old, addend], "pool/sum", output=sum_state.output)
    added = graph.node("Sub", [total, old], "pool/two_sum/added")
    had = graph.node("Sub", [total, added], "pool/two_sum/had")
    lost_old = graph.node("Sub", [old, had], "pool/two_sum/lost_of_sum")
    lost_new = graph.node("Sub", [addend, added], "pool/two_sum/lost_of_addend")
    lost = graph.node(
        "Add", [lost_old, lost_new], "pool/two_sum/lost", doc="exactly what rounding the sum lost"
    )
    error = graph.node("Add", [old_error, lost], "pool/sum_error", output=error_state.output)
    return total, error
