"""The states of streams on a device: restarted, saved and loaded, all of them or some rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from multires_edge.runtime.backends.protocol import Stepper


class Placed(NamedTuple):
    """A state (rows, *shape) on a device."""

    address: int
    dtype: DTypeLike
    shape: tuple[int, ...]  # of a row

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class Exchanged(NamedTuple):
    """A host array and its memory on the device: the same memory, unless they must be ``copied``."""

    array: NDArray[Any]
    address: int
    copied: bool


class StateDevice(Protocol):
    """What the states need of a device, as ``CudaDevice`` has it. Only :meth:`synchronize` waits."""

    def activate(self) -> None:
        """Make this the device of the calling thread. Must come before every other call."""

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy a dense array to the device. It must not change until ``synchronize`` returns."""

    def download(self, array: NDArray[Any], address: int) -> None:
        """Copy from the device to a dense array. It is complete when ``synchronize`` returns."""

    def zero(self, address: int, size: int) -> None:
        """Set bytes to zero."""

    def synchronize(self) -> None:
        """Wait until all queued work is done. Raises BackendError if any of it failed."""


class DeviceStepper(Stepper):
    """The part of a stepper that moves its states. A subclass says where they are."""

    _device: StateDevice
    _batch: int

    def _placed(self) -> Mapping[str, Placed]:
        """The states before the next step, by name."""
        raise NotImplementedError

    def reset(self, rows: Sequence[int] | None) -> None:
        self._device.activate()
        for state in self._placed().values():
            for first, count in self._parts(rows):
                self._device.zero(state.address + first * state.row_bytes, count * state.row_bytes)
        self._device.synchronize()

    def read_state(self, rows: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        self._device.activate()
        count = self._batch if rows is None else len(rows)
        placed = self._placed()
        arrays = {name: np.empty((count, *state.shape), state.dtype) for name, state in placed.items()}
        for name, state in placed.items():
            for address, part in self._rows(state, arrays[name], rows):
                self._device.download(part, address)
        self._device.synchronize()
        return arrays

    def write_state(self, arrays: dict[str, NDArray[Any]], rows: Sequence[int] | None = None) -> None:
        self._device.activate()
        placed = self._placed()
        dense = {name: np.ascontiguousarray(arrays[name]) for name in placed}
        for name, state in placed.items():
            for address, part in self._rows(state, dense[name], rows):
                self._device.upload(address, part)
        self._device.synchronize()

    def _parts(self, rows: Sequence[int] | None) -> list[tuple[int, int]]:
        """The first row and the number of rows that lie together on the device."""
        return [(0, self._batch)] if rows is None else [(row, 1) for row in rows]

    def _rows(
        self, state: Placed, array: NDArray[Any], rows: Sequence[int] | None
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """The parts of an array that lie together on the device, with their addresses."""
        taken = 0
        for first, count in self._parts(rows):
            yield state.address + first * state.row_bytes, array[taken : taken + count]
            taken += count
