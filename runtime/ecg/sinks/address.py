"""Addresses of sinks: ADDRESS#option=value&option=value. Secrets are in the environment or in files."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from multires_edge.base.errors import InputError
from multires_edge.base.files import read_regular

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(.+)", re.IGNORECASE | re.DOTALL)
_LONGEST_SECRET = 1 << 16

# Reads a secret again, because files with tokens are replaced while a run goes on.
Secret = Callable[[], str]


@dataclass(frozen=True)
class SinkAddress:
    """An address with its ``scheme`` in lower case, what follows the colon, and the options behind the #.

    ``name`` is what people see: without user, query and options.
    """

    scheme: str
    rest: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, spec: str) -> SinkAddress:
        """Raises InputError."""
        where, _, after = spec.partition("#")
        found = _SCHEME.fullmatch(where)
        if found is None:
            shown = spec.rpartition("@")[2]
            raise InputError(f"the sink {shown!r:.80} has no scheme, expected such as mqtt://HOST/TOPIC")
        options: dict[str, str] = {}
        for part in after.split("&") if after else []:
            key, equals, value = part.partition("=")
            if not key or not equals or key in options:
                raise InputError(
                    f"the sink {found[1]}: has the option {part!r:.40}, expected NAME=VALUE once"
                )
            options[key] = unquote(value)
        return cls(found[1].casefold(), found[2], options)

    @property
    def name(self) -> str:
        """The address as people see it."""
        rest = self.rest.partition("?")[0] if self.rest.startswith("//") else self.rest
        return f"{self.scheme}:" + re.sub(r"^(//)[^/@]*@|^[^/@]*:[^/@]*@", r"\1", rest)

    def check_options(self, *known: str) -> None:
        """Raise InputError for an option with another name."""
        for key in self.options:
            if key not in known:
                raise InputError(
                    f"{self.name}: the option {key!r:.40} is unknown, expected one of {', '.join(known)}"
                )

    def url(self, kind: str, port: int) -> tuple[SplitResult, str, int]:
        """The parts of a URL with a host, the host, and the port or the usual one. Raises InputError."""
        try:
            parts = urlsplit(f"x:{self.rest}")
            host, given = parts.hostname, parts.port
        except ValueError:
            parts, host, given = urlsplit(""), None, None
        if not host or not self.rest.startswith("//"):
            raise InputError(f"{self.name}: is no address of {kind}, expected {self.scheme}://HOST:PORT/...")
        if parts.password is not None:
            raise InputError(
                f"{self.name}: the address has a password, which other users of the machine can read; "
                "give #password=env:NAME or #password=file:PATH"
            )
        return parts, host, given or port

    def secret(self, key: str) -> Secret | None:
        """The secret of an option env:NAME or file:PATH. Raises InputError if it cannot be read now."""
        given = self.options.get(key)
        if given is None:
            return None
        kind, _, where = given.partition(":")
        if kind not in ("env", "file") or not where:
            raise InputError(
                f"{self.name}: {key} is given in the command, where other users of the machine can read it; "
                f"expected {key}=env:NAME or {key}=file:PATH"
            )

        def read() -> str:
            if kind == "env":
                value = os.environ.get(where, "")
            else:
                try:
                    value = read_regular(Path(where), _LONGEST_SECRET).decode().strip()
                except (OSError, UnicodeError) as error:
                    raise InputError(
                        f"{self.name}: {key} cannot be read from {where} "
                        f"({getattr(error, 'strerror', None) or 'it is not text'})"
                    ) from error
            if not value or any(ord(character) < 32 for character in value):
                raise InputError(f"{self.name}: {key} of {given} is not a line of text, set it to one")
            return value

        read()
        return read

    def tls(self) -> ssl.SSLContext:
        """Trusts the system's and ``ca``; ``cert`` and ``key`` are the client's. Raises InputError."""
        context = ssl.create_default_context()
        ca, cert, key = (self.options.get(name) for name in ("ca", "cert", "key"))
        try:
            if ca is not None:
                context.load_verify_locations(ca)
            if cert is not None:
                # A question for the key's password would wait for a person.
                context.load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "strerror", None) or "it is no certificate, or the key is another's"
            raise InputError(f"{self.name}: ca, cert and key cannot be used ({reason})") from error
        return context
