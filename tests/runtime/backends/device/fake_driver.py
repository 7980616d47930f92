"""A CUDA driver and its compiler that need no GPU: libcuda.cpp here, and libnvrtc.cpp of the cuda backend."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.cuda import backend
from multires_edge.runtime.backends.device.gpu import Gpu
from tests.conftest import ROOT
from tests.runtime.backends.cuda.compiled import HERE as KERNEL_TESTS
from tests.runtime.backends.cuda.compiled import OPTIONS
from tests.runtime.cpp.programs import cxx, needed_wheels, run

ORIN = Gpu("Orin", "8.7", 16, 30, None)
_CUDA = ROOT / "runtime" / "cpp" / "cuda"
_SOURCES = (Path(__file__).with_name("libcuda.cpp"), KERNEL_TESTS / "libnvrtc.cpp", _CUDA / "rings.cu")
_WORK = ctypes.CFUNCTYPE(None)


@functools.cache
def build_driver() -> Path:
    """A folder with libcuda.so.1 and libnvrtc.so.12, which later test runs keep."""
    wheels, compiler = needed_wheels(), cxx()
    kernel = " ".join([compiler, *OPTIONS, "-O1", f"-I{KERNEL_TESTS}", str(KERNEL_TESTS / "host.cpp")])
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    # Without the checks of virtual tables, which open and close a pipe: the thread sanitizer of a program
    # that loads this library takes the second use of a descriptor's number for a race.
    command += ["-fsanitize=undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all"]
    command += [f"-I{_CUDA}", f"-isystem{wheels.cuda_headers}", f'-DHOST_COMPILER="{kernel}"']
    key = hashlib.sha256(repr((command, [source.read_text() for source in _SOURCES])).encode()).hexdigest()
    final = ROOT / "build" / f"fake-driver-{key[:16]}"
    if not final.exists():
        final.parent.mkdir(exist_ok=True)
        folder = tempfile.mkdtemp(dir=final.parent)
        for source, name in zip(_SOURCES, ("libcuda.so.1", "libnvrtc.so.12"), strict=False):
            run(*command, source, "-o", Path(folder, name))
        with suppress(OSError):  # another worker may have been faster
            Path(folder).rename(final)
    return final


def on_driver(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a process with driver and compiler. ``home`` keeps compiled kernels."""
    here = {"LD_LIBRARY_PATH": str(build_driver()), "XDG_CACHE_HOME": str(home)}
    return os.environ | here | variables


def install_compiler(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Let the cuda backend of this process find the compiler, and keep its kernels in ``home``."""
    monkeypatch.setattr(backend, "nvrtc_of_packages", lambda: [str(build_driver() / "libnvrtc.so.12")])
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))


class FakeCuda:
    """The driver in this process, anew. Its function ``fail`` fails with ``status``."""

    def __init__(self, fail: str = "", status: int = 100, gpu: Gpu = ORIN, devices: int = 1) -> None:
        self._library = ctypes.CDLL(str(build_driver() / "libcuda.so.1"))
        for text in (self._library.fake_calls, self._library.fake_launched):
            text.restype = ctypes.c_char_p
        self._work: list[Any] = []  # what the driver may still call
        self._library.fake_forget()
        self.have(gpu, devices)
        self.refuse(fail, status)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def have(self, gpu: Gpu, devices: int = 1) -> None:
        """Be the driver of a device."""
        major, minor = map(int, gpu.compute_capability.split("."))
        sizes = (gpu.multiprocessors, gpu.memory_gib, devices)
        self._library.fake_device(gpu.name.encode(), major, minor, *sizes)

    def refuse(self, function: str, status: int) -> None:
        """Let a function fail from now on."""
        self._library.fake_fail(function.encode(), status)

    @property
    def calls(self) -> list[str]:
        """The functions that were called, since the last time that this was asked."""
        names: bytes = self._library.fake_calls()
        self._library.fake_forget_calls()
        return names.decode().split()

    @property
    def launched(self) -> list[str]:
        """The kernels that were launched."""
        names: bytes = self._library.fake_launched()
        return names.decode().split()

    @property
    def alive(self) -> dict[str, int]:
        """How many of each kind were not given back."""
        kinds = ("context", "stream", "module", "memory", "pinned", "graph")
        return {kind: count for kind in kinds if (count := self._library.fake_alive(kind.encode()))}

    # What an engine that runs in Python asks of its device.

    def has_stream(self, stream: int) -> bool:
        """Whether this is a stream of the driver."""
        return bool(self._library.fake_has_stream(ctypes.c_void_p(stream)))

    def view(self, address: int, size: int) -> NDArray[np.uint8]:
        """The bytes at an address. Raises BackendError unless a single allocation has all of them."""
        if not self._library.fake_has(ctypes.c_void_p(address), ctypes.c_size_t(size)):
            raise BackendError(f"{size} bytes at {address:#x} are not within a single allocation")
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def queue(self, work: Callable[[], None]) -> None:
        """Work of its own, in order with the rest."""
        self._work.append(_WORK(work))
        self._library.fake_ask(self._work[-1])
