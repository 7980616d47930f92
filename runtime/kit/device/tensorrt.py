"""TensorRT: streams whose states stay on the device."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from .cuda import Cuda
from .engines import Engines
from .files import KitError
from .kit import Graph
from .runners import FullRunner, StepRunner, shape_of


class TensorRT:
    """TensorRT: builds a strongly typed engine for each graph on this device, and stores it."""

    name = "tensorrt"

    def __init__(self, folder: Path, most_streams: int, *, rebuild: bool = False) -> None:
        try:
            import tensorrt
        except ImportError as error:
            raise KitError(
                f"tensorrt is not installed for {sys.executable} (Python {platform.python_version()}): on a "
                "Jetson, sudo apt install python3-libnvinfer and run /usr/bin/python3; elsewhere, use "
                f"--backend onnxruntime ({error})"
            ) from error
        self._trt: Any = tensorrt
        self._cuda = Cuda()
        self._device = self._cuda.describe()
        capability = self._device["compute_capability"]
        self._engines = Engines(tensorrt, folder, capability, most_streams, rebuild=rebuild)

    def describe(self) -> dict[str, Any]:
        return {"tensorrt": self._trt.__version__, **self._device, "engines": tuple(self._engines.used)}

    def step_runner(self, graph: Graph, batch: int) -> StepRunner:
        return TensorRTStep(self._engines.engine(graph), self._cuda, graph, batch)

    def full_runner(self, graph: Graph) -> FullRunner:
        return TensorRTFull(self._engines.engine(graph), self._cuda, graph)


def _aliased(engine: Any, output: str) -> bool:
    """Whether an output must share its input's memory, as TensorRT's in-place cache update requires.

    Other outputs must not: their results would be wrong (NVIDIA/TensorRT#4681).
    """
    ask = getattr(engine, "get_aliased_input_tensor", None)  # TensorRT 10.15
    return bool(ask and ask(output))


class TensorRTStep:
    """Keeps each state on the device in two buffers, which swap roles at each step.

    Each of the two turns has its own execution context, so addresses are bound only once.
    """

    def __init__(self, engine: Any, cuda: Cuda, graph: Graph, batch: int) -> None:
        self._cuda, self._batch, self._turn = cuda, batch, 0
        self._graphs: list[int] = []
        self._x = cuda.pinned(shape_of(graph.input.shape, batch), graph.input.dtype)
        self._y = cuda.pinned(shape_of(graph.output.shape, batch), graph.output.dtype)
        self._device_x, self._device_y = cuda.allocate(self._x.nbytes), cuda.allocate(self._y.nbytes)
        self._states: dict[str, tuple[list[int], NDArray[Any]]] = {}
        for state in graph.states:
            like: NDArray[Any] = np.empty(shape_of(state.shape, batch), state.dtype)
            first = cuda.allocate(like.nbytes)
            second = first if _aliased(engine, state.output) else cuda.allocate(like.nbytes)
            self._states[state.input] = ([first, second], like)
        self._contexts = [self._context(engine, graph, turn) for turn in (0, 1)]
        cuda.synchronize()

    def _context(self, engine: Any, graph: Graph, turn: int) -> Any:
        context = engine.create_execution_context()
        if context is None:
            raise KitError(f"{graph.path.name}: too little memory for a context of {self._batch} streams")
        addresses = {graph.input.name: self._device_x, graph.output.name: self._device_y}
        shapes = {graph.input.name: self._x.shape}
        for state in graph.states:
            buffers, like = self._states[state.input]
            addresses[state.input], addresses[state.output] = buffers[turn], buffers[1 - turn]
            shapes[state.input] = like.shape
        for name, shape in shapes.items():
            if not context.set_input_shape(name, tuple(shape)):
                raise KitError(f"{graph.path.name}: the engine refused shape {tuple(shape)} for {name}")
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise KitError(f"{graph.path.name}: the engine has no tensor {name}")
        return context

    def _enqueue(self, turn: int) -> None:
        cuda = self._cuda
        cuda.copy(self._device_x, self._x.ctypes.data, self._x.nbytes, cuda.TO_DEVICE)
        if not self._contexts[turn].execute_async_v3(cuda.stream):
            raise KitError("TensorRT could not run a step; see its log above")
        cuda.copy(self._y.ctypes.data, self._device_y, self._y.nbytes, cuda.TO_HOST)

    def step(self, x: NDArray[Any]) -> NDArray[Any]:
        self._x[...] = x
        if self._graphs:
            self._cuda.launch(self._graphs[self._turn])
        else:
            self._enqueue(self._turn)
        self._cuda.synchronize()
        self._turn = 1 - self._turn
        return self._y.copy()

    def reset(self, rows: Sequence[int] | None = None) -> None:
        for buffers, like in self._states.values():
            size = like.nbytes // self._batch
            for row in range(self._batch) if rows is None else rows:
                self._cuda.zero(buffers[self._turn] + row * size, size)
        self._cuda.synchronize()

    def read(self) -> dict[str, NDArray[Any]]:
        states = {}
        for name, (buffers, like) in self._states.items():
            array = np.empty_like(like)
            self._cuda.copy(array.ctypes.data, buffers[self._turn], array.nbytes, self._cuda.TO_HOST)
            states[name] = array
        self._cuda.synchronize()
        return states

    def capture(self) -> bool:
        if not self._graphs:
            for turn in (0, 1):
                # Run once before capture: TensorRT initializes a context at its first enqueue.
                self._enqueue(turn)
                self._cuda.synchronize()
            for turn in (0, 1):
                self._cuda.begin_capture()
                self._enqueue(turn)
                self._graphs.append(self._cuda.end_capture())
            self.reset()
        return True

    def close(self) -> None:
        cuda = self._cuda
        self._contexts.clear()
        for graph in self._graphs:
            cuda.free_graph(graph)
        # A state that is updated in place has the same buffer twice.
        states = {address for buffers, _ in self._states.values() for address in buffers}
        for address in {self._device_x, self._device_y} | states:
            cuda.free(address)
        for array in (self._x, self._y):
            cuda.free_pinned(array)


class TensorRTFull:
    """The full graph. Each call allocates its buffers."""

    def __init__(self, engine: Any, cuda: Cuda, graph: Graph) -> None:
        self._context, self._cuda, self._graph = engine.create_execution_context(), cuda, graph
        if self._context is None:
            raise KitError(f"{graph.path.name}: too little memory for an execution context")

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        cuda, graph, context = self._cuda, self._graph, self._context
        batch, steps = len(feeds[graph.input.name]), feeds[graph.input.name].shape[-1]
        sizes = {"batch": batch, "time": steps}
        shape = [sizes[size] if isinstance(size, str) else size for size in graph.output.shape]
        y: NDArray[Any] = np.empty(shape, graph.output.dtype)
        buffers = {
            name: cuda.allocate(array.nbytes) for name, array in [*feeds.items(), (graph.output.name, y)]
        }
        try:
            for name, array in feeds.items():
                dense = np.ascontiguousarray(array)
                cuda.copy(buffers[name], dense.ctypes.data, dense.nbytes, cuda.TO_DEVICE)
                cuda.synchronize()
                if not context.set_input_shape(name, tuple(dense.shape)):
                    raise KitError(f"{graph.path.name}: the engine refused shape {dense.shape} for {name}")
            for name, address in buffers.items():
                context.set_tensor_address(name, address)
            if not context.execute_async_v3(cuda.stream):
                raise KitError("TensorRT could not run the full graph; see its log above")
            cuda.copy(y.ctypes.data, buffers[graph.output.name], y.nbytes, cuda.TO_HOST)
            cuda.synchronize()
        finally:
            for address in buffers.values():
                cuda.free(address)
        return y
