"""Telling systemd that a run is up, and alive: what its ``Type=notify`` and ``WatchdogSec=`` listen for."""

from __future__ import annotations

import contextlib
import os
import socket
import time


class Service:
    """Does nothing where no service manager has asked (sd_notify(3), sd_watchdog_enabled(3)).

    A run that hangs is silent, and is killed and started again; one whose source is silent is not.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        period = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Twice as often as it must be, as sd_watchdog_enabled(3) recommends.
        self._period = int(period) / 2e6 if period.isdigit() and mine else None
        self._told: float | None = None

    def alive(self) -> None:
        """Called in every round: ready the first time, then a sign of life when one is due."""
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
        # Decisions do not depend on who listens.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode(), address)
