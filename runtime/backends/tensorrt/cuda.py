"""The CUDA device, through the driver API of ``cuda.bindings``: needs neither PyTorch nor CUDA's toolkit."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from multires_edge.base.errors import BackendError, MissingExtraError
from multires_edge.runtime.backends.tensorrt.device import RingMove
from multires_edge.runtime.backends.tensorrt.kernels import kernel_names, read_ptx, threads_of, word_bytes

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int


def load_driver() -> ModuleType:
    """``cuda.bindings.driver``. Raises MissingExtraError."""
    try:
        from cuda.bindings import driver
    except ImportError:
        raise MissingExtraError("cuda.bindings", "tensorrt", "the tensorrt backend") from None
    module: ModuleType = driver
    return module


class Releasable(Protocol):
    """A part that must be released before the device."""

    def release(self) -> None: ...


class CudaDevice:
    """The first CUDA device, in its primary context like TensorRT. CUDA_VISIBLE_DEVICES selects the device.

    Raises BackendError without a driver or a device, and whenever the driver reports an error.
    """

    def __init__(self, driver: ModuleType | None = None) -> None:
        self._cuda: Any = driver or load_driver()
        self._memory: list[Any] = []
        self._host: list[int] = []
        self._graphs: list[Any] = []
        self._owned: list[Releasable] = []
        self._kernels: dict[str, Any] = {}
        self.capturing = self._closed = False
        try:
            self._call("cuInit", 0)
            (device,) = self._call("cuDeviceGet", 0)
        except RuntimeError as error:
            raise BackendError(f"the tensorrt backend found no CUDA driver or GPU ({error})") from error
        self._device = device
        (self._context,) = self._call("cuDevicePrimaryCtxRetain", device)
        self.activate()
        (self._stream,) = self._call("cuStreamCreate", int(self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING))
        (self._module,) = self._call("cuModuleLoadData", read_ptx())
        for name in kernel_names():
            (self._kernels[name],) = self._call("cuModuleGetFunction", self._module, name.encode())

    @property
    def stream(self) -> int:
        """The stream's handle, for TensorRT."""
        return int(self._stream)

    def own(self, part: Releasable) -> None:
        """Release ``part`` before the device, and before all parts that were added earlier."""
        self._owned.append(part)

    def _call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        status, *results = getattr(self._cuda, function)(*arguments)
        if status != self._cuda.CUresult.CUDA_SUCCESS:
            _, text = self._cuda.cuGetErrorString(status)
            said = text.decode() if isinstance(text, bytes) else "unknown error"
            raise BackendError(f"{function} failed: {said} ({getattr(status, 'name', status)})")
        return tuple(results)

    def activate(self) -> None:
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        (address,) = self._call("cuMemAlloc", max(size, 1))
        self._memory.append(address)
        self.zero(int(address), max(size, 1))
        return int(address)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        size = max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)
        (address,) = self._call("cuMemHostAlloc", size, 0)
        self._host.append(int(address))
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))
        memory[...] = 0
        array: NDArray[Any] = memory.view(dtype).reshape(shape)
        return array

    def upload(self, address: int, array: NDArray[Any]) -> None:
        self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self._stream)

    def download(self, array: NDArray[Any], address: int) -> None:
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self._stream)

    def copy(self, destination: int, source: int, size: int) -> None:
        self._call("cuMemcpyDtoDAsync", destination, source, size, self._stream)

    def zero(self, address: int, size: int) -> None:
        self._call("cuMemsetD8Async", address, 0, size, self._stream)

    def gather_taps(self, move: RingMove) -> None:
        self._launch("gather_taps", move, (), ())

    def push_rows(self, move: RingMove, next_position: int) -> None:
        self._launch("push_rows", move, (next_position,), (_POINTER,))

    def _launch(self, kernel: str, move: RingMove, more: tuple[int, ...], types: tuple[Any, ...]) -> None:
        """Launch a block for each row of the batch and each access; rings.cu has the arguments."""
        word = word_bytes(move.row_bytes)
        words = move.row_bytes // word
        values = (move.accesses, move.count, move.position, move.rows, move.batch, words, *more)
        arguments = (values, (_POINTER, _INT, _POINTER, _POINTER, _INT, _INT, *types))
        grid, block = (move.batch, move.count, 1), (threads_of(move.row_bytes), 1, 1)
        function = self._kernels[f"{kernel}_{word}"]
        self._call("cuLaunchKernel", function, *grid, *block, 0, self._stream, arguments, 0)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        # Capture only this thread: other threads may allocate meanwhile.
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", self._stream, mode)
        self.capturing = True
        try:
            work()
        except BaseException:
            self._cuda.cuStreamEndCapture(self._stream)  # ignore its error: the first error tells more
            raise
        finally:
            self.capturing = False
        (graph,) = self._call("cuStreamEndCapture", self._stream)
        try:
            (ready,) = self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)
        self._graphs.append(ready)

        def launch() -> None:
            self._call("cuGraphLaunch", ready, self._stream)

        return launch

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        # Ignore errors: the same errors were raised before, and everything else must be freed.
        if self._closed:
            return
        self._closed, cuda = True, self._cuda
        cuda.cuCtxSetCurrent(self._context)
        cuda.cuStreamSynchronize(self._stream)
        while self._owned:
            self._owned.pop().release()
        while self._graphs:
            cuda.cuGraphExecDestroy(self._graphs.pop())
        while self._memory:
            cuda.cuMemFree(self._memory.pop())
        while self._host:
            cuda.cuMemFreeHost(self._host.pop())
        cuda.cuModuleUnload(self._module)
        cuda.cuStreamDestroy(self._stream)
        cuda.cuDevicePrimaryCtxRelease(self._device)
