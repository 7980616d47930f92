"""Poolings in graphs. The means of a stream, of all steps so far or of the last N steps, do not drift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.rings import RingSet
from multires_edge.export.graphs.running import ExactSum, running_maximum
from multires_edge.format.pooling import Concatenation, Cumulative, Last, Max, Pooling, Window

PREFIX_RING = "pool_prefix"


@dataclass(frozen=True)
class PoolingGraphs:
    """A pooling's parts of the graphs, as functions whose first argument is the pooling.

    ``step`` pools the features (batch, d_model) of this step; it reads and writes the pooling's rings,
    declares its other states and computes their next values. ``full`` pools features (batch, d_model, time),
    over the first ``lengths`` (batch,) steps of each row if given.
    """

    step: Callable[[Any, GraphBuilder, RingSet, str, int], str]
    full: Callable[[Any, GraphBuilder, str, str | None], str]


def _cumulative_mean(_: Cumulative, graph: GraphBuilder, rings: RingSet, features: str, d_model: int) -> str:
    kept = _declare_sum(graph, "pool_sum", d_model)
    running = kept.plus(graph, features, "pool_sum", "pool")
    exact = graph.node("Add", [running.rounded, running.error], "pool/total")
    steps = graph.cast(rings.steps, np.float32, "pool/steps")
    column = graph.node("Unsqueeze", [steps, graph.integers("pool/column", [1])], "pool/count")
    return graph.node("Div", [exact, column], "pool", doc="mean of all steps so far")


def _window_mean(pooling: Window, graph: GraphBuilder, rings: RingSet, features: str, d_model: int) -> str:
    """Mean over the last ``pooling.steps``, from sums that are never older than two windows.

    Time is cut into blocks of this many steps. The states are a ring of the sums since the start of a block,
    and the total of the previous block. The window is the end of one block and the start of the next:

        sum = (total of the last block) - (its sum up to where the window starts) + (this block's sum)

    Steps older than two blocks do not contribute, so no error builds up. Each sum is two numbers, so the
    subtraction leaves no error either.
    """
    old_total = _declare_sum(graph, "pool_block", d_model)
    old_running = _declare_sum(graph, "pool_sum", d_model)
    length = graph.integers("pool/window", pooling.steps)
    column = graph.integers("pool/column", [1])
    within = graph.node("Mod", [rings.position, length], "pool/step_of_block")
    first = graph.node("Equal", [within, graph.integers("pool/zero", 0)], "pool/is_first", dtype=np.bool_)
    first = graph.node("Unsqueeze", [first, column], "pool/starts_block")
    # At the start of a block, the running sum becomes the total of the last block, and restarts.
    total = old_running.where(graph, first, old_total, "pool_block", is_state=True)
    nothing = graph.weight("pool/nothing", 0.0)
    begun = ExactSum(nothing, nothing).where(graph, first, old_running, "pool_sum", is_state=False)
    running = begun.plus(graph, features, "pool_sum", "pool")

    pair = graph.node("Concat", [running.rounded, running.error], "pool/pair", axis=1)
    axes = graph.integers("pool/row_axes", [1, 2])
    rings.write(PREFIX_RING, graph.node("Unsqueeze", [pair, axes], "pool/row"))
    old = graph.node("Squeeze", [rings.read([PREFIX_RING], "pool_taps"), axes], "pool/old_row")
    before = ExactSum(*graph.split(old, [d_model] * 2, 1, "pool/before_window", ["sum", "error"]))

    end = graph.node("Sub", [total.rounded, before.rounded], "pool/end_of_last_block")
    end_error = graph.node("Sub", [total.error, before.error], "pool/end_of_last_block_error")
    whole = graph.node("Add", [end, running.rounded], "pool/rounded")
    small = graph.node("Add", [end_error, running.error], "pool/rounding_error")
    exact = graph.node("Add", [whole, small], "pool/total")
    count = graph.node("Min", [rings.steps, length], "pool/steps")
    count = graph.cast(count, np.float32, "pool/steps_float")
    count = graph.node("Unsqueeze", [count, column], "pool/count")
    return graph.node("Div", [exact, count], "pool", doc=f"mean of the last {pooling.steps} steps")


def _declare_sum(graph: GraphBuilder, state: str, d_model: int) -> ExactSum:
    return ExactSum.declare(graph, state, ["batch", d_model], "pooling state, zeros at the start")


def _mean(_: Pooling, graph: GraphBuilder, x: str, lengths: str | None) -> str:
    # Twice: a float32 mean of n equal values, as of a loose electrode, is off by up to n roundings, and the
    # mean of the remainders corrects it.
    column = graph.integers("pool/column", [2])
    if lengths is None:
        rough = graph.mean(x, 2, "pool/rough", "mean over time")
        centre = graph.node("Unsqueeze", [rough, column], "pool/centre")
        rest = graph.node("Sub", [x, centre], "pool/rest")
        correction = graph.mean(rest, 2, "pool/correction", "what rounding took from the mean")
        return graph.node("Add", [rough, correction], "pool", doc="mean over time")
    within = _within(graph, x, lengths)
    counts = graph.node("Unsqueeze", [lengths, graph.integers("pool/row", [1])], "pool/counts")
    divisor = graph.cast(counts, np.float32, "pool/divisor")

    def mean_within(value: str, name: str) -> str:
        nothing = graph.weight("pool/nothing", 0.0)
        kept = graph.node("Where", [within, value, nothing], f"{name}/kept", dtype=np.float32)
        total = graph.node("ReduceSum", [kept, column], f"{name}/sum", keepdims=0)
        return graph.node("Div", [total, divisor], name)

    rough = mean_within(x, "pool/rough")
    centre = graph.node("Unsqueeze", [rough, column], "pool/centre")
    rest = graph.node("Sub", [x, centre], "pool/rest")
    correction = mean_within(rest, "pool/correction")
    doc = "mean over the first lengths[b] steps"
    return graph.node("Add", [rough, correction], "pool", doc=doc)


def _within(graph: GraphBuilder, x: str, lengths: str) -> str:
    """Which steps of each row count, bool (batch, 1, time)."""
    if graph.has("pool/within"):
        return "pool/within"
    shape = graph.node("Shape", [x], "pool/time", start=2, dtype=np.int64)
    scalar = graph.node("Squeeze", [shape, graph.integers("pool/first", [0])], "pool/steps")
    zero, one = graph.integers("pool/zero", 0), graph.integers("pool/one", 1)
    steps = graph.node("Range", [zero, scalar, one], "pool/step_numbers")
    axes = graph.integers("pool/axes", [1, 2])
    limits = graph.node("Unsqueeze", [lengths, axes], "pool/limits")
    return graph.node("Less", [steps, limits], "pool/within", doc="(batch, 1, time)", dtype=np.bool_)


def _running_max(pooling: Max, graph: GraphBuilder, rings: RingSet, features: str, d_model: int) -> str:
    """The maximum of all steps so far, or of a window, which is that of two shorter ones; see `Max`."""
    if pooling.steps is None:
        return running_maximum(graph, features, "pool_max", ["batch", d_model], rings.position, "pool/max")
    if not pooling.delays:
        return features
    largest = features
    axes, column = graph.integers("pool/row_axes", [1, 2]), graph.integers("pool/column", [1])
    taps = rings.read(pooling.rings, "pool_max_taps")
    rows = graph.split(taps, [1] * len(pooling.rings), 2, "pool/max/taps", pooling.rings)
    for ring, delay, row in zip(pooling.rings, pooling.delays, rows, strict=True):
        name = f"pool/max/{ring}"
        rings.write(ring, graph.node("Unsqueeze", [largest, axes], f"{name}/row"))
        old = graph.node("Squeeze", [row, axes], f"{name}/old_row")
        larger = graph.node("Max", [largest, old], f"{name}/larger")
        steps = graph.integers(f"{name}/delay", delay)
        early = graph.node("Less", [rings.position, steps], f"{name}/is_early", dtype=np.bool_)
        early = graph.node("Unsqueeze", [early, column], f"{name}/early")
        doc = f"{delay} steps ago there was nothing yet, or another window"
        largest = graph.node("Where", [early, largest, larger], name, dtype=np.float32, doc=doc)
    return largest


def _max(_: Max, graph: GraphBuilder, x: str, lengths: str | None) -> str:
    if lengths is not None:
        least = graph.weight("pool/least", -float(np.finfo(np.float32).max))
        x = graph.node("Where", [_within(graph, x, lengths), x, least], "pool/max/kept", dtype=np.float32)
    return graph.largest(x, 2, "pool/max", "largest value over time")


def _newest(_: Last, graph: GraphBuilder, rings: RingSet, features: str, d_model: int) -> str:
    return features


def _last(_: Last, graph: GraphBuilder, x: str, lengths: str | None) -> str:
    if lengths is None:
        end = graph.integers("pool/last/index", -1)
        return graph.node("Gather", [x, end], "pool/last", axis=2, doc="the last step")
    rows = graph.node("Transpose", [x], "pool/last/rows", perm=[0, 2, 1])
    index = graph.node("Sub", [lengths, graph.integers("pool/one", 1)], "pool/last/step")
    index = graph.node("Unsqueeze", [index, graph.integers("pool/row", [1])], "pool/last/index")
    return graph.node("GatherND", [rows, index], "pool/last", batch_dims=1, doc="step lengths[b] - 1")


def _each_step(
    pooling: Concatenation, graph: GraphBuilder, rings: RingSet, features: str, d_model: int
) -> str:
    parts = [POOLING_GRAPHS[type(part)].step(part, graph, rings, features, d_model) for part in pooling.parts]
    return graph.concat(parts, 1, "pool/parts")


def _each(pooling: Concatenation, graph: GraphBuilder, x: str, lengths: str | None) -> str:
    parts = [POOLING_GRAPHS[type(part)].full(part, graph, x, lengths) for part in pooling.parts]
    return graph.concat(parts, 1, "pool/parts")


POOLING_GRAPHS: dict[type[Pooling], PoolingGraphs] = {
    Cumulative: PoolingGraphs(_cumulative_mean, _mean),
    Window: PoolingGraphs(_window_mean, _mean),
    Max: PoolingGraphs(_running_max, _max),
    Last: PoolingGraphs(_newest, _last),
    Concatenation: PoolingGraphs(_each_step, _each),
}
