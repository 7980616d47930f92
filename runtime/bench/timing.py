"""Time several functions in turns, so that a busy machine disturbs all of them equally."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Makes a number of calls, and returns the seconds of each call, float64 (times,).
TimedCalls = Callable[[int], NDArray[np.float64]]

_MOST_CALLS = 10_000  # per turn, for calls of a few nanoseconds


@dataclass(frozen=True)
class Budget:
    """How long to measure: each candidate has ``rounds`` turns of about ``seconds`` or of one call."""

    rounds: int = 20
    seconds: float = 0.03


FULL_BUDGET = Budget()
QUICK_BUDGET = Budget(rounds=3, seconds=0.002)


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, 99th percentile and maximum of ``calls``."""

    p50: float
    p99: float
    max: float
    calls: int

    @classmethod
    def of(cls, seconds: NDArray[np.float64]) -> Timing:
        p50, p99 = np.percentile(seconds, [50, 99])
        return cls(float(p50), float(p99), float(seconds.max()), len(seconds))


def calls(function: Callable[..., object], *arguments: Any) -> TimedCalls:
    """Calls of a Python function. The times include reading the clock, about 50 ns."""

    def timed(times: int) -> NDArray[np.float64]:
        clock = time.perf_counter
        seconds = np.empty(times)
        for i in range(times):
            started = clock()
            function(*arguments)
            seconds[i] = clock() - started
        return seconds

    return timed


def time_in_turns(
    candidates: Mapping[str, TimedCalls],
    budget: Budget = FULL_BUDGET,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Timing]:
    """Time all candidates in turns, for ``budget.rounds`` rounds. A tenth of each turn warms up."""
    turns = {name: _calls_in_a_turn(timed, budget.seconds) for name, timed in candidates.items()}
    seconds: dict[str, list[NDArray[np.float64]]] = {name: [] for name in candidates}
    for turn in range(budget.rounds):
        progress(f"measuring, round {turn + 1} of {budget.rounds}")
        for name, timed in candidates.items():
            if turns[name] >= 10:
                timed(turns[name] // 10)
            seconds[name].append(timed(turns[name]))
    return {name: Timing.of(np.concatenate(parts)) for name, parts in seconds.items()}


def _calls_in_a_turn(timed: TimedCalls, seconds: float) -> int:
    timed(1)  # the first call may initialize
    once = max(float(timed(1)[0]), seconds / _MOST_CALLS)
    return max(1, int(seconds / once))
