"""The roofline: the shortest possible time of a step on this machine (Williams et al., CACM 52(4), 2009).

A step must read its weights and taps once, and must do its multiply-adds: four in int8 take the time of one
multiply-add in float32. Both rates are measured together with the candidates, on one thread, with the
instruction set that the engine chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from multires_edge.runtime.bench.timing import TimedCalls, Timing

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native

_MULTIPLY_ADDS = 960_000  # about 20 microseconds per call; every instruction set does exactly this number


class Roofline:
    """The roofline of one step of one stream of a network in the native engine."""

    def __init__(self, model: _native.Model) -> None:
        self.isa = model.isa
        self.cost = model.cost

    def timed_calls(self) -> dict[str, TimedCalls]:
        """The calls that :func:`time_in_turns` must measure for :meth:`to_json`."""
        from multires_edge.runtime.backends import _native

        size = self.read_bytes
        return {
            "read": lambda times: _native.time_reading(size, times)[0],
            "multiply-add": lambda times: _native.time_multiply_adds(_MULTIPLY_ADDS, times)[0],
        }

    @property
    def read_bytes(self) -> int:
        """Bytes of weights, filters and taps per step."""
        return self.cost["weight_bytes"] + self.cost["tap_bytes"]

    def to_json(self, timings: Mapping[str, Timing]) -> dict[str, Any]:
        """Rates and bounds. ``seconds`` is the larger bound; ``bound`` is "memory" or "compute"."""
        rate = _MULTIPLY_ADDS / timings["multiply-add"].p50
        # No instruction set multiplies more than four int8 values in the time of one float32.
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
