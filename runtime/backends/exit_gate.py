"""Threads that are inside a library when the program ends.

When a daemon thread comes back from a library after the program has ended, Python 3.10 to 3.13 stop it by
unwinding its stack. Libraries that are bound by pybind11, such as ONNX Runtime, then abort the process. So at
the end of the program the gate closes: it waits for the calls of other threads, and lets no more of them in.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref


class ExitGate:
    """A library's gate. Every thread calls the library under its own lock: ``with gate.lock(): ...``."""

    def __init__(self) -> None:
        # Reentrant: the thread that ends the program may still use the library.
        self._guard = threading.RLock()
        self._own = threading.local()
        self._locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()
        atexit.register(self._close)
        if sys.platform != "win32":
            os.register_at_fork(after_in_child=self._open)

    def lock(self) -> threading.RLock:
        """The lock of the calling thread. It is free, unless the gate has closed."""
        try:
            lock: threading.RLock = self._own.lock
        except AttributeError:
            lock = self._own.lock = threading.RLock()
            with self._guard:
                self._locks.add(lock)
        return lock

    def _close(self) -> None:
        self._guard.acquire()
        for lock in list(self._locks):
            lock.acquire()

    def _open(self) -> None:
        """A new process has none of the threads that hold locks."""
        self._guard = threading.RLock()
        self._own = threading.local()
        self._locks = weakref.WeakSet()
