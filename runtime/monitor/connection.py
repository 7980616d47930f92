"""The connections of the page's server: every answer has the page's headers, and their number is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.http11 import Response
from websockets.server import ServerProtocol

from multires_edge.runtime.monitor.assets import security_headers

# More connections than these at a time, browsers that are shown the page left out, cut off the oldest one:
# they would use up the files of the process, which sources and outputs need too.
MOST_STRANGERS = 64

# The connections that are not shown the page (yet), the oldest first.
Strangers = dict[asyncio.BaseProtocol, asyncio.Transport]


def connections_among(strangers: Strangers) -> type[ServerConnection]:
    """A type of connection that enters itself into ``strangers``. Whoever is shown the page is taken out."""

    class PageConnection(ServerConnection):
        def __init__(self, protocol: ServerProtocol, server: Server, **options: Any) -> None:
            super().__init__(protocol, server, **options)
            send = protocol.send_response

            def send_response(response: Response) -> None:
                for name, value in security_headers("").items():
                    if name not in response.headers:
                        response.headers[name] = value
                send(response)

            # The library answers some requests itself, such as one with a header that is too long.
            protocol.send_response = send_response  # type: ignore[method-assign]

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            assert isinstance(transport, asyncio.Transport)
            strangers[self] = transport
            if len(strangers) > MOST_STRANGERS:
                strangers.pop(next(iter(strangers))).abort()

        def connection_lost(self, exc: Exception | None) -> None:
            strangers.pop(self, None)
            super().connection_lost(exc)

    return PageConnection
