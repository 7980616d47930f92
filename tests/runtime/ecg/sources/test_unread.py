"""Files of kinds that are not read."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path

import pytest

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "Ann Other")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (struct.pack("<HIHHIBB", 0, 900, 0, 0, 136, 20, 20) + b"SCPECG" + bytes(200), "SCP-ECG"),
        (b"GDF 2.20Ann Other", "GDF"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
        (b"MATLAB 5.0 MAT-file, Ann Other", "a MATLAB file"),
        (struct.pack("<BBHI", 14, 16, 100, 90) + b".FIT" + bytes(90), "a FIT file"),
        (b"%PDF-1.4\nAnn Other", "a PDF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(90), "a picture"),
        (b"\xd0\xcf\x11\xe0" + bytes(90), "an Excel workbook"),
        (zipped("[Content_Types].xml"), "a workbook"),
        (zipped("Ann Other.csv"), "compressed"),
        (gzip.compress(b"I,II\n1,2\n"), "compressed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("suffix", ["", ".csv", ".scp", ".npz"])
def test_is_named_with_what_to_do(tmp_path: Path, content: bytes, what: str, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"is {what}.*, which is not read; \w+") as refused:
        open_source(str(tmp_path / f"a{suffix}"), Format(250, "mV"))
    assert "Ann" not in str(refused.value)
