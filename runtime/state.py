"""A saved state of a stream: to store, to send, or to continue from."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.format.arrays import read_npz
from multires_edge.format.fields import Count, Line, parse_json, plain, read_fields

_HEADER = "multires_stream_state"


@dataclass(frozen=True)
class _Header:
    version: int
    model: Line
    batch: Count

    def __post_init__(self) -> None:
        if self.version != 1:
            raise StateError(f"saved state has version {self.version}, expected 1")


@dataclass(frozen=True, repr=False)
class StreamState:
    """The state that :meth:`Stream.save_state` returns.

    ``model`` identifies checkpoint, weights, pooling and precision. ``arrays`` has the step graph's states by
    input name, each with the batch as its first axis.
    """

    model: str
    batch: int
    arrays: dict[str, NDArray[Any]]

    def __repr__(self) -> str:
        rows = f"{self.batch} row{'s' if self.batch > 1 else ''}"
        size = sum(array.nbytes for array in self.arrays.values())
        return f"<StreamState of {rows}: {size:,} bytes in {len(self.arrays)} arrays, {self.model}>"

    def to_bytes(self) -> bytes:
        """Convert to the bytes of an .npz file: all arrays and a header, each with a checksum."""
        buffer = io.BytesIO()
        header = json.dumps(plain(_Header(1, self.model, self.batch)))
        arrays: dict[str, Any] = {_HEADER: np.array(header), **self.arrays}
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> StreamState:
        """Read the bytes of :meth:`to_bytes`. Raises StateError for other or damaged bytes."""
        try:
            arrays = read_npz(io.BytesIO(data))
            header = read_fields(_Header, parse_json(str(arrays.pop(_HEADER))))
        except (OSError, KeyError, ValueError, RecursionError) as error:
            raise StateError(f"not a saved stream state, or damaged ({error})") from error
        for name, array in arrays.items():
            if array.shape[:1] != (header.batch,):
                raise StateError(f"saved state: {name} has shape {array.shape}, expected {header.batch} rows")
        return cls(header.model, header.batch, arrays)
