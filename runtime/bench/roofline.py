"""The least time that one step can take on this machine (after Williams et al., CACM 52(4), 2009).

A step has to read its weights and taps once, and has to do its multiply-adds, four of int8 in the time of one
in float32. Both rates are measured, on
one thread, with the instruction set that the engine chose, beside everything else that is timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multires_edge.runtime.bench.timing import TimedCalls, Timing

_MULTIPLY_ADDS = 960_000  # a call of some 20 microseconds; all instruction sets do exactly as many


class Roofline:
    """Of one step of one stream, by a native weights file. Raises BackendError or BundleError."""

    def __init__(self, weights: Path) -> None:
        from multires_edge.runtime.backends.native import load_model

        model = load_model(weights)
        self.isa = model.isa
        self.cost = model.cost

    def timed_calls(self) -> dict[str, TimedCalls]:
        """What :func:`time_in_turns` is to measure for :meth:`to_json`."""
        from multires_edge.runtime.backends import _native

        size = self.read_bytes
        return {
            "read": lambda times: _native.time_reading(size, times)[0],
            "multiply-add": lambda times: _native.time_multiply_adds(_MULTIPLY_ADDS, times)[0],
        }

    @property
    def read_bytes(self) -> int:
        """Bytes of weights, filters and taps that a step reads."""
        return self.cost["weight_bytes"] + self.cost["tap_bytes"]

    def to_json(self, timings: Mapping[str, Timing]) -> dict[str, Any]:
        """Rates and bounds; ``seconds`` is the larger bound, and ``bound`` says which one it is."""
        rate = _MULTIPLY_ADDS / timings["multiply-add"].p50
        # No instruction set multiplies more than four bytes where it multiplies a float.
        work = self.cost["multiply_adds"] + self.cost["int8_multiply_adds"] / 4
        read, compute = timings["read"].p50, work / rate
        return {
            "isa": self.isa,
            **self.cost,
            "bytes_per_second": self.read_bytes / read,
            "multiply_adds_per_second": rate,
            "read_seconds": read,
            "compute_seconds": compute,
            "seconds": max(read, compute),
            "bound": "memory" if read >= compute else "compute",
        }
