"""The native engine's banks of filters in Python's types."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.backends._native_library import (
    INT,
    POINTER,
    REFERENCE,
    SIZE,
    address_of,
    array_of,
    check,
    function,
)

_READ = ("rings", "terms", "weights", "bias", "factors", "row_bias")


class _Bank(ctypes.Structure):
    _fields_ = [
        *((name, SIZE) for name in ("outputs", "taps", "width", "sources")),
        *((name, POINTER) for name in _READ),
        *((f"n_{name}", SIZE) for name in _READ),
        ("sums", POINTER),
        ("source_values", POINTER),
    ]


_new = function("native_banks_new", INT, SIZE, REFERENCE)
_free = function("native_banks_free", None, POINTER)
_add = function("native_banks_add", INT, POINTER, ctypes.POINTER(_Bank))
_sum = function("native_banks_sum", None, POINTER)
_push = function("native_banks_push", None, POINTER)
_reset = function("native_banks_reset", None, POINTER, SIZE)
_position = function("native_banks_position", POINTER, POINTER)
_ring = function("native_banks_ring", POINTER, POINTER, SIZE, SIZE)


class Banks:
    """The rings of ``batch`` streams, and the filters that read them."""

    handle: ctypes.c_void_p | None = None

    def __init__(self, batch: int) -> None:
        handle = POINTER()
        check(_new(batch, ctypes.byref(handle)))
        self.handle, self._batch = handle, batch
        self._shapes: list[tuple[list[int], int]] = []  # the slots of each ring, and the width
        self._kept: list[NDArray[Any]] = []  # the memory of sums and sources

    def __del__(self, free: Any = _free) -> None:
        if self.handle is not None:
            free(self.handle)

    def add(
        self,
        rings: NDArray[np.int64],
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        terms: NDArray[np.int64],
        factors: NDArray[np.float32],
        row_bias: NDArray[np.float32],
        sums: NDArray[np.float32],
        sources: NDArray[np.float32],
    ) -> None:
        """Add a bank; see banks.h. The engine writes ``sums`` and reads ``sources``.

        Raises ValueError for a bank that contradicts itself, and TypeError.
        """
        given = {"rings": rings, "terms": terms, "weights": weights, "bias": bias}
        given |= {"factors": factors, "row_bias": row_bias, "sums": sums, "sources": sources}
        for name, array in given.items():
            dtype = np.dtype(np.int64 if name in ("rings", "terms") else np.float32)
            if not isinstance(array, np.ndarray) or array.dtype != dtype:
                raise TypeError(f"{name} is no array of {dtype}")
        if weights.ndim != 3 or rings.shape[1:] != (3,) or terms.shape[1:] != (3,):
            raise ValueError("a bank has arrays of another rank")
        outputs, taps, width = weights.shape
        of_source = self._batch * width
        if not of_source or sums.size != of_source * outputs or sources.size % of_source:
            raise ValueError("sums or sources have another size")
        read = {name: np.ascontiguousarray(given[name]) for name in _READ}
        counts = {f"n_{name}": len(a) if a.dtype == np.int64 else a.size for name, a in read.items()}
        bank = _Bank(outputs=outputs, taps=taps, width=width, sources=sources.size // of_source, **counts)
        for name, array in read.items():
            setattr(bank, name, address_of(array))
        bank.sums, bank.source_values = address_of(sums), address_of(sources)
        try:
            check(_add(self.handle, ctypes.byref(bank)))
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        self._kept += [sums, sources]
        self._shapes.append((rings[:, 0].tolist(), width))

    def sum(self) -> None:
        """Fill the sums of the next step."""
        _sum(self.handle)

    def push(self) -> None:
        """Write the rows of this step, and count it."""
        _push(self.handle)

    def reset(self, row: int) -> None:
        """Restart a row. Raises ValueError."""
        if not 0 <= row < self._batch:
            raise ValueError("no such row")
        _reset(self.handle, row)

    @property
    def position(self) -> NDArray[np.int64]:
        """The steps of each row (batch,)."""
        return array_of(self, _position(self.handle), np.int64, (self._batch,))

    def ring(self, bank: int, ring: int) -> NDArray[np.float32]:
        """A ring (batch, 1, slots, width) in the memory of the engine."""
        slots, width = self._shapes[bank]
        address = _ring(self.handle, bank, ring)
        return array_of(self, address, np.float32, (self._batch, 1, slots[ring], width))
