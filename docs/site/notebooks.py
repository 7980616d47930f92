"""Runs a notebook and writes it as a page with what it prints and draws.

The notebooks of the repository have no outputs: they would be old, and each run would change them. They use
plain Python and Matplotlib, so no kernel is needed to run them; Jupyter opens them all the same.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import linecache
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class NotebookError(Exception):
    """An invalid notebook, or a cell that failed."""


@dataclass(frozen=True)
class Cell:
    """A cell with its outputs: ``printed`` text, and ``figures`` as PNG."""

    kind: str
    source: str
    printed: str = ""
    figures: list[bytes] = field(default_factory=list)


def read_notebook(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook (nbformat 4). Raises NotebookError."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells: list[dict[str, Any]] = notebook["cells"]
        if notebook["nbformat"] != 4:
            raise NotebookError(f"{path}: nbformat is {notebook['nbformat']}, expected 4")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotebookError(f"{path}: is no notebook ({error})") from error
    return cells


def run_notebook(path: Path) -> list[Cell]:
    """Run all cells in this process, in one namespace. Raises NotebookError with the cell that failed."""
    import matplotlib as mpl

    names: dict[str, Any] = {"__name__": "__main__"}
    done = []
    with mpl.rc_context({"backend": "agg"}):
        for number, cell in enumerate(read_notebook(path), 1):
            source = "".join(cell["source"])
            if cell["cell_type"] != "code":
                done.append(Cell(cell["cell_type"], source))
                continue
            printed = io.StringIO()
            try:
                with contextlib.redirect_stdout(printed):
                    _run(source, f"{path.name}, cell {number}", names)
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                raise NotebookError(f"{path}: cell {number} failed: {what}") from error
            done.append(Cell("code", source, printed.getvalue(), list(_figures())))
    return done


def page_of(cells: list[Cell], name: str) -> tuple[str, dict[str, bytes]]:
    """The page in Markdown, and its figures by file name; ``name`` is that of the notebook."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in cells:
        parts.append(f"````python\n{cell.source}\n````" if cell.kind == "code" else cell.source)
        if cell.printed:
            parts.append(f"````text\n{cell.printed.rstrip()}\n````")
        for figure in cell.figures:
            file = f"{name}-{len(figures) + 1}.png"
            figures[file] = figure
            parts.append(f"![What the cell above draws]({file})")
    return "\n\n".join(parts) + "\n", figures


def _run(source: str, name: str, names: dict[str, Any]) -> None:
    """Run a cell. As in Jupyter, the value of a last expression is printed."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for traces
    body = ast.parse(source, name)
    last = body.body[-1] if body.body else None
    if isinstance(last, ast.Expr):
        del body.body[-1]
    exec(compile(body, name, "exec"), names)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), name, "eval"), names)
        if value is not None:
            print(repr(value))


def _figures() -> Iterator[bytes]:
    """The figures that a cell left open. They are closed."""
    import matplotlib.pyplot as plt

    for number in plt.get_fignums():
        content = io.BytesIO()
        plt.figure(number).savefig(content, format="png", dpi=110, metadata={"Software": None})
        yield content.getvalue()
    plt.close("all")
