"""A CUDA driver and a TensorRT that are not there, for the code that speaks to them.

The driver keeps its memory, kernels and queue on the host; the engine runs its graph in ONNX Runtime. What
neither can show is that real ones accept the same.
"""

from __future__ import annotations

import ctypes
import re
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.backends.tensorrt.device import RingMove
from multires_edge.runtime.backends.tensorrt.host import HostDevice, HostEngine


class Result(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100


class FakeDriver:
    """``cuda.bindings.driver`` as far as the package calls it. ``fail`` makes one function fail."""

    CUresult = Result
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)

    def __init__(self, fail: str = "", status: Result = Result.CUDA_ERROR_NO_DEVICE) -> None:
        self.host = HostDevice()
        self.fail, self.status = fail, status
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.alive: dict[str, int] = {}
        self._pinned: dict[int, NDArray[np.uint8]] = {}
        self._functions: list[str] = []
        self._recorded: Any = None
        self._outside: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, arguments))
            if name == self.fail:
                return self.status, None
            return Result.CUDA_SUCCESS, *(getattr(self, "_" + name)(*arguments) or ())

        return call

    def _count(self, what: str, change: int) -> None:
        self.alive[what] = self.alive.get(what, 0) + change

    def cuGetErrorString(self, status: Result) -> tuple[Result, bytes]:
        return Result.CUDA_SUCCESS, status.name.lower().replace("_", " ").encode()

    def _cuInit(self, flags: int) -> None:
        assert flags == 0

    def _cuDeviceGet(self, ordinal: int) -> tuple[int]:
        return (ordinal,)

    def _cuDevicePrimaryCtxRetain(self, device: int) -> tuple[str]:
        self._count("context", 1)
        return (f"context of {device}",)

    def _cuDevicePrimaryCtxRelease(self, device: int) -> None:
        self._count("context", -1)

    def _cuCtxSetCurrent(self, context: str) -> None:
        assert context == "context of 0"

    def _cuStreamCreate(self, flags: int) -> tuple[int]:
        self._count("stream", 1)
        return (7,)

    def _cuStreamDestroy(self, stream: int) -> None:
        self._count("stream", -1)

    def _cuStreamSynchronize(self, stream: int) -> None:
        self.host.synchronize()

    def _cuModuleLoadData(self, image: bytes) -> tuple[str]:
        assert image.endswith(b"\0")
        self._count("module", 1)
        self._functions = re.findall(r"\.entry (\w+)\(", image.decode())
        return ("module",)

    def _cuModuleUnload(self, module: str) -> None:
        self._count("module", -1)

    def _cuModuleGetFunction(self, module: str, name: bytes) -> tuple[str]:
        assert name.decode() in self._functions
        return (name.decode(),)

    def _cuMemAlloc(self, size: int) -> tuple[int]:
        self._count("memory", 1)
        address = self.host.allocate(size)
        self.host.view(address, size)[...] = 0xFF  # nobody promised zeros
        return (address,)

    def _cuMemFree(self, address: int) -> None:
        self._count("memory", -1)

    def _cuMemHostAlloc(self, size: int, flags: int) -> tuple[int]:
        self._count("pinned", 1)
        memory = np.full(size, 0xFF, np.uint8)
        self._pinned[memory.ctypes.data] = memory
        return (memory.ctypes.data,)

    def _cuMemFreeHost(self, address: int) -> None:
        self._count("pinned", -1)

    def _array(self, address: int, size: int) -> NDArray[np.uint8]:
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def _cuMemcpyHtoDAsync(self, target: int, source: int, size: int, stream: int) -> None:
        self.host.upload(target, self._array(source, size))

    def _cuMemcpyDtoHAsync(self, target: int, source: int, size: int, stream: int) -> None:
        self.host.download(self._array(target, size), source)

    def _cuMemcpyDtoDAsync(self, target: int, source: int, size: int, stream: int) -> None:
        self.host.copy(target, source, size)

    def _cuMemsetD8Async(self, address: int, value: int, size: int, stream: int) -> None:
        assert value == 0
        self.host.zero(address, size)

    def _cuLaunchKernel(self, function: str, *arguments: Any) -> None:
        gx, gy, gz, bx, by, bz, shared, _, (values, types), extra = arguments
        assert (gz, by, bz, shared, extra) == (1, 1, 1, 0, 0) and len(values) == len(types)
        accesses, count, position, rows, batch, words, *more = values
        assert (gx, gy) == (batch, count) and bx % 32 == 0 and 32 <= bx <= 1024
        name, _, word = function.rpartition("_")
        move = RingMove(accesses, count, position, rows, batch, words * int(word))
        if name == "push_rows":
            self.host.push_rows(move, *more)
        else:
            self.host.gather_taps(move)

    def _cuStreamBeginCapture(self, stream: int, mode: int) -> None:
        self._outside, self.host._queue = self.host._queue, []

    def _cuStreamEndCapture(self, stream: int) -> tuple[list[Any]]:
        recorded, self.host._queue = self.host._queue, self._outside
        return (recorded,)

    def _cuGraphInstantiate(self, graph: list[Any], flags: int) -> tuple[list[Any]]:
        assert flags == 0
        self._count("graph", 1)
        return (graph,)

    def _cuGraphDestroy(self, graph: list[Any]) -> None: ...

    def _cuGraphExecDestroy(self, graph: list[Any]) -> None:
        self._count("graph", -1)

    def _cuGraphLaunch(self, graph: list[Any], stream: int) -> None:
        self.host._queue.extend(graph)


