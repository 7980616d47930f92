"""The CUDA device, through ctypes on the driver's library: needs no package and no toolkit."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.tensorrt.device import RingMove

_INT, _UNSIGNED, _SIZE, _POINTER = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile

# The ring kernels come with the package, as PTX. The driver translates PTX once for the GPU that it finds,
# and keeps the result. So one text of a few kilobytes serves every GPU from Turing on, also future GPUs. The
# device needs neither NVRTC nor nvcc.
PTX = Path(__file__).parents[2] / "cpp" / "cuda" / "rings.ptx"
_WORDS = (16, 4, 2, 1)  # bytes; rings.ptx has kernels for each
_MOST_THREADS = 256

# The functions by their names in the library, and their parameters. All return a CUresult.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (_UNSIGNED,),
    "cuDeviceGetCount": (_POINTER,),
    "cuDeviceGet": (_POINTER, _INT),
    "cuDeviceGetName": (_POINTER, _INT, _INT),
    "cuDeviceGetAttribute": (_POINTER, _INT, _INT),
    "cuDeviceTotalMem_v2": (_POINTER, _INT),
    "cuDevicePrimaryCtxRetain": (_POINTER, _INT),
    "cuDevicePrimaryCtxRelease_v2": (_INT,),
    "cuCtxSetCurrent": (_POINTER,),
    "cuStreamCreate": (_POINTER, _UNSIGNED),
    "cuStreamSynchronize": (_POINTER,),
    "cuStreamDestroy_v2": (_POINTER,),
    "cuModuleLoadData": (_POINTER, _POINTER),
    "cuModuleGetFunction": (_POINTER, _POINTER, _POINTER),
    "cuModuleUnload": (_POINTER,),
    "cuMemAlloc_v2": (_POINTER, _SIZE),
    "cuMemFree_v2": (_POINTER,),
    "cuMemHostAlloc": (_POINTER, _SIZE, _UNSIGNED),
    "cuMemFreeHost": (_POINTER,),
    "cuMemcpyHtoDAsync_v2": (_POINTER, _POINTER, _SIZE, _POINTER),
    "cuMemcpyDtoHAsync_v2": (_POINTER, _POINTER, _SIZE, _POINTER),
    "cuMemcpyDtoDAsync_v2": (_POINTER, _POINTER, _SIZE, _POINTER),
    "cuMemsetD8Async": (_POINTER, ctypes.c_ubyte, _SIZE, _POINTER),
    "cuLaunchKernel": (_POINTER, *[_UNSIGNED] * 7, _POINTER, _POINTER, _POINTER),
    "cuStreamBeginCapture_v2": (_POINTER, _INT),
    "cuStreamEndCapture": (_POINTER, _POINTER),
    "cuGraphInstantiateWithFlags": (_POINTER, _POINTER, ctypes.c_ulonglong),
    "cuGraphDestroy": (_POINTER,),
    "cuGraphLaunch": (_POINTER, _POINTER),
    "cuGraphExecDestroy": (_POINTER,),
    "cuGetErrorName": (_INT, _POINTER),
    "cuGetErrorString": (_INT, _POINTER),
}

# What to do about a CUresult, where the driver's words do not say it.
_ADVICE = {
    2: "stop other programs on the device, or use fewer streams",
    46: "another program has the device for itself, or it is closed to programs: sudo nvidia-smi -c DEFAULT",
    222: "the ring kernels need the driver of CUDA 12.5 or later: update it",
    803: "the driver is too old, or was updated since the machine started: restart, or update the driver",
}
_NO_DEVICE, _NOT_PERMITTED = 100, (801, 999)
ROOT = Path("/")  # where facts about this machine are


class Driver:
    """The functions of libcuda. A failure is a BackendError in the driver's words."""

    def __init__(self) -> None:
        library = load_library()
        if library is None:
            raise BackendError(f"no CUDA driver was found ({' or '.join(_library_names())}): {_no_driver()}")
        self._functions: dict[str, Any] = {}
        for name, types in SIGNATURES.items():
            try:
                self._functions[name] = getattr(library, name)
            except AttributeError:
                raise BackendError(f"the CUDA driver is too old, it has no {name}: update it") from None
            self._functions[name].argtypes = types
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function. Raises BackendError if it fails."""
        status = self._functions[name](*arguments)
        if status:
            called, text = (self._text(of, status) for of in ("cuGetErrorName", "cuGetErrorString"))
            said = f"{name.removesuffix('_v2')} failed: {called} ({status}), {text}"
            advice = _advice(status)
            raise BackendError(f"{said}; {advice}" if advice else said)

    def get(self, kind: Any, name: str, *arguments: Any) -> int:
        """Call a function whose first parameter points to its result."""
        value = kind()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value or 0

    def attempt(self, name: str, *arguments: Any) -> None:
        """Call a function and ignore its failure."""
        self._functions[name](*arguments)

    def _text(self, name: str, status: int) -> str:
        text = ctypes.c_char_p()
        self._functions[name](status, ctypes.byref(text))
        return (text.value or b"unknown error").decode("utf-8", "replace")


def load_library() -> Any:
    """The driver's library; None without one."""
    for name in _library_names():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def board() -> str | None:
    """The model of a single-board computer, such as "NVIDIA Jetson AGX Orin Developer Kit"."""
    try:
        text = (ROOT / "proc/device-tree/model").read_text("utf-8", errors="replace")
    except OSError:
        return None
    return "".join(c for c in text if c.isprintable()).strip() or None  # it ends with a zero byte


