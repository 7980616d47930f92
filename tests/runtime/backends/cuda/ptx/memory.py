"""The state spaces of PTX."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.runtime.backends.cuda.ptx.text import PtxError


class Memory:
    """One state space. There are bytes of nobody between allocations. A block may have a copy of its own."""

    def __init__(self, base: int, capacity: int, copies: int = 1) -> None:
        self._base, self._capacity, self._free = base, capacity, 0
        # What nobody wrote is NaN.
        self._bytes = np.full(copies * capacity, 255, np.uint8)
        self._allocated = np.zeros(capacity, bool)

    def allocate(self, size: int, align: int = 256) -> int:
        """The address of ``size`` bytes."""
        start = -(-self._free // align) * align
        self._free = start + size + 16
        if self._free > self._capacity:
            raise PtxError(f"{self._capacity} bytes of memory are not enough")
        self._allocated[start : start + size] = True
        return self._base + start

    def view(self, address: int, size: int) -> NDArray[np.uint8]:
        """The bytes at an address. Raises PtxError if not all of them are allocated."""
        start = address - self._base
        if start < 0 or not self._allocated[start : start + size].all() or start + size > self._capacity:
            raise PtxError(f"{size} bytes at {address:#x} are not allocated")
        return self._bytes[start : start + size]

    def upload(self, values: NDArray[Any]) -> int:
        """The address of a copy of an array."""
        address = self.allocate(values.nbytes)
        self.view(address, values.nbytes)[...] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        return address

    def cells(self, addresses: NDArray[Any], dtype: np.dtype[Any], count: int, copy: NDArray[Any]) -> Any:
        """All memory as a dtype, and where it has the first of ``count`` values at each address."""
        size = dtype.itemsize * count
        start = addresses.astype(np.int64) - self._base
        if (start % size).any():
            raise PtxError(f"an address that is not a multiple of {size}")
        if (start < 0).any() or (start > self._capacity - size).any():
            raise PtxError("an address outside of all memory")
        if not (self._allocated[start].all() and self._allocated[start + size - 1].all()):
            raise PtxError("an address outside of all allocations")
        return self._bytes.view(dtype), (start + copy * self._capacity) // dtype.itemsize
