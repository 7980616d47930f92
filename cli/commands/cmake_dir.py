"""``multires-edge cmake-dir``: where CMake finds the C++ engine that came with this package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from multires_edge.base.errors import BackendError
from multires_edge.cli.terminal import command_errors


@click.command()
@command_errors
def cmake_dir() -> None:
    """Print the folder of the C++ engine's CMake package.

    For programs in C and C++ that link the engine: ``cmake -Dmultires_DIR="$(multires-edge cmake-dir)"``
    lets ``find_package(multires CONFIG REQUIRED)`` find headers and static library.
    """
    click.echo(find_cmake_package())


def find_cmake_package() -> Path:
    """The folder of multires-config.cmake. Raises BackendError where it was not installed."""
    # Beside the compiled module, which in an editable install is not where the Python files are.
    module = find_spec("multires_edge.runtime.backends._native")
    if module is not None and module.origin is not None:
        folder = Path(module.origin).resolve().parents[1] / "sdk" / "lib" / "cmake" / "multires"
        if (folder / "multires-config.cmake").is_file():
            return folder
    raise BackendError(
        "the C++ engine is not part of this installation; install multires-edge with a C++ compiler at "
        "hand, or build and install runtime/cpp with CMake"
    )
