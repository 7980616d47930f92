"""Show the lines of a session. The page shows exactly the lines that `stream` would write."""

from __future__ import annotations

from multires_edge.runtime.ecg.file_mark import FileMark
from multires_edge.runtime.ecg.output import Output
from multires_edge.runtime.ecg.session import Session
from multires_edge.runtime.monitor.hub import Hub
from multires_edge.runtime.monitor.server import MonitorServer


class PageOutput(Output):
    """An output that shows every line on the page, after ``inner`` (if any) has written it."""

    def __init__(self, inner: Output | None, server: MonitorServer, hub: Hub, session: Session) -> None:
        self._inner, self._server, self._hub, self._session = inner, server, hub, session
        self._over: set[int] = set()

    def write(self, lines: list[str]) -> None:
        if self._inner is not None:
            self._inner.write(lines)
        for line in lines:
            self._server.call(self._hub.line, line)
        for number, finished in enumerate(self._session.finished):
            if finished and number not in self._over:
                self._over.add(number)
                self._server.call(self._hub.ended, number)

    def checkpoint(self) -> FileMark | None:
        return None if self._inner is None else self._inner.checkpoint()

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
