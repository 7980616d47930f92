"""Read the native engine's weights files, which are safetensors; export/native_weights.py describes them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BundleError

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I8": np.dtype("i1")}
_FLOAT32 = _DTYPES["F32"]


class WeightsFile:
    """The metadata and tensors of a file. Every method raises BundleError for a damaged file."""

    def __init__(self, content: bytes, path: Path) -> None:
        self._path = path
        try:
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size].decode("ascii"))
            self.metadata: dict[str, str] = dict(header.pop("__metadata__"))
            data = memoryview(content)[8 + size :]
            self._tensors = {name: _tensor(entry, data) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self.damaged(f"is not a weights file ({type(error).__name__})") from error
        if self.metadata.get("format") != "multires-weights" or self.metadata.get("version") != "2":
            raise self.damaged("is not a weights file of version 2")

    def damaged(self, what: str) -> BundleError:
        """An error that says what is wrong with the file."""
        return BundleError(f"{self._path}: {what}; export the checkpoint again")

    def number(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number of the metadata."""
        text = self.metadata.get(key, "" if default is None else str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
            raise self.damaged(f"metadata {key} is {text!r}, expected {low} to {high}")
        return int(text)

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """One of several words of the metadata."""
        text = self.metadata.get(key, default)
        if text not in choices:
            raise self.damaged(f"metadata {key} is {text!r}, expected {', '.join(choices)}")
        return str(text)

    def has(self, name: str) -> bool:
        return name in self._tensors

    def tensor(
        self, name: str, shape: tuple[int, ...], dtypes: tuple[np.dtype[Any], ...] = (_FLOAT32,)
    ) -> NDArray[Any]:
        """A tensor of finite numbers; -1 allows any size."""
        if name not in self._tensors:
            raise self.damaged(f"tensor {name} is missing")
        tensor = self._tensors[name]
        if len(shape) != tensor.ndim or any(
            want not in (-1, size) for want, size in zip(shape, tensor.shape, strict=True)
        ):
            raise self.damaged(f"tensor {name} has shape {tensor.shape}, expected {shape}")
        if tensor.dtype not in dtypes:
            raise self.damaged(f"tensor {name} is {tensor.dtype}, expected {' or '.join(map(str, dtypes))}")
        if not np.isfinite(tensor).all():
            raise self.damaged(f"tensor {name} contains NaN or infinity")
        return tensor


def _tensor(entry: dict[str, Any], data: memoryview) -> NDArray[Any]:
    """A view of the tensor of an entry in the header."""
    dtype, (first, last) = _DTYPES[entry["dtype"]], entry["data_offsets"]
    shape = tuple(int(size) for size in entry["shape"])
    if not (0 <= first < last <= len(data) and min(shape) > 0 and len(shape) <= 4):
        raise ValueError("outside of the file")
    if math.prod(shape) * dtype.itemsize != last - first:
        raise ValueError("another size")
    tensor: NDArray[Any] = np.frombuffer(data[first:last], dtype).reshape(shape)
    return tensor
