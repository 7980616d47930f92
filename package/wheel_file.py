"""Changing a finished wheel."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


def rewrite(wheel: Path, final: Path, metadata: Mapping[str, bytes]) -> None:
    """Write a wheel again with other files in its ``.dist-info``, given by name, and its RECORD to match.

    The result depends on the contents alone: files are sorted, and have the time of RECORD and one of two
    modes. ``final`` is replaced whole, and may be ``wheel``.
    """
    with zipfile.ZipFile(wheel) as old:
        (record,) = (info for info in old.infolist() if info.filename.endswith(".dist-info/RECORD"))
        folder = record.filename.removesuffix("RECORD")
        files = {info.filename: old.read(info) for info in old.infolist() if not info.is_dir()}
    del files[record.filename]
    files |= {folder + name: content for name, content in metadata.items()}
    lines = [f"{name},sha256={_digest(files[name])},{len(files[name])}" for name in sorted(files)]
    files[record.filename] = "".join(f"{line}\n" for line in [*lines, f"{record.filename},,"]).encode()
    changed = final.with_suffix(".tmp")
    with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        # RECORD is the last, as the format recommends.
        for name in sorted(files, key=lambda name: (name.startswith(folder), name == record.filename, name)):
            entry = zipfile.ZipInfo(name, record.date_time)
            entry.create_system, entry.compress_type = 3, zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name.endswith((".so", ".pyd")) else 0o100644) << 16
            new.writestr(entry, files[name])
    changed.replace(final)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
