"""Files on the device: digests, and atomic writing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any


class KitError(Exception):
    """The check cannot run: a damaged kit, a missing package, no device, a full disk."""


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces. Raises OSError, also if it is not a regular file."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def to_json(entry: dict[str, Any]) -> bytes:
    """The content of a JSON file. Raises ValueError for an infinity or NaN: JSON has no such numbers."""
    return (json.dumps(entry, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def check_writable(path: Path) -> None:
    """Test before a long run whether a file can be written at its end. Raises KitError."""
    if path.is_dir():
        raise KitError(f"{str(path)!r} is a folder; give the name of a file to write")
    attempt = path.with_name(f".{path.name}.attempt")
    write_whole(attempt, b"")
    with contextlib.suppress(OSError):
        attempt.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all. Raises KitError."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=str(path.parent))
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105
        temporary = None
    except OSError as error:
        what = error.strerror or str(error)
        raise KitError(f"{path}: cannot be written ({what}); no partial file was left") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
