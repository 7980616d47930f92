"""The interface of a device for the TensorRT backend: memory, copies, two kernels, engines, and CUDA graphs.

All work is queued on one stream and runs in the order of the calls. Only :meth:`Device.synchronize` waits.
Addresses are integers, as in TensorRT. ``RingDevice`` implements the interface, and
``HostDevice`` does without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from multires_edge.runtime.backends.device.states import Exchanged, StateDevice
from multires_edge.runtime.backends.interface import TensorInfo

# One read or write of a ring, as in rings.cu. ``ring`` is the address of its first row.
RING_ACCESS: np.dtype[Any] = np.dtype([("ring", np.uint64), ("slots", np.int32), ("delay", np.int32)])


class Context(Protocol):
    """An engine with one set of shapes and addresses, and with its own memory for intermediate values."""

    def bind(self, tensor: str, address: int, shape: tuple[int, ...]) -> None:
        """Set the address and the shape of an input or output."""

    def enqueue(self) -> None:
        """Queue one run."""


class Engine(Protocol):
    """A network that is ready to run."""

    name: str

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All inputs and outputs by name."""

    def aliased_input(self, output: str) -> str | None:
        """The input that must share this output's memory, or None. The engine updates it in place.

        Results are undefined if any other input and output share memory.
        """

    def context(self) -> Context:
        """A new context; all inputs and outputs must be bound before it runs."""


class Device(StateDevice, Protocol):
    """One stream of work on one device."""

    def allocate(self, size: int) -> int:
        """Allocate ``size`` zeroed bytes until ``close``. Returns their address."""

    def exchanged(self, shape: tuple[int, ...], dtype: DTypeLike) -> Exchanged:
        """Allocate a zeroed host array for inputs or outputs, until ``close``.

        Host and device use the same memory where they share it. Else the device copies the array without
        staging.
        """

    def copy(self, destination: int, source: int, size: int) -> None:
        """Copy bytes within the device."""

    def gather_taps(self, move: RingMove) -> None:
        """For each b of the batch, set rows[b, i] to the row of step position[b] - delay in ring i."""

    def push_rows(self, move: RingMove, next_position: int) -> None:
        """Write rows[b, i] into ring i. Write position + 1 to ``next_position``, unless that is 0."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` queues as a graph, without running it. Returns a function that queues it."""

    def close(self) -> None:
        """Free everything, including contexts and engines made for this device."""


@dataclass(frozen=True)
class RingMove:
    """A copy of rows between rings and a dense buffer.

    Addresses: ``accesses`` of ``count`` RING_ACCESS, ``position`` of int64 (batch,), ``rows`` of
    (batch, count, row_bytes).
    """

    accesses: int
    count: int
    position: int
    rows: int
    batch: int
    row_bytes: int
