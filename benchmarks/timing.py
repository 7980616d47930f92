"""Timing several things in turns, so that a busy machine disturbs all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, and the 99th percentile."""

    p50: float
    p99: float

    def __str__(self) -> str:
        return f"{self.p50 * 1e6:9.1f} {self.p99 * 1e6:9.1f}"


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int = 20, repeats: int = 50, warm_up: int = 20
) -> dict[str, Timing]:
    """Call each ``repeats`` times a round, one after the other, for ``rounds`` rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            for i in range(warm_up + repeats):
                started = time.perf_counter()
                call()
                if i >= warm_up:
                    seconds[name].append(time.perf_counter() - started)
    return {
        name: Timing(float(np.median(times)), float(np.percentile(times, 99)))
        for name, times in seconds.items()
    }
