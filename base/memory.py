"""The memory that the system still has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import ctypes

    class _Memory(ctypes.Structure):
        """MEMORYSTATUSEX of Windows."""

        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "free", "total_pages", "free_pages")),
            *((name, ctypes.c_uint64) for name in ("total_virtual", "free_virtual", "free_extended")),
        )

    def available_memory() -> int:
        """Bytes that a process can still use, with the file that pages go to."""
        memory = _Memory(length=ctypes.sizeof(_Memory))
        known = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(memory))
        return int(memory.free_pages) if known else sys.maxsize
else:

    def available_memory() -> int:
        """Bytes that a process can still use. Linux ends a process that uses more, so ask before.

        On macOS these are the bytes that the machine has.
        """
        try:
            lines = Path("/proc/meminfo").read_text("ascii").splitlines()
            kilobytes = {
                name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)
            }
            return 1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"])
        except (OSError, ValueError, LookupError):
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
