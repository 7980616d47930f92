"""Arrays in files."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.arrays import npz_bytes


def test_a_file_depends_on_its_arrays_alone() -> None:
    arrays: dict[str, NDArray[Any]] = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "full": np.zeros(0)}
    content = npz_bytes(**arrays)
    loaded = np.load(io.BytesIO(content))
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)
    # The header of an entry is that of a small file: some Pythons write one for large files from a stream.
    assert content[4:6] == b"\x14\0"
    for entry in zipfile.ZipFile(io.BytesIO(content)).infolist():
        assert (entry.compress_type, entry.create_system) == (zipfile.ZIP_STORED, 3)
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
