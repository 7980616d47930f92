"""Names: in lists, for a terminal, and checked against the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from multires_edge.base.errors import ConfigError


def split_names(text: str) -> list[str]:
    """Names separated by commas, without the blanks around them.

    Raises ConfigError for an empty or repeated name.
    """
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        wrong = "an empty name" if "" in names else "a name twice"
        raise ConfigError(f"{text!r} has {wrong}, expected names separated by commas, each once")
    return names


def printable(text: str) -> str:
    """A text such as a file's name for a message: in one line, without control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text) or "-"


def listed(names: Sequence[str], shown: int = 3) -> str:
    """The first names, which may be those in a file, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(printable, names[:shown])) + more


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raise ConfigError unless ``name`` is known; the message has the nearest known one."""
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"unknown {what} {name!r}, expected one of {', '.join(known)}{hint}")
