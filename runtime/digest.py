"""Digests of files and folders."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """Hex digest of the digests and names of all files in a folder, sorted by name. Raises OSError."""
    digest = hashlib.sha256()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name, path in sorted(files.items()):
        digest.update(f"{sha256_of(path)}  {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
