"""Streams whose states stay on the device; a step of all of them, or a whole chunk, is one kernel launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.device.driver import with_advice
from multires_edge.runtime.backends.native import load_engine
from multires_edge.runtime.backends.protocol import Stepper

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native

_ALL = -1  # rows


class CudaStepper(Stepper):
    """``batch`` streams of a network, by the kernel ``code`` of a plan, on the first device.

    ``driver`` is the driver's library, "" for that of this machine. Raises BackendError if the device reports
    an error.
    """

    def __init__(
        self, model: _native.Model, plan: _native.CudaPlan, code: bytes, batch: int, driver: str = ""
    ) -> None:
        with driver_errors():
            self._streams = load_engine().CudaStreams(model, plan, code, batch, driver)
        self._shapes: dict[str, tuple[str, tuple[int, ...]]] = self._streams.shapes
        # Host memory that the kernel reads and writes itself: a step needs no copies.
        self.input, self.output = self._streams.input, self._streams.output

    def step(self) -> int:
        with driver_errors():
            outcome: int = self._streams.step()
        return outcome

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        outputs = np.empty((len(samples), *self.output.shape), np.float32)
        with driver_errors():
            self._streams.run(np.ascontiguousarray(samples, self.input.dtype), outputs)
        return outputs

    def reset(self, rows: Sequence[int] | None) -> None:
        with driver_errors():
            for row in [_ALL] if rows is None else rows:
                self._streams.reset(row)

    def read_state(self, rows: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        arrays = {}
        for name, (dtype, shape) in self._shapes.items():
            arrays[name] = np.empty((shape[0] if rows is None else len(rows), *shape[1:]), dtype)
            self._copy(self._streams.read, name, arrays[name], rows)
        return arrays

    def write_state(self, arrays: dict[str, NDArray[Any]], rows: Sequence[int] | None = None) -> None:
        for name, (dtype, _) in self._shapes.items():
            self._copy(self._streams.write, name, np.ascontiguousarray(arrays[name], dtype), rows)

    def _copy(
        self, copy: Callable[..., None], name: str, array: NDArray[Any], rows: Sequence[int] | None
    ) -> None:
        """Copy a state of ``rows``, or of all rows, to or from ``array`` (rows, ...)."""
        with driver_errors():
            if rows is None:
                copy(name, _ALL, array.reshape(-1).view(np.uint8))
            for i, row in enumerate(rows or ()):
                copy(name, row, array[i : i + 1].reshape(-1).view(np.uint8))


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise BackendError, with advice, for an error of the driver or of the compiler of the kernel."""
    try:
        yield
    except BackendError:
        raise
    except RuntimeError as error:
        if isinstance(error, load_engine().DriverError):
            message, status = error.args
            raise BackendError(with_advice(message, status)) from error
        raise BackendError(str(error)) from error
