"""Hostile requests to the page's server, generated: request lines, headers, secrets, handshakes, frames."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

_LINES = (
    "GET {path} HTTP/1.1", "GET {path} HTTP/1.0", "GET {path} HTTP/2.0", "GET {path}", "get {path} HTTP/1.1",
    "HEAD {path} HTTP/1.1", "POST {path} HTTP/1.1", "CONNECT {path} HTTP/1.1", "{path}", "",
    "GET  {path}  HTTP/1.1",
    "\x16\x03\x01\x02\x00\x01", "PRI * HTTP/2.0", "GET {path} HTTP/1.1\x00", "\xff\xfe {path} HTTP/1.1",
    "GET\t{path}\tHTTP/1.1", "GET {path} HTTP/9999999999.1", "X" * 9000 + " {path} HTTP/1.1",
)  # fmt: skip
_PATHS = (
    "/", "/stream", "/main.js", "/../server.py", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/%00",
    "/main.js%00.html", "//[", "//[::1", "//etc/passwd", "/\\..\\server.py", "/" + "a/" * 3000,
    "/" + "x" * 9000, "*", "http://127.0.0.1/", "http://evil.example/", "/?" + "a=1&" * 2000, "/?token=",
    "/?token=%ff%fe", "/?token=" + "t" * 5000, "/?token[]=1&token=2", "/#?token=wrong", "/;x",
    "/<script>alert(1)</script>", "/%", "/%zz", "/\xe4\xf6", "/?=&=&;", "/stream?x", "/STREAM",
    "/uplot/../index.html", "\u20ac",
)  # fmt: skip
_VALUES = (
    "", "x", "\x00", "\x7f", "\xff\xfe", "\t \t", "x" * 8000, "x" * 20000, "a,b;c=d", '"', "(" * 500, ",,,,",
    "0", "-1", "99999999999999999999", "chunked", "<b>", "\ud7ff", "%s%n", "../../etc/passwd", "null",
)  # fmt: skip
_NAMES = (
    "Host", "Origin", "Cookie", "Authorization", "Upgrade", "Connection", "Sec-WebSocket-Key",
    "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Content-Length",
    "Transfer-Encoding", "Expect", "X", "", "A B", "\xe4", "X\x00Y", ":", "Content-Type", "Range",
)  # fmt: skip
_EXTENSIONS = (
    "permessage-deflate", "permessage-deflate; server_max_window_bits=99999", "permessage-deflate; x" * 50,
    'permessage-deflate; a="\\"', ";;;", "x" * 7000,
)  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """Parts that are sent one after the other. ``paused``: the client waits between them, and at the end.

    ``shakes``: the first part is a proper handshake, whose answer the client waits for.
    """

    what: str
    parts: tuple[bytes, ...]
    paused: bool = False
    shakes: bool = False


def hostile_requests(count: int, secrets: list[str], seed: int = 0) -> Iterator[Attack]:
    """Requests of all kinds in turn. ``secrets`` are headers that let a request in."""
    kinds = (_request_line, _headers, _secrets, _handshake, _frames, _frames, _slow)
    for number in range(count):
        draw = random.Random(f"{seed}/{number}")
        kind = kinds[number % len(kinds)]
        yield replace(kind(draw, secrets), what=f"{number}: {kind.__name__}")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", "replace")


def _request_line(draw: random.Random, secrets: list[str]) -> Attack:
    line = draw.choice(_LINES).format(path=draw.choice(_PATHS))
    end = draw.choice(("\r\n", "\r\n", "\r\n", "\n", "\r", ""))
    head = _bytes(f"{line}{end}Host: 127.0.0.1{end}{draw.choice(secrets)}{end}{end}")
    return Attack("", (_garbled(head, draw),))


def _garbled(data: bytes, draw: random.Random) -> bytes:
    """Data as they are, or with some bytes changed, or cut off."""
    match draw.randrange(4):
        case 0:
            changed = bytearray(data)
            for _ in range(draw.randrange(1, 6)):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            return bytes(changed)
        case 1:
            return data[: draw.randrange(1, len(data) + 1)]
        case _:
            return data


def _headers(draw: random.Random, secrets: list[str]) -> Attack:
    lines = [
        f"{draw.choice(_NAMES)}: {draw.choice(_VALUES)}" for _ in range(draw.choice((1, 3, 10, 127, 400)))
    ]
    lines += draw.choice(([], ["Host: 127.0.0.1"], ["Host: 127.0.0.1", draw.choice(secrets)]))
    lines += draw.choice(([], [" folded"], ["no colon"], ["Content-Length: 5", "", "12345"]))
    draw.shuffle(lines)
    head = "\r\n".join([f"GET {draw.choice(_PATHS[:3])} HTTP/1.1", *lines, "", ""])
    return Attack("", (_bytes(head),))


def _secrets(draw: random.Random, secrets: list[str]) -> Attack:
    """Cookies and tokens that are nearly right."""
    secret = draw.choice(secrets)
    name, _, value = secret.partition(": ")
    values = [
        value[:-1], value + "x", value.upper(), value[::-1], f"{value}; {value}", value.replace("=", "=="),
        value * 50, f"\x00{value}", draw.choice(_VALUES), value.partition("=")[0], f"a={value}",
    ]  # fmt: skip
    line = f"{name}: {draw.choice(values)}"
    path = draw.choice(("/", "/stream", f"/?token={draw.choice(values)}".replace(" ", "+")))
    return Attack("", (_bytes(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{line}\r\n\r\n"),))


def _handshake(draw: random.Random, secrets: list[str]) -> Attack:
    lines = _shake(secrets, draw)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(1, len(lines))
        name, _, value = lines[at].partition(": ")
        change = draw.choice(
            (
                [],
                [lines[at]] * 2,
                [f"{name}: {draw.choice(_VALUES)}"],
                [f"{name}: {value}{value}"],
                [name.lower()],
            )
        )
        lines[at : at + 1] = change or ["X: y"]
    if draw.random() < 0.5:
        lines.append(f"Sec-WebSocket-Extensions: {draw.choice(_EXTENSIONS)}")
    return Attack("", (_bytes("\r\n".join([*lines, "", ""])), b"\x81\x80abcd"))


def _shake(secrets: list[str], draw: random.Random) -> list[str]:
    return [
        "GET /stream HTTP/1.1", "Host: 127.0.0.1", draw.choice(secrets), "Connection: Upgrade",
        "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
    ]  # fmt: skip


def _frames(draw: random.Random, secrets: list[str]) -> Attack:
    """Frames behind a proper handshake: of any length, kind, mask and flags."""
    shake = [*_shake(secrets, draw), f"Sec-WebSocket-Extensions: {_EXTENSIONS[0]}", "", ""]
    frames = (_frame(draw) for _ in range(draw.choice((1, 2, 20, 200))))
    return Attack("", (_bytes("\r\n".join(shake)), *frames), shakes=True)


def _frame(draw: random.Random) -> bytes:
    opcode = draw.choice((0, 1, 1, 2, 8, 9, 10, draw.randrange(16)))
    flags = draw.choice((0x80, 0x80, 0x00, 0xC0, draw.randrange(16) << 4))
    body = draw.choice((
        b"", b"x", b"\xff\xfe\xfd", b"\xed\xa0\x80", b"x" * 125, b"x" * 126, b"x" * 1024, b"x" * 1025,
        b"x" * 70000, b"\x03\xe8", b"\x00\x00", b"\x03\xe8\xff", b"\xc1\x1d\x00", bytes(1000),
    ))  # fmt: skip
    masked = draw.choice((0x80, 0x80, 0x80, 0))
    claimed = draw.choice((len(body), len(body), len(body), 1 << 31, (1 << 63) - 1, (1 << 64) - 1, 3))
    if claimed < 126 and draw.random() < 0.9:
        length = bytes([masked | claimed])
    elif claimed < 65536:
        length = bytes([masked | 126]) + struct.pack(">H", claimed)
    else:
        length = bytes([masked | 127]) + struct.pack(">Q", claimed)
    mask = b"\x01\x02\x03\x04" if masked else b""
    if masked:
        body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))
    return bytes([flags | opcode]) + length + mask + body


def _slow(draw: random.Random, secrets: list[str]) -> Attack:
    """A request that comes in small parts, or never ends."""
    head = _bytes("\r\n".join([*_shake(secrets, draw), "", ""]))
    end = draw.randrange(1, len(head))
    cuts = sorted(draw.randrange(1, end + 1) for _ in range(draw.randrange(1, 5)))
    parts = [head[start:stop] for start, stop in zip([0, *cuts], [*cuts, end], strict=True)]
    return Attack("", tuple(part for part in parts if part), paused=True)
