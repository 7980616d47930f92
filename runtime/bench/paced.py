"""Steps as a device does them: after a wait, with caches that other programs have used meanwhile.

A loop of steps keeps weights and queues in the nearest caches. These timings do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.bench.timing import TimedCalls
from multires_edge.runtime.stream import Stream

INTERVAL = 0.002  # seconds between samples: 500 Hz
# The names of the timings.
PACED = ("answer", "cold", "cold answer", "paced", "paced answer")
_OTHER_WORK = 96 << 20  # bytes; more than most caches
# Waiting and other work take much longer than the steps that are timed: so few calls make a turn.
_PACED_CALLS, _COLD_CALLS = 10, 2


def paced_steps(stream: Stream, sample: Any) -> dict[str, TimedCalls]:
    """The time from a sample to its outputs: after look-ahead (``answer``), and without.

    ``cold`` is after other work with much memory, ``paced`` after a wait.
    """

    def wait() -> None:
        time.sleep(INTERVAL)

    def nothing() -> None:
        pass

    return {
        "answer": _steps(stream, sample, stream.prepare, nothing),
        "cold": _at_most(_COLD_CALLS, _steps(stream, sample, use_caches, nothing)),
        "cold answer": _at_most(_COLD_CALLS, _steps(stream, sample, use_caches, stream.prepare)),
        "paced": _at_most(_PACED_CALLS, _steps(stream, sample, wait, nothing)),
        "paced answer": _at_most(_PACED_CALLS, _steps(stream, sample, stream.prepare, wait)),
    }


def use_caches() -> None:
    """Do other work with much memory."""
    other = _other_memory()
    np.add(other, 1, out=other)


@cache
def _other_memory() -> NDArray[np.uint8]:
    return np.zeros(_OTHER_WORK, np.uint8)


def _steps(stream: Stream, sample: Any, *before: Callable[[], None]) -> TimedCalls:
    """Steps of which only ``stream.step`` is timed."""

    def timed(times: int) -> Any:
        clock, seconds = time.perf_counter, np.empty(times)
        for i in range(times):
            for call in before:
                call()
            started = clock()
            stream.step(sample)
            seconds[i] = clock() - started
        stream.commit()
        return seconds

    return timed


def _at_most(most: int, timed: TimedCalls) -> TimedCalls:
    return lambda times: timed(min(times, most))
