"""Devices at a serial port: serial:/dev/ttyUSB0, serial:COM3?baud=9600, or a URL of pyserial."""

from __future__ import annotations

import contextlib

from multires_edge.base.errors import DataError, require_extra
from multires_edge.runtime.ecg.sources.connections import Connection
from multires_edge.runtime.ecg.sources.devices.messages import Messages

_BAUD = 115_200
_BYTES = 1 << 16


def connect(address: str, silence: float | None, patience: float) -> Connection:
    """Raises DataError, and MissingExtraError without the library."""
    require_extra("serial", "reading a serial port", "serial")
    import serial

    name, _, options = address.partition(":")[2].partition("?")
    key, _, value = options.partition("=")
    if not name or (options and (key != "baud" or not value.isdecimal())):
        raise DataError(f"{address}: expected serial:PORT or serial:PORT?baud=115200")
    try:
        port = serial.serial_for_url(name, baudrate=int(value or _BAUD), timeout=0)
    except (OSError, ValueError) as error:  # SerialException is an OSError
        reason = getattr(error, "strerror", None) or "no such port, or it is in use"
        raise DataError(f"{address}: cannot be opened ({reason})") from error

    def pull(seconds: float) -> bytes | None:
        try:
            port.timeout = seconds
            first = port.read(1)
            if not first:
                return None
            port.timeout = 0
            return bytes(first + port.read(_BYTES))
        except TypeError:  # pyserial's way to say that the port was closed meanwhile
            return b""

    def close() -> None:
        with contextlib.suppress(OSError, AttributeError):
            port.cancel_read()
        with contextlib.suppress(OSError):
            port.close()

    return Messages(pull, close, silence, raw=True).connection
