"""The memory that the system still has."""

from __future__ import annotations

import os
from pathlib import Path


def available_memory() -> int:
    """Bytes that a process can still use. Linux ends a process that uses more, so ask before.

    On other systems these are the bytes that the machine has.
    """
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return 1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"])
    except (OSError, ValueError, LookupError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
