"""The GPU of this machine, as its driver describes it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Annotated

from multires_edge.base.errors import BackendError
from multires_edge.base.names import printable
from multires_edge.format.fields import Count, Line, Natural, Pattern
from multires_edge.runtime.backends.device.driver import Driver, board

# CUdevice_attribute of the CUDA driver API.
_MULTIPROCESSORS, _INTEGRATED, _MAJOR, _MINOR = 16, 18, 75, 76


Capability = Annotated[str, Pattern(r"[0-9]{1,2}\.[0-9]", "a compute capability such as 8.7")]


@dataclass(frozen=True)
class Gpu:
    """A CUDA device. An engine that was built on a device runs only on an equal one.

    The driver gives many devices one name: every Jetson Orin is "Orin". So their multiprocessors, memory (in
    whole GiB) and board (None on a PC) belong to the identity. ``compute_capability`` is such as "8.7".
    """

    name: Line
    compute_capability: Capability
    multiprocessors: Count
    memory_gib: Natural
    board: Line | None = None

    def __str__(self) -> str:
        facts = f"{self.name}, {self.multiprocessors} SMs, {self.memory_gib} GiB"
        return facts if self.board is None else f"{facts}, {self.board}"


def find_gpu() -> Gpu:
    """The first CUDA device. Raises BackendError with the driver's message if there is no device."""
    driver = Driver()
    if not driver.get(ctypes.c_int, "cuDeviceGetCount"):
        raise BackendError("the CUDA driver found no device")
    device = driver.get(ctypes.c_int, "cuDeviceGet", 0)
    name = ctypes.create_string_buffer(256)
    driver.call("cuDeviceGetName", name, len(name), device)
    processors, major, minor = (
        driver.get(ctypes.c_int, "cuDeviceGetAttribute", attribute, device)
        for attribute in (_MULTIPROCESSORS, _MAJOR, _MINOR)
    )
    memory = driver.get(ctypes.c_size_t, "cuDeviceTotalMem_v2", device)
    known = printable(name.value.decode("utf-8", "replace"))
    return Gpu(known, f"{major}.{minor}", processors, round(memory / (1 << 30)), board())


def shares_memory() -> bool:
    """Whether the first CUDA device uses the host's memory, as that of a Jetson. Raises BackendError."""
    driver = Driver()
    device = driver.get(ctypes.c_int, "cuDeviceGet", 0)
    return bool(driver.get(ctypes.c_int, "cuDeviceGetAttribute", _INTEGRATED, device))


def why_no_gpu() -> str | None:
    """Why :func:`find_gpu` finds no device; None if it finds one."""
    try:
        find_gpu()
    except BackendError as error:
        return str(error)
    return None
