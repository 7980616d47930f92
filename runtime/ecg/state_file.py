"""A state on disk that survives the process and the power: whole, or the one before."""

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

_MAGIC = b"multires-edge stream state 1\n"
_ARRAY = "\x00array"


class StateFile:
    """The file ``path`` and the generation before it, ``path`` with ``.previous``.

    A state is written to a file beside it, brought to the disk, and renamed over the old one, whose name
    is kept by a second link: at every moment one of the two is there and whole. Raises StateError for a
    path that is something else.
    """

    def __init__(self, path: Path) -> None:
        # A device can be endless to read, and would be renamed over.
        if path.exists() and not path.is_file():
            raise StateError(f"{path}: exists and is not a file; choose another name for the state")
        self.path = path
        self.previous = path.with_name(f"{path.name}.previous")
        self._partial = path.with_name(f".{path.name}.partial")

    def write(self, tree: dict[str, Any]) -> None:
        """Replace the state. Raises OutputError, and leaves the old one, where the disk refuses."""
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
        """The state, or the one before if it is damaged, and what was wrong; None where there is none.

        Raises StateError when there is a state and none can be read.
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
                return unpack(payload), (wrong[0] if wrong else None)
            wrong.append(f"{path}: not a stream's state, or damaged")
        if wrong:
            raise StateError(f"{'; '.join(wrong)}: move it away to start over")
        return None, None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the state for this process alone. Raises StateError while another one does."""
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
    """JSON values and numpy arrays, nested in any way, as the bytes of an .npz."""
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


def unpack(data: bytes) -> dict[str, Any]:
    """Read :func:`pack` back."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}

    def whole(node: Any) -> Any:
        if isinstance(node, dict):
            if _ARRAY in node:
                return arrays[node[_ARRAY]]
            return {key: whole(value) for key, value in node.items()}
        return [whole(value) for value in node] if isinstance(node, list) else node

    tree: dict[str, Any] = whole(json.loads(arrays.pop("tree").tobytes()))
    return tree
