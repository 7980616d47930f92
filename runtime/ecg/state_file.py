"""A state on disk that survives a crash and a power cut."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import OutputError, StateError
from multires_edge.base.files import disk_errors, flush_folder, lock_file
from multires_edge.format.arrays import read_npz
from multires_edge.format.fields import parse_json

_MAGIC = b"multires-edge stream state 1\n"
_ARRAY = "\x00array"


class StateFile:
    """The state at ``path``, and the state before it at ``path`` with ``.previous``.

    A state is written to a hidden file and synced. Then the old state is renamed to the previous one, and the
    new one takes its name and its mode. At every moment one of the two is complete. A link is followed once.
    Raises StateError if the path is not a file.
    """

    def __init__(self, path: Path) -> None:
        # Renaming would replace the link, and not the file that it leads to.
        path = path.resolve() if path.is_symlink() else path
        # Reading a device can take forever, and renaming would replace it.
        if path.exists() and not path.is_file():
            raise StateError(f"{path}: exists and is not a file; choose another name for the state")
        self.path = path
        self.previous = path.with_name(f"{path.name}.previous")
        self._partial = path.with_name(f".{path.name}.partial")
        self._lock = path.with_name(f".{path.name}.lock")
        self._damaged = False  # the state before it is then worth more

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that belongs to the state."""
        return self.path, self.previous, self._partial, self._lock

    def write(self, tree: dict[str, Any]) -> None:
        """Replace the state. Raises OutputError if that fails; the old state is kept."""
        payload = pack(tree)
        digest = hashlib.sha256(payload).hexdigest().encode() + b"\n"
        with disk_errors(self.path):
            try:
                with self._partial.open("wb") as file:
                    with contextlib.suppress(FileNotFoundError):
                        self._partial.chmod(stat.S_IMODE(self.path.stat().st_mode))
                    file.write(_MAGIC + digest + payload)
                    file.flush()
                    os.fsync(file.fileno())
                # Without hard links, which not every disk has. A crash in between leaves the previous state.
                if self.path.exists() and not self._damaged:
                    self.path.replace(self.previous)
                self._partial.replace(self.path)
                self._damaged = False
                flush_folder(self.path.parent)
            except OSError:
                with contextlib.suppress(OSError):
                    self._partial.unlink()
                raise

    def read(self) -> tuple[dict[str, Any] | None, str | None]:
        """The state, or the one before if it is damaged, and what was wrong; None if no state exists.

        Raises StateError if states exist, but all are damaged.
        """
        wrong: list[str] = []
        for path in (self.path, self.previous):
            try:
                with path.open("rb") as file:
                    head = file.read(len(_MAGIC) + 65)
                    # Another file, which may be large, is not read whole.
                    payload = file.read() if head.startswith(_MAGIC) else b""
            except FileNotFoundError:
                continue
            except OSError as error:
                wrong.append(f"{path}: cannot be read ({error.strerror or error})")
                continue
            if head == _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n":
                with contextlib.suppress(ValueError):
                    tree = unpack(payload)
                    self._damaged = bool(wrong)
                    return tree, (wrong[0] if wrong else None)
            wrong.append(f"{path}: not a stream's state, or damaged")
        if wrong:
            raise StateError(f"{'; '.join(wrong)}: move it away to start over")
        return None, None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the state for this process, and check that it can be written.

        Raises StateError if another process has locked it, and OutputError if it cannot be written.
        """
        if not self.path.parent.is_dir():
            raise OutputError(f"{self.path.parent}: no such folder; create it or choose another")
        with disk_errors(self.path, "choose a folder that can be written"):
            lock = self._lock.open("wb")
        with lock:
            with disk_errors(self.path, "choose a folder that can be written"):
                if not lock_file(lock.fileno()):
                    raise StateError(f"{self.path}: another process is using it")
                # Now, and not at the first state, which may be an hour away.
                self._partial.open("wb").close()
                self._partial.unlink()
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
