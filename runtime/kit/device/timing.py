"""Latency, from a numpy array to a numpy array."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .kit import Graph, Kit
from .report import Timing
from .runners import Backend

# A measurement stops after _SECONDS, but not before _FEWEST steps: fewer say too little about p99.
_SECONDS = 10.0
_FEWEST = 20


def time_calls(function: Callable[[Any], Any], argument: Any, most: int, warm_up: int) -> dict[str, Any]:
    """Latency of at most ``most`` calls after ``warm_up`` calls, in microseconds."""
    started = time.perf_counter()
    for _ in range(warm_up):
        function(argument)
    seconds: list[float] = []
    while len(seconds) < most and (len(seconds) < _FEWEST or time.perf_counter() - started < _SECONDS):
        before = time.perf_counter()
        function(argument)
        seconds.append(time.perf_counter() - before)
    microseconds = np.array(seconds) * 1e6
    p50, p99 = np.percentile(microseconds, [50, 99])
    figures = {"p50_us": p50, "p99_us": p99, "max_us": microseconds.max(), "mean_us": microseconds.mean()}
    return {"calls": len(seconds), **{name: round(float(value), 2) for name, value in figures.items()}}


def time_precision(
    kit: Kit, backend: Backend, precision: str, streams: Sequence[int], steps: int
) -> Iterator[Timing]:
    """Time one step for each number of streams, and the full graph on one recorded stream."""
    graph = Graph(kit, "step", precision)
    for batch in streams:
        x = np.ascontiguousarray(kit.inputs[np.arange(batch) % graph.rows][..., 0])
        with contextlib.closing(backend.step_runner(graph, batch)) as runner:
            for how in ("enqueued", "CUDA graph"):
                if how == "enqueued" or runner.capture():
                    figures = time_calls(runner.step, x, steps, min(steps, 50))
                    yield Timing("step", precision, batch, how, **figures)
    full = Graph(kit, "full", precision)
    x = np.ascontiguousarray(kit.inputs[:1, ..., : full.steps])
    feeds = {full.input.name: x}
    if len(full.inputs) > 1:
        feeds["lengths"] = np.full(1, full.steps, np.int64)
    figures = time_calls(backend.full_runner(full).run, feeds, _FEWEST, 1)
    yield Timing("full", precision, 1, "enqueued", **figures, time_steps=full.steps)
