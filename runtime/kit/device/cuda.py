"""The functions of the CUDA runtime library that the kit needs, by ctypes."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from .files import KitError


class Cuda:
    """The functions of the CUDA runtime library that the kit needs, by ctypes.

    JetPack has this library but no Python package for it, and the wheels of cuda-python fit only one
    version of CUDA.
    """

    TO_DEVICE, TO_HOST = 1, 2
    _MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor and Minor
    _THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal
    _LIBRARIES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
    _FOLDERS = ("", "/usr/local/cuda/lib64/", "/usr/local/cuda/lib/")

    def __init__(self, library: str | None = None) -> None:
        self._library = self._load(library)
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self._library.cudaGetErrorString.argtypes = [ctypes.c_int]
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        for name, types in {
            "cudaGetDeviceCount": [pointer],
            "cudaDeviceGetAttribute": [pointer, ctypes.c_int, ctypes.c_int],
            "cudaRuntimeGetVersion": [pointer],
            "cudaDriverGetVersion": [pointer],
            "cudaMalloc": [pointer, size],
            "cudaFree": [pointer],
            "cudaHostAlloc": [pointer, size, ctypes.c_uint],
            "cudaFreeHost": [pointer],
            "cudaMemsetAsync": [pointer, ctypes.c_int, size, pointer],
            "cudaMemcpyAsync": [pointer, pointer, size, ctypes.c_int, pointer],
            "cudaStreamCreate": [pointer],
            "cudaStreamSynchronize": [pointer],
            "cudaStreamBeginCapture": [pointer, ctypes.c_int],
            "cudaStreamEndCapture": [pointer, pointer],
            "cudaGraphInstantiateWithFlags": [pointer, pointer, ctypes.c_ulonglong],
            "cudaGraphLaunch": [pointer, pointer],
            "cudaGraphExecDestroy": [pointer],
            "cudaGraphDestroy": [pointer],
        }.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = types, ctypes.c_int
        if not self._get(ctypes.c_int, self._library.cudaGetDeviceCount):
            raise KitError("no CUDA device was found: run this script on the device itself")
        # Not the default stream: TensorRT synchronizes too often there.
        self.stream: int = self._get(ctypes.c_void_p, self._library.cudaStreamCreate)

    @classmethod
    def _load(cls, library: str | None) -> ctypes.CDLL:
        found = ctypes.util.find_library("cudart")
        names = [folder + name for name in cls._LIBRARIES for folder in cls._FOLDERS]
        for name in [library] if library else [*names, *([found] if found else [])]:
            with contextlib.suppress(OSError):
                return ctypes.CDLL(name)
        raise KitError(
            "the CUDA runtime library libcudart was not found: sudo apt install nvidia-jetpack, or add "
            "its folder to LD_LIBRARY_PATH"
        )

    def _call(self, function: Any, *arguments: Any) -> None:
        status = function(*arguments)
        if status:
            text = self._library.cudaGetErrorString(status).decode("utf-8", "replace")
            raise KitError(f"{function.__name__} failed: {text} (CUDA error {status})")

    def _get(self, kind: Any, function: Any, *arguments: Any) -> int:
        value = kind()
        self._call(function, ctypes.byref(value), *arguments)
        return value.value or 0

    def describe(self) -> dict[str, Any]:
        attribute = self._library.cudaDeviceGetAttribute
        major, minor = (self._get(ctypes.c_int, attribute, which, 0) for which in (self._MAJOR, self._MINOR))
        runtime = self._get(ctypes.c_int, self._library.cudaRuntimeGetVersion)
        driver = self._get(ctypes.c_int, self._library.cudaDriverGetVersion)
        return {
            "compute_capability": f"{major}.{minor}",
            "cuda_runtime": f"{runtime // 1000}.{runtime % 1000 // 10}",
            "cuda_driver": f"{driver // 1000}.{driver % 1000 // 10}",
        }

    def allocate(self, size: int) -> int:
        """Allocate ``size`` bytes of zeroed device memory. Returns the address."""
        address = self._get(ctypes.c_void_p, self._library.cudaMalloc, max(1, size))
        self.zero(address, size)
        return address

    def free(self, address: int) -> None:
        self._call(self._library.cudaFree, address)

    def pinned(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        """Allocate an array in page-locked host memory; ``free_pinned`` frees it."""
        array: NDArray[Any] = np.empty(shape, dtype)
        address = self._get(ctypes.c_void_p, self._library.cudaHostAlloc, max(1, array.nbytes), 0)
        memory = (ctypes.c_uint8 * array.nbytes).from_address(address)
        pinned: NDArray[Any] = np.frombuffer(memoryview(memory), np.dtype(dtype)).reshape(shape)
        return pinned

    def free_pinned(self, array: NDArray[Any]) -> None:
        """Free a pinned array. Do not use the array afterwards."""
        self._call(self._library.cudaFreeHost, array.ctypes.data)

    def zero(self, address: int, size: int) -> None:
        self._call(self._library.cudaMemsetAsync, address, 0, size, self.stream)

    def copy(self, to: int, source: int, size: int, kind: int) -> None:
        self._call(self._library.cudaMemcpyAsync, to, source, size, kind, self.stream)

    def synchronize(self) -> None:
        self._call(self._library.cudaStreamSynchronize, self.stream)

    def begin_capture(self) -> None:
        self._call(self._library.cudaStreamBeginCapture, self.stream, self._THREAD_LOCAL)

    def end_capture(self) -> int:
        """Returns an executable CUDA graph of the work since ``begin_capture``."""
        graph = ctypes.c_void_p()
        self._call(self._library.cudaStreamEndCapture, self.stream, ctypes.byref(graph))
        ready = self._get(ctypes.c_void_p, self._library.cudaGraphInstantiateWithFlags, graph, 0)
        self._call(self._library.cudaGraphDestroy, graph)
        return ready

    def free_graph(self, graph: int) -> None:
        self._call(self._library.cudaGraphExecDestroy, graph)

    def launch(self, graph: int) -> None:
        self._call(self._library.cudaGraphLaunch, graph, self.stream)
