"""A CUDA device: memory, copies, kernels and graphs, all on one stream of work."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.device.driver import Driver
from multires_edge.runtime.backends.device.gpu import shares_memory
from multires_edge.runtime.backends.device.states import Exchanged

_INT, _POINTER = ctypes.c_int, ctypes.c_void_p
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_MAPPED = 2  # CU_MEMHOSTALLOC_DEVICEMAP
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile
# How a thread waits for the device: CU_CTX_SCHED_SPIN, _YIELD and _BLOCKING_SYNC. Else the driver chooses.
WAITS = {"spin": 1, "yield": 2, "block": 4}
WAIT = "MULTIRES_CUDA_WAIT"


class CudaDevice:
    """The first CUDA device, in its primary context like TensorRT. CUDA_VISIBLE_DEVICES selects the device.

    All work is queued on one stream and runs in the order of the calls. Only :meth:`synchronize` waits, as
    MULTIRES_CUDA_WAIT says: "spin", "yield" or "block". This is for all of the process.
    Raises BackendError without a driver or a device, and whenever the driver reports an error.
    """

    def __init__(self) -> None:
        self._driver = Driver()
        self._call, get = self._driver.call, self._driver.get
        self._memory: list[int] = []
        self._host: list[int] = []
        self._graphs: list[int] = []
        self._modules: list[int] = []
        self._releases: list[Callable[[], None]] = []
        self.capturing = self._closed = False
        self._device = get(_INT, "cuDeviceGet", 0)
        if wait := os.environ.get(WAIT):
            if wait not in WAITS:
                raise BackendError(f"{WAIT} is {wait!r}, expected {', '.join(WAITS)}")
            self._call("cuDevicePrimaryCtxSetFlags_v2", self._device, WAITS[wait])
        self._shares_memory = shares_memory()
        self._context = get(_POINTER, "cuDevicePrimaryCtxRetain", self._device)
        self.activate()
        self.stream = get(_POINTER, "cuStreamCreate", _NON_BLOCKING)  # the stream's handle, for TensorRT

    def before_close(self, release: Callable[[], None]) -> None:
        """Call ``release`` before the device is closed, and before all that were given earlier."""
        self._releases.append(release)

    def activate(self) -> None:
        """Make this the device of the calling thread. Must come before every other call."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        address = self._driver.get(_POINTER, "cuMemAlloc_v2", max(size, 1))
        self._memory.append(address)
        self.zero(address, max(size, 1))
        return address

    def exchanged(self, shape: tuple[int, ...], dtype: DTypeLike) -> Exchanged:
        if self._shares_memory:
            return Exchanged(*self.mapped(shape, dtype), copied=False)
        array = self._allocate_host(shape, dtype, 0)
        return Exchanged(array, self.allocate(array.nbytes), copied=True)

    def mapped(self, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[NDArray[Any], int]:
        """Allocate a zeroed host array that kernels use, until ``close``. Returns it and its address."""
        array = self._allocate_host(shape, dtype, _MAPPED)
        return array, self._driver.get(_POINTER, "cuMemHostGetDevicePointer_v2", array.ctypes.data, 0)

    def _allocate_host(self, shape: tuple[int, ...], dtype: DTypeLike, flags: int) -> NDArray[Any]:
        size = max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)
        address = self._driver.get(_POINTER, "cuMemHostAlloc", size, flags)
        self._host.append(address)
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        memory[...] = 0
        array: NDArray[Any] = memory.view(dtype).reshape(shape)
        return array

    def upload(self, address: int, array: NDArray[Any]) -> None:
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self.stream)

    def download(self, array: NDArray[Any], address: int) -> None:
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self.stream)

    def copy(self, destination: int, source: int, size: int) -> None:
        # Mapped memory is the host's to the driver, so this is no copy from device to device.
        self._call("cuMemcpyAsync", destination, source, size, self.stream)

    def zero(self, address: int, size: int) -> None:
        self._call("cuMemsetD8Async", address, 0, size, self.stream)

    def load(self, image: bytes) -> int:
        """Load a module until ``close``: machine code, or PTX and a zero byte. Returns its handle."""
        module = self._driver.get(_POINTER, "cuModuleLoadData", image)
        self._modules.append(module)
        return module

    def function(self, module: int, name: str) -> int:
        """The handle of a kernel of a module."""
        return self._driver.get(_POINTER, "cuModuleGetFunction", module, name.encode())

    def launcher(
        self, function: int, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> Callable[[], None]:
        """A function that queues a kernel with arguments of ctypes."""
        addresses = (_POINTER * len(arguments))(*map(ctypes.addressof, arguments))
        call, stream = self._call, self.stream

        def launch(_: Sequence[Any] = arguments) -> None:  # the arguments must live as long
            call("cuLaunchKernel", function, *grid, *block, 0, stream, addresses, None)

        return launch

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = _POINTER()
        end = ("cuStreamEndCapture", self.stream, ctypes.byref(graph))
        self._call("cuStreamBeginCapture_v2", self.stream, _THREAD_LOCAL)
        self.capturing = True
        try:
            work()
        except BaseException:
            self._driver.attempt(*end)  # ignore its error: the first error tells more
            raise
        finally:
            self.capturing = False
        self._call(*end)
        try:
            ready = self._driver.get(_POINTER, "cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)
        self._graphs.append(ready)
        return lambda: self._call("cuGraphLaunch", ready, self.stream)

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        # Ignore errors: the same errors were raised before, and everything else must be freed.
        if self._closed:
            return
        self._closed, attempt = True, self._driver.attempt
        attempt("cuCtxSetCurrent", self._context)
        attempt("cuStreamSynchronize", self.stream)
        while self._releases:
            self._releases.pop()()
        for name, handles in (
            ("cuGraphExecDestroy", self._graphs),
            ("cuMemFree_v2", self._memory),
            ("cuMemFreeHost", self._host),
            ("cuModuleUnload", self._modules),
        ):
            while handles:
                attempt(name, handles.pop())
        attempt("cuStreamDestroy_v2", self.stream)
        attempt("cuDevicePrimaryCtxRelease_v2", self._device)
