"""Run a command as Windows would, as far as Linux can show it.

    python -m tests.cli.as_windows COMMAND [ARGUMENT ...]

Modules lack what they lack there. This package may not open files in text mode or folders, and can neither
move nor delete a file that is open. Libraries are imported before, for the system that they are on.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click.testing
import numpy as np

LIBRARIES = (asyncio, click.testing, np, subprocess, tempfile, unittest.mock)
MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios")
OPEN_FLAGS = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_APPEND", "O_CREAT", "O_EXCL", "O_TRUNC"}
NAMES: dict[Any, tuple[str, ...]] = {
    os: (
        *(name for name in dir(os) if name.startswith("O_") and name not in OPEN_FLAGS),
        *("pread", "preadv", "pwrite", "pwritev", "fchmod", "fchown", "chown", "set_blocking", "mkfifo"),
        *("fork", "register_at_fork", "setsid", "nice", "wait3", "sched_getaffinity"),
        *("getuid", "geteuid", "getgid", "sysconf", "uname", "statvfs", "fstatvfs", "posix_fadvise"),
    ),
    signal: ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "setitimer"),
    socket: ("AF_UNIX",),
}
O_BINARY = 1 << 30
_PACKAGE = "multires_edge."


def _global_memory(status: Any) -> int:
    status._obj.free_pages = 1 << 33
    return 1


def become_windows() -> None:
    """Change this process. What is imported afterwards takes it for one on Windows."""
    for module, names in NAMES.items():
        for name in names:
            delattr(module, name)
    sys.modules |= dict.fromkeys(MODULES)  # type: ignore[arg-type]
    os.O_BINARY = O_BINARY  # type: ignore[attr-defined]
    os.open = _opening(os.open)
    for name in ("replace", "rename", "unlink", "remove"):
        setattr(os, name, _unless_open(getattr(os, name)))
    ctypes.windll = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=_global_memory))  # type: ignore[attr-defined]
    sys.platform = "win32"


def _opening(really: Any) -> Any:
    def opened(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        ours = str(sys._getframe(1).f_globals["__name__"]).startswith(_PACKAGE)
        assert flags & O_BINARY or not ours, f"{path} is opened in text mode"
        return int(really(path, flags & ~O_BINARY, *arguments, **more))

    return opened


def _is_open(path: Any, link: Path) -> bool:
    try:
        return os.path.samestat(Path(path).stat(), link.stat())
    except OSError:  # there is no such file, or it was closed
        return False


def _unless_open(change: Callable[..., None]) -> Callable[..., None]:
    def changed(*paths: Any, **more: Any) -> None:
        for path in paths:
            if any(_is_open(path, link) for link in Path("/proc/self/fd").iterdir()):
                raise PermissionError(13, "The file is being used", str(path))
        change(*paths, **more)

    return changed


if __name__ == "__main__":
    become_windows()
    from multires_edge.cli.main import main

    main()
