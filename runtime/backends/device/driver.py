"""The functions of the CUDA driver's library, through ctypes: needs no package and no toolkit."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BackendError

_INT, _UNSIGNED, _SIZE, _POINTER = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p

# The functions by their names in the library, and their parameters. All return a CUresult.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (_UNSIGNED,),
    "cuDriverGetVersion": (_POINTER,),
    "cuDeviceGetCount": (_POINTER,),
    "cuDeviceGet": (_POINTER, _INT),
    "cuDeviceGetName": (_POINTER, _INT, _INT),
    "cuDeviceGetAttribute": (_POINTER, _INT, _INT),
    "cuDeviceTotalMem_v2": (_POINTER, _INT),
    "cuDevicePrimaryCtxSetFlags_v2": (_INT, _UNSIGNED),
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
    "cuMemHostGetDevicePointer_v2": (_POINTER, _POINTER, _UNSIGNED),
    "cuMemFreeHost": (_POINTER,),
    "cuMemcpyHtoDAsync_v2": (_POINTER, _POINTER, _SIZE, _POINTER),
    "cuMemcpyDtoHAsync_v2": (_POINTER, _POINTER, _SIZE, _POINTER),
    "cuMemcpyAsync": (_POINTER, _POINTER, _SIZE, _POINTER),
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
    3: "a process that was forked cannot use the CUDA of its parent: start it anew (spawn)",
    34: "the stub of CUDA's toolkit was found before the driver: remove stubs from LD_LIBRARY_PATH",
    46: "another program has the device for itself, or it is closed to programs: sudo nvidia-smi -c DEFAULT",
    100: "nvidia-smi lists the devices; in MIG mode an instance must be created first",
    221: "install all of the driver: libnvidia-ptxjitcompiler.so, which translates the kernels, is missing",
    222: "the kernels need the driver of CUDA 12.5 or later: update it",
    802: "the GPUs of this server need nvidia-fabricmanager: start its service",
    803: "the driver is too old, or was updated since the machine started: restart, or update the driver",
    804: "this GPU cannot use CUDA's compatibility package: remove compat folders from LD_LIBRARY_PATH",
    999: "its part nvidia_uvm may not be loaded: sudo nvidia-modprobe -u, or restart the machine",
}
_NO_DEVICE, _NOT_PERMITTED = 100, (100, 801, 999)  # the second on a Jetson, which always has its device
ROOT = Path("/")  # where facts about this machine are


class Driver:
    """The functions of libcuda. A failure is a BackendError in the driver's words."""

    def __init__(self) -> None:
        library = load_library()
        if library is None:
            raise BackendError(f"no CUDA driver was found ({' or '.join(_library_names())}): {_no_driver()}")
        self.library: str = getattr(library, "_name", "")  # its path, for other parts of the program
        self._functions: dict[str, Any] = {}
        for name, types in SIGNATURES.items():
            try:
                self._functions[name] = getattr(library, name)
            except AttributeError:
                raise BackendError(f"the CUDA driver is too old, it has no {name}: update it") from None
            self._functions[name].argtypes = types
        self.call("cuInit", 0)

    @property
    def version(self) -> int:
        """The newest major version of CUDA whose programs it runs."""
        return self.get(_INT, "cuDriverGetVersion") // 1000

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function. Raises BackendError if it fails."""
        status = self._functions[name](*arguments)
        if status:
            called, text = (self._text(of, status) for of in ("cuGetErrorName", "cuGetErrorString"))
            said = f"{name.removesuffix('_v2')} failed: {called} ({status}), {text}"
            raise BackendError(with_advice(said, status))

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


def with_advice(said: str, status: int) -> str:
    """The driver's words about a CUresult, and what to do where they do not say it."""
    advice = _advice(status)
    return f"{said}; {advice}" if advice else said


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
