"""The host in place of a device: ring kernels in numpy, the engine's source graph in ONNX Runtime.

It runs all of the backend except the device itself, for comparison. Like a slow device, it starts all work
at ``synchronize``. It refuses every access outside of an allocation.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from multires_edge.base.errors import BackendError
from multires_edge.format.manifest import Manifest
from multires_edge.format.specs import GraphSpec
from multires_edge.runtime.backends.device.states import Exchanged
from multires_edge.runtime.backends.interface import TensorInfo, expected_tensors
from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeBackend, in_runnable_form, open_session
from multires_edge.runtime.backends.protocol import RunOptions
from multires_edge.runtime.backends.tensorrt.device import RING_ACCESS, RingMove
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper


class HostDevice:
    """Queues work in a list."""

    def __init__(self) -> None:
        self._memory: dict[int, NDArray[np.uint8]] = {}
        self._starts: list[int] = []
        self._queue: list[Callable[[], None]] = []
        self._capturing = False

    def view(self, address: int, size: int) -> NDArray[np.uint8]:
        """The bytes at an address. Raises BackendError unless a single allocation has all of them."""
        i = bisect.bisect_right(self._starts, address) - 1
        if i >= 0:
            memory, first = self._memory[self._starts[i]], address - self._starts[i]
            if first + size <= memory.nbytes:
                return memory[first : first + size]
        raise BackendError(f"{size} bytes at {address:#x} are not within a single allocation")

    def queue(self, work: Callable[[], None]) -> None:
        """Queue some work."""
        self._queue.append(work)

    def activate(self) -> None:
        pass

    def allocate(self, size: int) -> int:
        memory = np.zeros(max(size, 1), np.uint8)
        address = int(memory.ctypes.data)
        self._memory[address] = memory
        bisect.insort(self._starts, address)
        return address

    def exchanged(self, shape: tuple[int, ...], dtype: DTypeLike) -> Exchanged:
        array = np.zeros(shape, dtype)
        return Exchanged(array, self.allocate(array.nbytes), copied=True)

    def upload(self, address: int, array: NDArray[Any]) -> None:
        target = self.view(address, array.nbytes)
        self.queue(lambda: np.copyto(target, array.reshape(-1).view(np.uint8)))

    def download(self, array: NDArray[Any], address: int) -> None:
        source = self.view(address, array.nbytes)
        self.queue(lambda: np.copyto(array.reshape(-1).view(np.uint8), source))

    def copy(self, destination: int, source: int, size: int) -> None:
        target, data = self.view(destination, size), self.view(source, size)
        self.queue(lambda: np.copyto(target, data))

    def zero(self, address: int, size: int) -> None:
        self.queue(lambda: self.view(address, size).fill(0))

    def gather_taps(self, move: RingMove) -> None:
        rings, position, rows = self._views(move)

        def gather() -> None:
            batch = np.arange(move.batch)
            for i, (ring, slots, delay) in enumerate(rings):
                rows[:, i] = ring[batch, (position - delay) % slots]

        self.queue(gather)

    def push_rows(self, move: RingMove, next_position: int) -> None:
        rings, position, rows = self._views(move)
        counted = self.view(next_position, position.nbytes).view(np.int64) if next_position else None

        def push() -> None:
            batch = np.arange(move.batch)
            for i, (ring, slots, delay) in enumerate(rings):
                ring[batch, (position - delay) % slots] = rows[:, i]
            if counted is not None:
                counted[...] = position + 1

        self.queue(push)

    def _views(self, move: RingMove) -> tuple[list[Any], NDArray[np.int64], NDArray[np.uint8]]:
        """Each ring (batch, slots, row_bytes) with its slots and delay; positions; rows."""
        table = self.view(move.accesses, move.count * RING_ACCESS.itemsize).view(RING_ACCESS)
        rings = []
        for ring, slots, delay in table.tolist():
            memory = self.view(ring, move.batch * slots * move.row_bytes)
            rings.append((memory.reshape(move.batch, slots, move.row_bytes), slots, delay))
        position = self.view(move.position, 8 * move.batch).view(np.int64)
        rows = self.view(move.rows, move.batch * move.count * move.row_bytes)
        return rings, position, rows.reshape(move.batch, move.count, move.row_bytes)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        before, self._queue = self._queue, []
        self._capturing = True
        try:
            work()
        finally:
            recorded, self._queue = self._queue, before
            self._capturing = False
        return lambda: self._queue.extend(recorded)

    def synchronize(self) -> None:
        if self._capturing:
            raise BackendError("a graph cannot synchronize")
        queue, self._queue = self._queue, []
        for work in queue:
            work()

    def close(self) -> None:
        self._memory.clear()
        self._starts.clear()
        self._queue.clear()


class HostEngine:
    """A bundle's step or taps graph in ONNX Runtime, on a :class:`HostDevice`.

    With ``in_place``, like an engine with cache-update layers, it requires the same address for both sides
    of a state that can be updated in place. All other inputs and outputs must not share memory.
    """

    def __init__(self, device: HostDevice, folder: Path, spec: GraphSpec, *, in_place: bool) -> None:
        self.name = spec.file
        self.tensors = expected_tensors(spec)
        self._aliases = {state.output: state.input for state in spec.states if in_place and state.in_place}
        self._device = device
        self._session = open_session(folder, spec, 1, "cpu")

    def aliased_input(self, output: str) -> str | None:
        return self._aliases.get(output)

    def context(self) -> HostContext:
        return HostContext(self._device, self._session, self.tensors, self._aliases)


class HostContext:
    """One run of a session at a time. ``aliases`` has the input of each output that must share its memory."""

    def __init__(
        self,
        device: HostDevice,
        session: Any,
        tensors: Mapping[str, TensorInfo],
        aliases: Mapping[str, str],
    ) -> None:
        self._device, self._session = device, session
        self._tensors, self._aliases = tensors, aliases
        self._bound: dict[str, NDArray[Any]] = {}

    def bind(self, tensor: str, address: int, shape: tuple[int, ...]) -> None:
        dtype = np.dtype(self._tensors[tensor].dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        self._bound[tensor] = self._device.view(address, size).view(dtype).reshape(shape)

    def enqueue(self) -> None:
        inputs: dict[str, NDArray[Any]] = {}
        outputs: dict[str, NDArray[Any]] = {}
        for name, info in self._tensors.items():
            if name not in self._bound:
                raise BackendError(f"{name} has no address")
            (inputs if info.is_input else outputs)[name] = self._bound[name]
        for output, target in outputs.items():
            alias = self._aliases.get(output)
            for name, source in inputs.items():
                if np.shares_memory(source, target) != (name == alias):
                    rule = "must" if name == alias else "must not"
                    raise BackendError(f"{name} and {output} {rule} share memory")

        def run() -> None:
            for target, value in zip(outputs.values(), self._session.run(list(outputs), inputs), strict=True):
                target[...] = value

        self._device.queue(run)


class TapsOnHost(OnnxRuntimeBackend):
    """Runs a bundle's taps graph with its rings: the TensorRT backend without its device."""

    name = "taps"
    ability = "run the taps graph as the tensorrt backend does"
    checked_as = "taps graph"
    takes = frozenset()
    kind, in_place = "taps", False

    def precisions(self, folder: Path, manifest: Manifest) -> list[str]:
        return list(manifest.graphs.get(self.kind, {}))

    def make_stepper(
        self, folder: Path, manifest: Manifest, batch: int, options: RunOptions
    ) -> TensorRtStepper:
        runnable, precision = in_runnable_form(manifest), options.precision
        return host_stepper(folder, runnable, self.kind, precision, batch, in_place=self.in_place)


class InPlaceOnHost(TapsOnHost):
    """Runs a bundle's step graph with one buffer for each queue, as an engine that updates them in place."""

    name = "in-place"
    ability = "run the step graph as the tensorrt backend does"
    checked_as = "step graph in place"
    kind, in_place = "step", True


def host_stepper(
    folder: Path, manifest: Manifest, kind: str, precision: str, batch: int, *, in_place: bool = False
) -> TensorRtStepper:
    """The TensorRT backend with a bundle's step or taps graph on the host."""
    device, spec = HostDevice(), manifest.graph(kind, precision)
    engine = HostEngine(device, folder, spec, in_place=in_place)
    states = manifest.graph("step", precision).states
    return TensorRtStepper(device, engine, spec, states, batch, manifest.network.n_tokens)
