"""What the TensorRT backend asks of a device: memory, copies, two kernels, engines, and graphs of these.

Everything is queued on one stream and runs in the order in which it was asked for; only
:meth:`Device.synchronize` waits. Addresses are numbers, as TensorRT takes them. ``cuda.py`` is the real
thing; ``host.py`` stands in for it where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

# One read or write of a ring; the same in rings.cu. ``ring`` is the address of its first row.
RING_ACCESS: np.dtype[Any] = np.dtype([("ring", np.uint64), ("slots", np.int32), ("delay", np.int32)])


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of an engine; a dynamic dimension is -1."""

    dtype: str
    shape: tuple[int, ...]
    is_input: bool


class Context(Protocol):
    """An engine with every dimension known, to be run with one set of addresses."""

    def bind(self, tensor: str, address: int) -> None:
        """Say where an input or output lies."""

    def enqueue(self) -> None:
        """Run it once."""


class Engine(Protocol):
    """A network that is ready to run."""

    name: str

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All inputs and outputs by name."""

    @property
    def batches(self) -> tuple[int, int]:
        """The smallest and largest batch that it was built for."""

    def aliased_input(self, output: str) -> str | None:
        """The input that must share this output's memory, for it is updated in place; None for any other.

        To bind one address to any other pair is undefined.
        """

    def context(self, batch: int) -> Context:
        """A context for one batch. It has memory of its own for what lies between inputs and outputs."""


class Device(Protocol):
    """One stream of work on one device."""

    def activate(self) -> None:
        """Make the device that of the calling thread, before anything else is asked of it."""

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes, zeroed, which live as long as the device object."""

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A host array, zeroed, that copies need not stage."""

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy a dense array to the device; it must stay unchanged until synchronized."""

    def download(self, array: NDArray[Any], address: int) -> None:
        """Copy to a dense array, which has it once synchronized."""

    def copy(self, destination: int, source: int, size: int) -> None:
        """Copy bytes within the device."""

    def zero(self, address: int, size: int) -> None:
        """Zero bytes."""

    def gather_taps(self, move: RingMove) -> None:
        """Read each row of the batch: rows[b, i] = ring i's row of step position[b] - delay."""

    def push_rows(self, move: RingMove, next_position: int) -> None:
        """Write rows[b, i] into ring i, and position + 1 to ``next_position`` unless that is 0."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` asks for, without running it, as a graph; the result asks for all of it."""

    def synchronize(self) -> None:
        """Wait until all that was asked for is done. Raises BackendError for anything that failed."""

    def close(self) -> None:
        """Free everything, contexts and engines made for it included."""


@dataclass(frozen=True)
class RingMove:
    """Rows moved between rings and a dense buffer.

    ``accesses`` is the address of ``count`` RING_ACCESS, ``position`` of int64 (batch,), ``rows`` of
    (batch, count, row_bytes).
    """

    accesses: int
    count: int
    position: int
    rows: int
    batch: int
    row_bytes: int
