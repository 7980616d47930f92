"""Tells systemd that a run is ready and alive, for ``Type=notify`` and ``WatchdogSec=``."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time


class Service:
    """Sends messages if a service manager asks for them (sd_notify(3), sd_watchdog_enabled(3)).

    A run that hangs sends nothing, so systemd kills and restarts it. A silent source does not stop the
    messages.
    """

    def __init__(self) -> None:
        # Windows has no such sockets.
        self._address = "" if sys.platform == "win32" else os.environ.get("NOTIFY_SOCKET", "")
        period = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Half of the allowed time, as sd_watchdog_enabled(3) recommends.
        self._period = int(period) / 2e6 if period.isdigit() and mine else None
        self._told: float | None = None

    def alive(self) -> None:
        """Send "ready" the first time, later a sign of life when it is due. Every round calls this."""
        if not self._address:
            return
        now = time.monotonic()
        if self._told is None:
            self._send("READY=1")
        elif self._period is None or now - self._told < self._period:
            return
        if self._period is not None:
            self._send("WATCHDOG=1")
        self._told = now

    def _send(self, message: str) -> None:
        address = self._address
        if address.startswith("@"):  # in the abstract namespace
            address = "\0" + address[1:]
        # A missing listener must not stop the decisions.
        if sys.platform != "win32":
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), address)
