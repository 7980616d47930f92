"""The paths of a command line: what a command reads, and what it writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from multires_edge.base.errors import InputError, OutputError
from multires_edge.base.files import lies_in


class FilePath(click.Path):
    """A path, shown in the help as ``metavar``. ``written``: the command writes it, and reads all others."""

    def __init__(self, metavar: str = "FILE", *, written: bool = False) -> None:
        super().__init__(path_type=Path)
        self._metavar, self.written = metavar, written

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self._metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # An empty variable of a shell: as a path, it would be the current folder.
        if not os.fspath(value):
            self.fail("is empty, expected a path", param, ctx)
        return super().convert(value, param, ctx)


class CheckpointPath(FilePath):
    """A path, or an address of a hub, which stays a string."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if str(value).startswith("hf://") else super().convert(value, param, ctx)


def beside(bundle: Path, suffix: str) -> Path:
    """The path of a bundle with another suffix, for an output that has no name. Raises InputError."""
    path = Path(os.path.abspath(bundle))  # noqa: PTH100, which leaves ".." in the path
    if not path.name:
        raise InputError(f"{bundle}: has no name for the output; give -o")
    return path.with_suffix(suffix)


def check_outputs(context: click.Context) -> None:
    """Check what a command writes by :func:`check_spares_inputs`. Raises OutputError."""
    read, written = list[Path](), list[Path]()
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if isinstance(parameter.type, FilePath) and value is not None:
            paths = value if isinstance(value, tuple) else (value,)
            given = written if parameter.type.written else read
            given.extend(path for path in paths if isinstance(path, Path))
    for number, output in enumerate(written):
        check_spares_inputs(output, read)
        if any(_same(output, other) for other in written[:number]):
            raise OutputError(f"{output}: is given for two outputs; choose two names")


def check_spares_inputs(output: Path, read: Iterable[Path]) -> None:
    """Raise OutputError for an output that would replace a path that is read, or lies in a bundle."""
    from multires_edge.format.manifest import FILE_NAME

    for path in read:
        # An output may be a folder, which is replaced as a whole.
        if _same(output, path) or lies_in(path, output):
            raise OutputError(f"{output}: would replace {path}, which is read; choose another output")
        if lies_in(output, path) and (path / FILE_NAME).is_file():
            raise OutputError(f"{output}: lies in the bundle {path}; choose a place outside it")


def _same(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)
