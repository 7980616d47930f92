"""A stream's state at one moment, apart from the stream: to keep, to send, to go on from."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError

_HEADER = "multires_stream_state"


@dataclass(frozen=True)
class StreamState:
    """What :meth:`Stream.save_state` gives.

    ``model`` names checkpoint, pooling and precision; ``arrays`` are the step graph's states by
    input name, each with the batch as its first axis.
    """

    model: str
    batch: int
    arrays: dict[str, NDArray[Any]]

    def to_bytes(self) -> bytes:
        """A .npz file in memory: every array, and a header; each with a checksum."""
        buffer = io.BytesIO()
        header = json.dumps({"version": 1, "model": self.model, "batch": self.batch})
        arrays: dict[str, Any] = {_HEADER: np.array(header), **self.arrays}
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> StreamState:
        """Read :meth:`to_bytes` back. Raises StateError for anything else, or a damaged copy."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays.pop(_HEADER)))
            if header["version"] != 1:
                raise StateError(f"saved state has version {header['version']}, expected 1")
            return cls(header["model"], header["batch"], arrays)
        except (
            ValueError, KeyError, TypeError, OSError, EOFError, NotImplementedError, RuntimeError,
            MemoryError, zlib.error, zipfile.BadZipFile,
        ) as error:  # fmt: skip
            if isinstance(error, StateError):
                raise
            raise StateError(f"not a saved stream state, or damaged ({error})") from error
