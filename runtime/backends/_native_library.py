"""The library of the native engine, called by ctypes: one file for every Python of a platform.

The functions are those of multires.h, and those of runtime/cpp/python. ctypes releases the interpreter's lock
while they run.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from multires_edge.base.errors import BackendError
from multires_edge.base.installation import pip_install
from multires_edge.runtime.backends._native_interface import INTERFACE

POINTER, SIZE, INT, TEXT, REFERENCE = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_void_p),
)
_ERROR, _MEMORY, _DRIVER = 1, 2, 3  # NativeStatus
_STATUS_MEMORY = 5  # multires_status


class DriverError(RuntimeError):
    """An error of the GPU's driver. ``args`` are the message and the driver's number."""


def library_path() -> Path | None:
    """The file of the library; None if it was not built."""
    # An editable installation has it elsewhere, and its hook knows where.
    found = find_spec("multires_edge.runtime.backends._engine")
    return None if found is None or found.origin is None else Path(found.origin)


def _load() -> ctypes.CDLL:
    path = library_path()
    if path is None:
        raise ImportError("there is no library _engine")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(str(error)) from error
    _check_interface(library, path)
    return library


def _check_interface(library: ctypes.CDLL, path: Path) -> None:
    """Raise BackendError if the library has other functions or structs than this package calls."""
    try:
        ask = library.native_interface
    except AttributeError:  # that of a release before fingerprints
        found = None
    else:
        ask.restype = TEXT
        found = ask()
    if found != INTERFACE.encode():
        raise BackendError(
            f"the native engine {path} was built from other sources than this Python package; install the "
            f"package again: {pip_install(again=True)}"
        )


LIBRARY = _load()


def function(name: str, result: Any, *parameters: Any) -> Any:
    """A function of the library. The result None is that of a function that returns nothing."""
    try:
        found = LIBRARY[name]
    except AttributeError:
        return partial(_absent, name)  # that of a GPU, on systems without CUDA
    found.restype, found.argtypes = result, parameters
    return found


def _absent(name: str, *_: object) -> Any:
    raise RuntimeError(f"this library of the native engine has no {name}, which needs Linux")


_message = function("native_error_message", TEXT)
_code = function("native_error_code", INT)
_text_data = function("native_text_data", POINTER, POINTER)
_text_size = function("native_text_size", SIZE, POINTER)
_text_free = function("native_text_free", None, POINTER)


def check(status: int) -> None:
    """Raise what a function of runtime/cpp/python reports: RuntimeError, DriverError or MemoryError."""
    if status == _MEMORY:
        raise MemoryError
    if status == _DRIVER:
        raise DriverError(_said(), _code())
    if status:
        raise RuntimeError(_said())


def check_status(status: int, message: bytes = b"") -> None:
    """Raise what a function of multires.h reports: RuntimeError or MemoryError."""
    if status == _STATUS_MEMORY:
        raise MemoryError
    if status:
        raise RuntimeError(message.decode("utf-8", "replace") or "argument out of range")


def _said() -> str:
    return bytes(_message() or b"").decode("utf-8", "replace")


def taken(text: ctypes.c_void_p) -> bytes:
    """The content of a result of any size, which ends."""
    try:
        return ctypes.string_at(_text_data(text), _text_size(text))
    finally:
        _text_free(text)


def texts(given: Sequence[str]) -> tuple[Any, int]:
    """Strings as an array of C, and their number."""
    encoded = [text.encode("utf-8", "surrogateescape") for text in given]
    return (TEXT * len(encoded))(*encoded), len(encoded)


class _Memory:
    """Memory of the library as numpy sees it. The arrays keep ``owner``, which keeps the memory."""

    def __init__(self, owner: object, address: int, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "typestr": np.dtype(dtype).str,
            "shape": shape,
        }


def array_of(owner: object, address: int, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array in memory of the library, which ``owner`` keeps."""
    return np.asarray(_Memory(owner, address, dtype, shape))


def address_of(array: NDArray[Any]) -> int:
    """Where the values of a contiguous array are."""
    if not array.flags.c_contiguous:
        raise TypeError("an array is not contiguous")
    address: int = array.__array_interface__["data"][0]
    return address
