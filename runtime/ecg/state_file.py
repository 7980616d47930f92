"""A state on disk that survives a crash and a power cut."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.base.files import disk_errors, flush_folder
from multires_edge.format.arrays import read_npz
from multires_edge.format.fields import parse_json

_MAGIC = b"multires-edge stream state 1\n"
_ARRAY = "\x00array"


class StateFile:
    """The state at ``path``, and the state before it at ``path`` with ``.previous``.

    A state is written to a hidden file, synced, and renamed over the old state, which a second link keeps. At
    every moment one of the two is complete. Raises StateError if the path is not a file.
    """

    def __init__(self, path: Path) -> None:
        # Reading a device can take forever, and renaming would replace it.
        if path.exists() and not path.is_file():
            raise StateError(f"{path}: exists and is not a file; choose another name for the state")
        self.path = path
        self.previous = path.with_name(f"{path.name}.previous")
        self._partial = path.with_name(f".{path.name}.partial")

    def write(self, tree: dict[str, Any]) -> None:
        """Replace the state. Raises OutputError if that fails; the old state is kept."""
        payload = pack(tree)
        digest = hashlib.sha256(payload).hexdigest().encode() + b"\n"
        with disk_errors(self.path):
            try:
                with self._partial.open("wb") as file:
                    file.write(_MAGIC + digest + payload)
                    file.flush()
                    os.fsync(file.fileno())
                if self.path.exists():
                    link = self._partial.with_name(f"{self._partial.name}.link")
                    link.unlink(missing_ok=True)
                    os.link(self.path, link)
                    link.replace(self.previous)
                self._partial.replace(self.path)
                flush_folder(self.path.parent)
            except OSError:
                self._partial.unlink(missing_ok=True)
                raise

    def read(self) -> tuple[dict[str, Any] | None, str | None]:
        """The state, or the one before if it is damaged, and what was wrong; None if no state exists.

        Raises StateError if states exist, but all are damaged.
        """
        wrong: list[str] = []
        for path in (self.path, self.previous):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                wrong.append(f"{path}: cannot be read ({error.strerror or error})")
                continue
            digest, payload = content[len(_MAGIC) :][:64], content[len(_MAGIC) + 65 :]
            if content.startswith(_MAGIC) and hashlib.sha256(payload).hexdigest().encode() == digest:
                with contextlib.suppress(ValueError):
                    return unpack(payload), (wrong[0] if wrong else None)
            wrong.append(f"{path}: not a stream's state, or damaged")
        if wrong:
            raise StateError(f"{'; '.join(wrong)}: move it away to start over")
        return None, None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the state for this process. Raises StateError if another process has locked it."""
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            yield
            return
        with disk_errors(self.path):
            lock = self.path.with_name(f".{self.path.name}.lock").open("wb")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StateError(f"{self.path}: another process is using it") from None
            yield


def pack(tree: dict[str, Any]) -> bytes:
    """Nested JSON values and numpy arrays as the bytes of an .npz file."""
    arrays: dict[str, NDArray[Any]] = {}

    def plain(node: Any) -> Any:
        if isinstance(node, np.ndarray):
            arrays[f"a{len(arrays)}"] = node
            return {_ARRAY: f"a{len(arrays) - 1}"}
        if isinstance(node, dict):
            return {key: plain(value) for key, value in node.items()}
        return [plain(value) for value in node] if isinstance(node, list | tuple) else node

    arrays["tree"] = np.frombuffer(json.dumps(plain(tree)).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(data: bytes) -> Any:
    """The inverse of :func:`pack`. Raises ValueError."""
    arrays = read_npz(io.BytesIO(data))

    def whole(node: Any) -> Any:
        if isinstance(node, dict):
            if _ARRAY in node:
                return arrays[node[_ARRAY]]
            return {key: whole(value) for key, value in node.items()}
        return [whole(value) for value in node] if isinstance(node, list) else node

    try:
        return whole(parse_json(arrays.pop("tree").tobytes().decode()))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"the tree is damaged ({error})") from error
