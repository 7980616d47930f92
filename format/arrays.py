"""Arrays: checks of inputs, fast enough for every step, and .npz files in memory."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.base.memory import available_memory
from multires_edge.format.config import ModelConfig
from multires_edge.format.specs import Shape


def check_array(
    array: Any, name: str, dtype: np.dtype[Any], shape: Shape, n_tokens: int | None = None
) -> NDArray[Any]:
    """Check dtype, shape (a named dimension may have any size but 0) and values; return the array.

    Nothing is converted silently, because a float64 array may be raw millivolts. Raises InputError.
    """
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray | np.matrix):
        raise InputError(f"{name} is a {type(array).__name__}, expected a plain numpy array")
    if array.dtype != dtype:
        raise InputError(f"{name} has dtype {array.dtype}, expected {dtype}: {name}.astype(numpy.{dtype})")
    if len(array.shape) != len(shape) or any(
        given != expected if isinstance(expected, int) else given == 0
        for given, expected in zip(array.shape, shape, strict=True)
    ):
        wanted = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
        raise InputError(f"{name} has shape {array.shape}, expected {wanted}")
    if n_tokens is not None:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= n_tokens:
            bad = low if low < 0 else high
            raise InputError(f"{name} contains token {bad}, expected 0 to {n_tokens - 1}")
    elif array.dtype.kind == "f" and not all_finite(array):
        where = np.argwhere(~np.isfinite(array))
        raise InputError(
            f"{name} has {len(where)} NaN or infinite values, the first at "
            f"{tuple(int(i) for i in where[0])}; repair or drop them"
        )
    return array


def check_inputs(
    array: Any, model: ModelConfig, rows: int | str = "n", steps: int | str = "time"
) -> NDArray[Any]:
    """Check a network's inputs x float32 (rows, d_input, steps), or tokens int64 (rows, steps)."""
    if model.encoder == "token":
        return check_array(array, "tokens", np.dtype(np.int64), (rows, steps), model.n_tokens)
    return check_array(array, "x", np.dtype(np.float32), (rows, model.channels, steps))


def check_lengths(lengths: Any, rows: int, steps: int) -> NDArray[np.int64]:
    """Check the lengths (rows,) int64 of sequences, 1 to ``steps``. Raises InputError."""
    check_array(lengths, "lengths", np.dtype(np.int64), (rows,))
    if lengths.min() < 1 or lengths.max() > steps:
        raise InputError(
            f"lengths run from {lengths.min()} to {lengths.max()}, expected 1 to {steps}, the steps of the "
            "sequences"
        )
    checked: NDArray[np.int64] = lengths
    return checked


@dataclass(frozen=True)
class Array:
    """A rule of :mod:`multires_edge.format.fields` for arrays in saved states."""

    dtype: str
    ndim: int
    finite: bool = False

    def check(self, value: NDArray[Any]) -> str | None:
        right = value.dtype == np.dtype(self.dtype) and value.ndim == self.ndim
        if right and (not self.finite or all_finite(value)):
            return None
        return f"a{' finite' if self.finite else ''} {self.dtype} array with {self.ndim} axes"


def read_npz(file: Path | BinaryIO) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file; runs nothing that it may hold. Raises OSError, or ValueError for damage."""
    try:
        with np.load(file, allow_pickle=False) as members:
            _check_memory(sum(member.file_size for member in members.zip.infolist()))
            arrays = {name: members[name] for name in members.files}
    except (OSError, TooLargeError):
        raise
    except Exception as error:  # numpy and zipfile fail in many ways, with texts of the file in their words
        raise ValueError(f"not an .npz file, or damaged ({type(error).__name__})") from error
    # numpy returns other members of the archive, such as text files, as bytes.
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}


class TooLargeError(ValueError):
    """More bytes than are available."""


def _check_memory(size: int) -> None:
    """Raise TooLargeError for more bytes than are available: a small archive can unpack to any size."""
    if size > (most := available_memory()):
        raise TooLargeError(
            f"unpacked it has {size:,} bytes, expected at most {most:,}, the available memory"
        )


def holds_good_values(array: NDArray[Any], n_tokens: int | None = None) -> bool:
    """Whether a dense array is finite, or its tokens are in range. Fastest for a few values."""
    if n_tokens is not None:
        return bool(array.min() >= 0 and array.max() < n_tokens)
    # The product with zeros is 0 unless a factor is NaN or infinite. numpy has no faster check.
    return bool(np.vdot(array, np.zeros_like(array)) == 0)


def all_finite(array: NDArray[Any]) -> bool:
    """Whether all values are finite. One pass, unless the sum itself overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.add.reduce(array, axis=None))
    return math.isfinite(total) or bool(np.isfinite(array).all())


def npz_bytes(**arrays: NDArray[Any]) -> bytes:
    """The content of an .npz file that depends on the arrays alone.

    That of NumPy depends on the Python that runs it, and a compressed file on its zlib.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            data = io.BytesIO()
            np.lib.format.write_array(data, array, allow_pickle=False)
            file.writestr(entry, data.getvalue())
    return content.getvalue()


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file. Raises DataError. Never runs code from the file (no pickles)."""
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected an .npz file")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz file, or damaged (an .npz is a zip archive of arrays)")
    try:
        return read_npz(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
