"""The output of commands: lines on stderr, progress, JSON, tables."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click


def say(text: str) -> None:
    """Write a line to stderr."""
    click.echo(text, err=True)


def one_line(text: str, longest: int = 600) -> str:
    """A message as one line of a terminal, cut at ``longest`` characters.

    Messages of libraries have line breaks, and names from files may have control characters: the line has
    neither.
    """
    joined = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
    return joined if len(joined) <= longest else joined[: longest - 1] + "…"


class Progress:
    """A line on stderr that says what the command is doing, removed at the end; only on a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, what: str) -> None:
        if self._shown:
            click.echo(f"\r\x1b[K{what} …", nl=False, err=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)


def print_json(entry: Any) -> None:
    """Write a JSON document to stdout. NaN and infinity, which JSON does not have, become null."""
    click.echo(json.dumps(_finite(entry), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {key: _finite(value) for key, value in entry.items()}
    if isinstance(entry, list | tuple):
        return [_finite(value) for value in entry]
    return None if isinstance(entry, float) and not math.isfinite(entry) else entry


def print_table(rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset()) -> None:
    """Print columns as wide as their longest cell; the columns in ``right`` are flush right."""
    rows = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  " + "  ".join(cells).rstrip())


def print_figures(rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first row has the heads and first column the names. Empty columns are left out."""
    shown = [column for column in zip(*rows, strict=True) if any(column[1:])]
    print_table(list(zip(*shown, strict=True)), frozenset(range(1, len(shown))))


def interval(bounds: tuple[float, float] | None, form: str = ".4f") -> str:
    """The bounds of an interval, empty if there is no interval."""
    return "" if bounds is None else f"[{bounds[0]:{form}}, {bounds[1]:{form}}]"


def counted(count: int, noun: str) -> str:
    """A number of things, such as "1 record" or "2 records"."""
    return f"{count} {noun}{'s' if count > 1 else ''}"


def human_bytes(count: int) -> str:
    """A size for a person, such as 2.4 MB."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
