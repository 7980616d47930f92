"""Open files by their descriptors, as POSIX and Windows have them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import threading

    # Without it, Windows changes the ends of lines.
    _ALWAYS = os.O_BINARY
    NO_LINKS = NO_TERMINAL = 0
    _guard = threading.Lock()
else:
    # A pipe without a writer or a reader would wait. Files never do.
    _ALWAYS = os.O_NONBLOCK
    NO_LINKS, NO_TERMINAL = os.O_NOFOLLOW, os.O_NOCTTY


def open_file(path: Path, flags: int, mode: int = 0o666) -> int:
    """Open a file by the flags of ``os``; returns its descriptor. A pipe does not wait. Raises OSError."""
    return os.open(path, flags | _ALWAYS, mode)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """At most ``size`` bytes from a place of an open file, whose position stays. Raises OSError."""
    if sys.platform == "win32":
        with _guard:
            before = os.lseek(descriptor, 0, os.SEEK_CUR)
            try:
                os.lseek(descriptor, offset, os.SEEK_SET)
                return os.read(descriptor, size)
            finally:
                os.lseek(descriptor, before, os.SEEK_SET)
    else:
        return os.pread(descriptor, size, offset)


def write_at(descriptor: int, data: bytes, offset: int) -> int:
    """Write to a place of an open file; returns how many bytes were written. Raises OSError."""
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)
    else:
        return os.pwrite(descriptor, data, offset)


def append(descriptor: int, data: bytes) -> int:
    """Write at the end of a file that was opened with O_APPEND; returns how many bytes were written.

    Others may read the file by :func:`read_at` meanwhile. Raises OSError.
    """
    if sys.platform == "win32":
        with _guard:
            return os.write(descriptor, data)
    else:
        return os.write(descriptor, data)
