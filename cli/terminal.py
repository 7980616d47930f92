"""What commands share: errors as one line and exit code 2, warnings, passing progress, tables."""

from __future__ import annotations

import errno
import functools
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from multires_edge.base.errors import MultiresError

Function = TypeVar("Function", bound=Callable[..., Any])

USAGE_ERROR = 2


def command_errors(function: Function) -> Function:
    """Add ``--debug``, and turn a MultiresError into a line on stderr and exit code 2."""

    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def wrapped(*args: Any, debug: bool, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            try:
                return function(*args, **kwargs)
            except MultiresError as error:
                if debug:
                    raise
                click.echo(f"error: {one_line(str(error))}", err=True)
                sys.exit(USAGE_ERROR)
            except OSError as error:
                # Files that are written say so themselves; what is left is standard output.
                if debug or error.errno != errno.ENOSPC:
                    raise
                click.echo(f"error: the output cannot be written ({error.strerror})", err=True)
                sys.exit(USAGE_ERROR)

    return wrapped  # type: ignore[return-value]


def one_line(text: str, longest: int = 600) -> str:
    """Libraries put line breaks and pages of context into their messages; a terminal line has neither.

    Nor does it obey what a file or a device says: control characters are replaced.
    """
    joined = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
    return joined if len(joined) <= longest else joined[: longest - 1] + "…"


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    if isinstance(message, UserWarning):
        click.echo(f"warning: {one_line(str(message))}", err=True)


class Progress:
    """One line on stderr that says what is being done; gone at the end, and absent off a terminal."""

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
    """One JSON document on stdout."""
    click.echo(json.dumps(entry, indent=2, ensure_ascii=False))


def print_table(rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset()) -> None:
    """Columns as wide as their longest cell, those in ``right`` flush right."""
    rows = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  " + "  ".join(cells).rstrip())


def human_bytes(count: int) -> str:
    """A size for a person, such as 2.4 MB."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
