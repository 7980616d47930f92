"""Streams whose states stay on the device; a step of all of them, or a whole chunk, is one kernel launch."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from multires_edge.format.arrays import holds_good_values
from multires_edge.runtime.backends.cuda.network import Network
from multires_edge.runtime.backends.cuda.plan import Plan
from multires_edge.runtime.backends.protocol import Outcome, Stepper

_CHUNK_BYTES = 1 << 22  # of inputs and outputs in one launch of `run`
_CHUNK_STEPS = 1024  # a launch must not keep a GPU from its display
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
# The states of step.cu, without its rings, in its order.
_STATES = (
    "position", "encoder_queue", "pool_sum", "pool_sum_error", "pool_block", "pool_block_error",
    "pool_prefix", "pool_max",
)  # fmt: skip


class KernelDevice(Protocol):
    """What the stepper needs of a device, as ``CudaDevice`` has it."""

    def activate(self) -> None: ...
    def allocate(self, size: int) -> int: ...
    def mapped(self, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[NDArray[Any], int]: ...
    def upload(self, address: int, array: NDArray[Any]) -> None: ...
    def download(self, array: NDArray[Any], address: int) -> None: ...
    def zero(self, address: int, size: int) -> None: ...
    def launcher(
        self, function: int, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> Callable[[], None]: ...
    def synchronize(self) -> None: ...
    def close(self) -> None: ...


class CudaStepper(Stepper):
    """``batch`` streams of a network, by the kernel ``function`` of a plan. It owns the device.

    Raises BackendError if the device reports an error.
    """

    def __init__(self, device: KernelDevice, function: int, network: Network, plan: Plan, batch: int) -> None:
        self._device, self._function, self._plan, self._batch = device, function, plan, batch
        self._n_tokens = network.tokens or None
        self._free = weakref.finalize(self, device.close)
        device.activate()
        self._shapes = network.state_shapes(batch)
        self._states = {name: device.allocate(self._size(name)) for name in self._shapes}
        self._blocks = -(-batch // plan.rows)
        weights = np.frombuffer(plan.weights, np.uint8)
        self._weights = device.allocate(weights.nbytes)
        device.upload(self._weights, weights)
        self._scratch = device.allocate(self._blocks * plan.scratch) if plan.scratch else 0
        device.synchronize()
        sample: tuple[int, ...] = (batch,) if network.tokens else (batch, network.channels)
        self._dtype = np.dtype(np.int64 if network.tokens else np.float32)
        # Host memory that the kernel reads and writes itself: a step needs no copies.
        self.input, samples = device.mapped(sample, self._dtype)
        self.output, outputs = device.mapped((batch, network.outputs), np.float32)
        self._launch = self._launcher(samples, outputs, 1)
        self._chunk: tuple[NDArray[Any], int, NDArray[Any], int] | None = None

    def _size(self, name: str) -> int:
        dtype, shape = self._shapes[name]
        return int(np.prod(shape)) * np.dtype(dtype).itemsize

    def _launcher(self, samples: int, outputs: int, steps: int) -> Callable[[], None]:
        rings = [address for name, address in sorted(self._states.items()) if name.startswith("queue_")]
        states = (_POINTER * (len(_STATES) + len(rings)))(*map(self._states.get, _STATES), *rings)
        arguments = [
            *(_POINTER(self._weights), states, _POINTER(samples), _POINTER(outputs), _POINTER(self._scratch)),
            *(_INT(self._batch), _INT(steps)),
        ]
        grid, block = (self._blocks, 1, 1), (self._plan.threads, 1, 1)
        return self._device.launcher(self._function, grid, block, arguments)

    def step(self) -> int:
        if not holds_good_values(self.input, self._n_tokens):
            return Outcome.BAD_INPUT
        self._device.activate()
        self._launch()
        self._device.synchronize()
        return Outcome.DONE if holds_good_values(self.output) else Outcome.BAD_OUTPUT

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        self._device.activate()
        if self._chunk is None:
            each = self.input.nbytes + self.output.nbytes
            steps = min(max(_CHUNK_BYTES // each, 1), _CHUNK_STEPS)
            self._chunk = (
                *self._device.mapped((steps, *self.input.shape), self._dtype),
                *self._device.mapped((steps, *self.output.shape), np.float32),
            )
        inputs, samples_at, outputs, outputs_at = self._chunk
        results = np.empty((len(samples), *self.output.shape), np.float32)
        for start in range(0, len(samples), len(inputs)):
            steps = min(len(inputs), len(samples) - start)
            inputs[:steps] = samples[start : start + steps]
            self._launcher(samples_at, outputs_at, steps)()
            self._device.synchronize()
            results[start : start + steps] = outputs[:steps]
        return results

    def reset(self, rows: Sequence[int] | None) -> None:
        self._device.activate()
        for name, address in self._states.items():
            if rows is None:
                self._device.zero(address, self._size(name))
            for row in rows or ():
                self._device.zero(self._row(name, row), self._size(name) // self._batch)
        self._device.synchronize()

    def read_state(self, rows: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        self._device.activate()
        arrays: dict[str, NDArray[Any]] = {}
        for name, (dtype, shape) in self._shapes.items():
            if rows is None:
                arrays[name] = np.empty(shape, dtype)
                self._device.download(arrays[name], self._states[name])
                continue
            arrays[name] = np.empty((len(rows), *shape[1:]), dtype)
            for i, row in enumerate(rows):
                self._device.download(arrays[name][i : i + 1], self._row(name, row))
        self._device.synchronize()
        return arrays

    def write_state(self, arrays: dict[str, NDArray[Any]], rows: Sequence[int] | None = None) -> None:
        self._device.activate()
        dense = {name: np.ascontiguousarray(arrays[name]) for name in self._states}
        for name, address in self._states.items():
            if rows is None:
                self._device.upload(address, dense[name])
            for i, row in enumerate(rows or ()):
                self._device.upload(self._row(name, row), dense[name][i : i + 1])
        self._device.synchronize()

    def _row(self, name: str, row: int) -> int:
        """The address of a row of a state."""
        return self._states[name] + row * (self._size(name) // self._batch)
