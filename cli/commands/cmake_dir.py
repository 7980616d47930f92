"""``multires-edge cmake-dir``: the C++ engine of this package, for CMake."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from multires_edge.base.errors import BackendError
from multires_edge.cli.command import Command
from multires_edge.cli.options import json_option
from multires_edge.cli.terminal import print_json


@click.command(cls=Command)
@json_option
def cmake_dir(as_json: bool) -> None:
    """Print the folder of the C++ engine's CMake package.

    Programs in C and C++ link the engine: with `cmake -Dmultires_DIR="$(multires-edge cmake-dir)"`,
    `find_package(multires CONFIG REQUIRED)` finds the headers and the static library.
    """
    folder = str(find_cmake_package())
    if as_json:
        print_json({"cmake_dir": folder})
    else:
        click.echo(folder)


def find_cmake_package() -> Path:
    """The folder of multires-config.cmake. Raises BackendError if it is not installed."""
    # In an editable install the compiled library, and this folder with it, is not beside the Python files.
    module = find_spec("multires_edge.runtime.backends._engine")
    if module is not None and module.origin is not None:
        folder = Path(module.origin).resolve().parents[1] / "sdk" / "lib" / "cmake" / "multires"
        if (folder / "multires-config.cmake").is_file():
            return folder
    raise BackendError(
        "the libraries for C++ are not part of this installation; install multires-edge from source, where a "
        "C++ compiler is installed, or build and install runtime/cpp with CMake"
    )