class FakeTensorRt:
    """The ``tensorrt`` package with one engine, that of a HostEngine. Before 10.15 it knows no aliases."""

    class ILogger:
        WARNING, ERROR, INTERNAL_ERROR = "warning", "error", "internal error"

    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")

    def __init__(self, engine: HostEngine | None, *, aliases: bool = True, capturable: bool = True) -> None:
        self._engine, self._aliases, self.capturable = engine, aliases, capturable

    def Runtime(self, logger: Any) -> Any:
        def deserialize(content: bytes) -> Any:
            if content != b"engine" or self._engine is None:
                logger.log("error", "magic tag does not match")
                return None
            return self._engine_of(self._engine)

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    def _engine_of(self, engine: HostEngine) -> Any:
        names = list(engine.tensors)
        codes = {"float32": "FLOAT", "float16": "HALF", "int8": "INT8", "int64": "INT64"}

        def profile(name: str, index: int) -> list[list[int]]:
            assert index == 0
            return [
                [batch, *engine.tensors[name].shape[1:]] for batch in (*engine.batches, engine.batches[1])
            ]

        fake = SimpleNamespace(
            num_io_tensors=len(names),
            get_tensor_name=names.__getitem__,
            get_tensor_dtype=lambda name: SimpleNamespace(name=codes[engine.tensors[name].dtype]),
            get_tensor_mode=lambda name: "input" if engine.tensors[name].is_input else "output",
            get_tensor_shape=lambda name: list(engine.tensors[name].shape),
            get_tensor_profile_shape=profile,
            create_execution_context=lambda: _FakeContext(engine, self.capturable),
        )
        if self._aliases:
            fake.get_aliased_input_tensor = lambda name: engine.aliased_input(name) or ""
        return fake


class _FakeContext:
    def __init__(self, engine: HostEngine, capturable: bool) -> None:
        self._engine, self._capturable = engine, capturable
        self._context: Any = None
        self._wanted = {name for name, info in engine.tensors.items() if info.is_input}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, most = self._engine.batches
        self._wanted.discard(name)
        self._context = self._context or self._engine.context(shape[0])
        return least <= shape[0] <= most

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._context.bind(name, address)
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        return self._capturable and stream == 7

    def execute_async_v3(self, stream: int) -> bool:
        if self._wanted:
            return False
        self._context.enqueue()
        return True
