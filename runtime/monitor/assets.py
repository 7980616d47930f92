"""The files of the page, and the headers that restrict a browser to this server."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base import palette

_PAGE = Path(__file__).with_name("page")
_TEXT = "text/plain; charset=utf-8"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_REFUSAL = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Monitor</title><link rel="stylesheet" href="/palette.css"><link rel="stylesheet" href="/monitor.css">
<body class="refusal"><main><h1>{title}</h1><p>{message}</p>{form}</main></body></html>
"""
_FORM = """<form><label>Token <input name="token" type="password" required autofocus></label>
<button>Show the monitor</button></form>"""


@dataclass(frozen=True)
class Asset:
    """A file of the page."""

    content_type: str
    body: bytes


def load_page() -> dict[str, Asset]:
    """Every file of the page by its path. The server sends no other files."""
    assets = {
        f"/{path.relative_to(_PAGE).as_posix()}": Asset(_TYPES.get(path.suffix, _TEXT), path.read_bytes())
        for path in _PAGE.rglob("*")
        if path.is_file()
    }
    colours = Asset(_TYPES[".css"], palette.css().encode())
    return assets | {"/": assets["/index.html"], "/palette.css": colours}


def refusal_page(title: str, message: str, *, ask_for_token: bool) -> bytes:
    """A page that says why a request was refused. With ``ask_for_token`` it has a form for the token."""
    form = _FORM if ask_for_token else ""
    return _REFUSAL.format(title=html.escape(title), message=html.escape(message), form=form).encode(
        "utf-8", "replace"
    )


def security_headers(host: str) -> dict[str, str]:
    """Headers of every answer. ``host`` is the requested address, which older browsers need."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": f"'self' ws://{host} wss://{host}",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Cache-Control": "no-store",
    }
