"""Who may see the page. It depends on the request's address, its origin, and the token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from multires_edge.base.errors import InputError

_SHORTEST_TOKEN = 8
_MOST_FIELDS = 16
_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


class Refused(Exception):
    """A refused request: the HTTP status, and a message that says what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Gate:
    """Lets requests through, or raises :class:`Refused`.

    The server answers only to IP addresses and to its own names, which prevents DNS rebinding. It refuses
    requests whose Origin is another site. With a ``token``, a request needs it in the address (once, then as
    a cookie) or as a bearer token. Raises InputError if other machines can reach ``host`` without a token.
    """

    def __init__(self, host: str, token: str | None, names: Sequence[str] = ()) -> None:
        if token is None and not is_loopback(host):
            raise InputError(
                f"--host {host} can be reached from other machines, so it needs a --token, such as "
                '"$(openssl rand -hex 16)"; without a token only --host 127.0.0.1 is allowed'
            )
        if token is not None and len(token) < _SHORTEST_TOKEN:
            raise InputError(f"the token has {len(token)} characters, expected {_SHORTEST_TOKEN} or more")
        self._token = None if token is None else token.encode("utf-8", "surrogateescape")
        own = socket.gethostname().casefold()
        self._names = {"localhost", own, f"{own}.local", host.casefold(), *(n.casefold() for n in names)}

    def check_address(self, headers: Mapping[str, str]) -> None:
        """Raise Refused if the host is not a name of this server, or the origin is another site."""
        host = headers.get("Host", "")
        name = _name_of(host)
        if name is None or not (_address(name) or name in self._names):
            raise Refused(
                421,
                f"This monitor does not answer to {host!r}: use its IP address, or start it with "
                "--allow-name NAME.",
            )
        origin = headers.get("Origin")
        if origin is not None and origin.partition("://")[2].casefold() != host.casefold():
            raise Refused(403, "Pages of other sites may not read from this monitor.")

    def cookie_for(self, path: str) -> str | None:
        """The cookie for a path with the right token, None for a path without a token.

        Raises Refused for a wrong token.
        """
        try:
            given = parse_qs(query_of(path), max_num_fields=_MOST_FIELDS).get("token")
        except ValueError:
            raise Refused(400, "This address has too many fields.") from None
        if self._token is None or given is None:
            return None
        if not _same(given[0], self._token):
            raise Refused(401, "This is not the token that the monitor was started with.")
        # Lax: a link on another site may open the page. The socket checks the origin itself.
        return f"{self._cookie()}={self._digest('ticket')}; Path=/; HttpOnly; SameSite=Lax"

    def check_token(self, headers: Mapping[str, str]) -> None:
        """Raise Refused for a request without the token, if the server has one."""
        if self._token is None:
            return
        kind, _, bearer = headers.get("Authorization", "").partition(" ")
        if kind.casefold() == "bearer" and _same(bearer.strip(), self._token):
            return
        # By hand: the standard library rejects all cookies if another program's cookie is not to its taste.
        cookies = (each.strip().partition("=") for each in headers.get("Cookie", "").split(";"))
        given = next((value for name, _, value in cookies if name == self._cookie()), None)
        if given is None or not _same(given, self._digest("ticket").encode()):
            raise Refused(401, "Give the token that this monitor was started with.")

    def check_program(self, headers: Mapping[str, str]) -> None:
        """Raise Refused for a program's request: it needs the token, or else a name of this machine."""
        if self._token is None:
            self.check_address(headers)
        else:
            self.check_token(headers)

    def _cookie(self) -> str:
        """The name of the cookie: each token's own, because all ports of a host share their cookies.

        The port would not do: two devices behind tunnels or a proxy may have the same port.
        """
        return f"monitor-{self._digest('name')[:6]}"

    def _digest(self, purpose: str) -> str:
        """22 characters from which the token cannot be derived.

        A browser keeps at most 180 cookies of a host. That many of these fit the 8192 bytes of a header.
        """
        assert self._token is not None
        digest = hmac.new(self._token, f"multires-edge monitor {purpose}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def query_of(path: str) -> str:
    """The query of a request's path."""
    return path.partition("#")[0].partition("?")[2]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    address = _address(host)
    return host.casefold() == "localhost" if address is None else address.is_loopback


def _name_of(host: str) -> str | None:
    match = _HOST.fullmatch(host)
    return match["name"].strip("[]").casefold() if match else None


def _same(given: str, secret: bytes) -> bool:
    """Whether both are equal. The time of the comparison does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
