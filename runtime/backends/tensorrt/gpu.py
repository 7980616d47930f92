"""Find the GPU of this machine through the driver: needs neither CUDA's toolkit nor a Python package."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Annotated

from multires_edge.format.fields import Line, Pattern

# CUdevice_attribute of the CUDA driver API.
_MAJOR, _MINOR = 75, 76


Capability = Annotated[str, Pattern(r"[0-9]{1,2}\.[0-9]", "a compute capability such as 8.7")]


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: its name in the driver, and its compute capability such as "8.7"."""

    name: Line
    compute_capability: Capability


def find_gpu() -> Gpu | None:
    """The first CUDA device; None without a driver or a device."""
    driver = _load_driver()
    if driver is None:
        return None
    device, count = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    name = ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    if (
        driver.cuDeviceGetName(name, len(name), device)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    ):
        return None
    return Gpu(name.value.decode("utf-8", "replace"), f"{major.value}.{minor.value}")


def _load_driver() -> ctypes.CDLL | None:
    names = ["nvcuda.dll"] if sys.platform == "win32" else ["libcuda.so.1", "libcuda.so"]
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
