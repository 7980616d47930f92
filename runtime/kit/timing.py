"""Latency, from a numpy array to a numpy array."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from multires_edge.runtime.kit.opened import Kit
from multires_edge.runtime.kit.report import Timing

# A measurement stops after _SECONDS, but not before _FEWEST steps: fewer say too little about p99.
_SECONDS = 10.0
_FEWEST = 20


def time_calls(
    function: Callable[[Any], Any], argument: Any, most: int, warm_up: int, period: float = 0.0
) -> dict[str, Any]:
    """Latency of at most ``most`` calls after ``warm_up`` calls, in microseconds.

    Calls begin ``period`` seconds after each other, or as soon as possible.
    """
    for _ in range(warm_up):
        function(argument)
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < most and (len(seconds) < _FEWEST or time.perf_counter() - started < _SECONDS):
        time.sleep(max(0.0, started + period * len(seconds) - time.perf_counter()) if period else 0.0)
        before = time.perf_counter()
        function(argument)
        seconds.append(time.perf_counter() - before)
    microseconds = np.array(seconds) * 1e6
    p50, p99 = np.percentile(microseconds, [50, 99])
    figures = {"p50_us": p50, "p99_us": p99, "max_us": microseconds.max(), "mean_us": microseconds.mean()}
    return {"calls": len(seconds), **{name: round(float(value), 2) for name, value in figures.items()}}


def time_precision(
    kit: Kit, way: dict[str, Any], precision: str, streams: Sequence[int], steps: int
) -> Iterator[Timing]:
    """Time one step for each number of streams, and the full graph on one recorded stream.

    Steps follow each other at once, and at the network's sampling rate: between steps a device may lower its
    clocks.
    """
    inputs, card = kit.golden.inputs, kit.bundle.preprocessing
    rates = [0.0] if card is None else [0.0, card.sampling_rate]
    for batch in streams:
        x = np.ascontiguousarray(inputs[np.arange(batch) % len(inputs)][..., 0])
        stream = kit.bundle.stream(batch, precision=precision, **way)
        for rate in rates:
            figures = time_calls(stream.step, x, steps, min(steps, 50), 1 / rate if rate else 0.0)
            how = f"at {rate:g} Hz" if rate else "without a pause"
            yield Timing("step", precision, batch, how, **figures)
    length = kit.description.longest(precision)
    full = kit.bundle.full(precision=precision, **way)
    figures = time_calls(full, np.ascontiguousarray(inputs[:1, ..., :length]), _FEWEST, 1)
    yield Timing("full", precision, 1, "without a pause", **figures, time_steps=length)
