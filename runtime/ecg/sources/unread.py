"""Files that users have and that are not read: what they are, and what to do instead."""

from __future__ import annotations

from pathlib import Path

from multires_edge.base.errors import DataError

_AS_TEXT = "save it as CSV"
_AS_STANDARD = "convert it to DICOM, EDF or WFDB"
# The first bytes, where they stand, what such a file is, and what to do.
_KINDS = (
    (b"SCPECG", 16, "SCP-ECG", _AS_STANDARD),
    (b"GDF ", 0, "GDF", _AS_STANDARD),
    (b"\x89HDF", 0, "HDF5", _AS_STANDARD),
    (b"MATLAB", 0, "a MATLAB file without a WFDB header", _AS_TEXT),
    (b".FIT", 8, "a FIT file", _AS_TEXT),
    (b"%PDF", 0, "a PDF, which has a picture of an ECG", "export the samples as CSV"),
    (b"\x89PNG", 0, "a picture", "export the samples as CSV"),
    (b"\xff\xd8\xff", 0, "a picture", "export the samples as CSV"),
    (b"\xd0\xcf\x11\xe0", 0, "an Excel workbook", _AS_TEXT),
    (b"\x1f\x8b", 0, "compressed", "unpack it"),
    (b"Rar!", 0, "compressed", "unpack it"),
    (b"7z\xbc\xaf", 0, "compressed", "unpack it"),
)
_ZIP, _NAME = b"PK\3\4", 30  # where the name of the first file is


def check_kind(path: Path, start: bytes) -> None:
    """Raise DataError for a file of a known kind that is not read, by its ``start``."""
    for signature, at, what, advice in _KINDS:
        if start[at : at + len(signature)] == signature:
            raise DataError(f"{path}: is {what}, which is not read; {advice}")
    if start.startswith(_ZIP) and b".npy" not in start[_NAME:]:
        office = b"[Content_Types]" in start or b"mimetype" in start
        what, advice = ("a workbook", _AS_TEXT) if office else ("compressed", "unpack it")
        raise DataError(f"{path}: is {what}, which is not read; {advice}")
