"""Cuts bytes into lines, whatever comes."""

from __future__ import annotations

from multires_edge.runtime.ecg.sources.text.parser import LONGEST_LINE


class Lines:
    """Collects the bytes of a connection. The work of a read is that of its own bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def add(self, data: bytes) -> list[bytes]:
        """The lines that the bytes complete. Of a line that is too long the first LONGEST_LINE bytes."""
        first, *others = data.split(b"\n")
        room = LONGEST_LINE - len(self._rest)
        self._rest += first[:room]
        if not others:
            return []
        lines = [bytes(self._rest), *others[:-1]]
        self._rest = bytearray(others[-1])
        return lines

    def finish(self) -> list[bytes]:
        """The line that lacks its end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest else []
