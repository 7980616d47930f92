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
from multires_edge.runtime.backends.device.states import DeviceStepper, Placed, StateDevice
from multires_edge.runtime.backends.protocol import Outcome

_CHUNK_BYTES = 1 << 22  # of inputs and outputs in one launch of `run`
_CHUNK_STEPS = 1024  # a launch must not keep a GPU from its display
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
# The states of step.cu, without its rings, in its order.
_STATES = (
    "position", "encoder_queue", "pool_sum", "pool_sum_error", "pool_block", "pool_block_error",
    "pool_prefix", "pool_max",
)  # fmt: skip


class KernelDevice(StateDevice, Protocol):
    """What the stepper needs of a device, as ``CudaDevice`` has it."""

    def allocate(self, size: int) -> int: ...
    def mapped(self, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[NDArray[Any], int]: ...
    def launcher(
        self, function: int, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> Callable[[], None]: ...
    def close(self) -> None: ...


class CudaStepper(DeviceStepper[KernelDevice]):
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

    def _placed(self) -> dict[str, Placed]:
        return {
            name: Placed(self._states[name], dtype, shape[1:])
            for name, (dtype, shape) in self._shapes.items()
        }