def _library_names() -> list[str]:
    return ["nvcuda.dll"] if sys.platform == "win32" else ["libcuda.so.1", "libcuda.so"]


def _is_tegra() -> bool:
    """Whether this is a Jetson, or another machine with NVIDIA's Tegra."""
    try:
        compatible = (ROOT / "proc/device-tree/compatible").read_bytes()
    except OSError:
        compatible = b""
    return b"nvidia,tegra" in compatible or (ROOT / "etc/nv_tegra_release").exists()


def _is_container() -> bool:
    return (ROOT / ".dockerenv").exists() or (ROOT / "run/.containerenv").exists()


def _no_driver() -> str:
    if _is_container():
        return _container_advice()
    if _is_tegra():
        return "sudo apt install nvidia-jetpack"
    return "install NVIDIA's driver, or use a machine with an NVIDIA GPU"


def _container_advice() -> str:
    return f"start the container with {'--runtime nvidia' if _is_tegra() else '--gpus all'}"


def _advice(status: int) -> str | None:
    """What to do about a CUresult; None if it is not known."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if status == _NO_DEVICE and visible is not None:
        return f"CUDA_VISIBLE_DEVICES is {visible!r}; unset it to see all devices"
    if status == _NO_DEVICE and _is_container():
        return _container_advice()
    if status in _NOT_PERMITTED and _is_tegra():
        return "this user may not use the device: sudo usermod -aG video,render $USER, and log in again"
    return _ADVICE.get(status)


def read_ptx() -> bytes:
    """The ring kernels, terminated by a zero byte for the driver. Raises BackendError."""
    try:
        return PTX.read_bytes() + b"\0"
    except OSError as error:
        raise BackendError(
            f"{PTX}: cannot be read ({error.strerror}): this installation is damaged; install it again"
        ) from error


def kernel_names() -> list[str]:
    """The names of all kernels in rings.ptx."""
    return [f"{kernel}_{word}" for word in _WORDS for kernel in ("gather_taps", "push_rows")]


def word_bytes(row_bytes: int) -> int:
    """The largest word that divides a row."""
    return next(word for word in _WORDS if row_bytes % word == 0)


class CudaDevice:
    """The first CUDA device, in its primary context like TensorRT. CUDA_VISIBLE_DEVICES selects the device.

    Raises BackendError without a driver or a device, and whenever the driver reports an error.
    """

    def __init__(self) -> None:
        self._driver = Driver()
        self._call, get = self._driver.call, self._driver.get
        self._memory: list[int] = []
        self._host: list[int] = []
        self._graphs: list[int] = []
        self._releases: list[Callable[[], None]] = []
        self.capturing = self._closed = False
        self._device = get(_INT, "cuDeviceGet", 0)
        self._context = get(_POINTER, "cuDevicePrimaryCtxRetain", self._device)
        self.activate()
        self.stream = get(_POINTER, "cuStreamCreate", _NON_BLOCKING)  # the stream's handle, for TensorRT
        self._module = get(_POINTER, "cuModuleLoadData", read_ptx())
        self._kernels = {
            name: get(_POINTER, "cuModuleGetFunction", self._module, name.encode()) for name in kernel_names()
        }

    def before_close(self, release: Callable[[], None]) -> None:
        """Call ``release`` before the device is closed, and before all that were given earlier."""
        self._releases.append(release)

    def activate(self) -> None:
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        address = self._driver.get(_POINTER, "cuMemAlloc_v2", max(size, 1))
        self._memory.append(address)
        self.zero(address, max(size, 1))
        return address

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        size = max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)
        address = self._driver.get(_POINTER, "cuMemHostAlloc", size, 0)
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
        self._call("cuMemcpyDtoDAsync_v2", destination, source, size, self.stream)

    def zero(self, address: int, size: int) -> None:
        self._call("cuMemsetD8Async", address, 0, size, self.stream)

    def gather_taps(self, move: RingMove) -> None:
        self._launch("gather_taps", move)

    def push_rows(self, move: RingMove, next_position: int) -> None:
        self._launch("push_rows", move, _POINTER(next_position))

    def _launch(self, kernel: str, move: RingMove, *more: ctypes.c_void_p) -> None:
        """Launch a block for each row of the batch and each access; rings.cu has the arguments."""
        word = word_bytes(move.row_bytes)
        arguments = [
            *(_POINTER(move.accesses), _INT(move.count), _POINTER(move.position), _POINTER(move.rows)),
            *(_INT(move.batch), _INT(move.row_bytes // word), *more),
        ]
        addresses = (_POINTER * len(arguments))(*map(ctypes.addressof, arguments))
        # One thread for each word, in whole warps.
        threads = min(_MOST_THREADS, -(-move.row_bytes // word // 32) * 32)
        grid, block = (move.batch, move.count, 1), (threads, 1, 1)
        function = self._kernels[f"{kernel}_{word}"]
        self._call("cuLaunchKernel", function, *grid, *block, 0, self.stream, addresses, None)

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
        ):
            while handles:
                attempt(name, handles.pop())
        attempt("cuModuleUnload", self._module)
        attempt("cuStreamDestroy_v2", self.stream)
        attempt("cuDevicePrimaryCtxRelease_v2", self._device)
