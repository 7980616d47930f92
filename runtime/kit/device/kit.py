"""The unpacked kit: graphs, recorded streams and the states that they end with."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from .files import KitError, digest_of, sha256_of

KIT_FORMAT, KIT_VERSION = "multires-kit", 1
KIT_FILE = "kit.json"


class Kit:
    """The unpacked kit: ``entry`` is kit.json, ``changed`` has a message for each changed graph file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / KIT_FILE
        try:
            self.entry: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise KitError(f"{path}: cannot be read ({error}); unpack the kit again") from error
        if not isinstance(self.entry, dict) or self.entry.get("format") != KIT_FORMAT:
            raise KitError(f"{path}: does not describe a kit, its format is not {KIT_FORMAT!r}")
        if self.entry.get("version") != KIT_VERSION:
            raise KitError(
                f"{path}: has version {self.entry.get('version')!r}, this script reads {KIT_VERSION}"
            )
        self.changed = self._check_digests()
        golden = self._arrays("golden.npz")
        self.states = self._arrays("states.npz")
        try:
            self.inputs = golden["x"] if "x" in golden else golden["tokens"]
            self.stepwise, self.full = golden["stepwise"], golden["full"]
        except KeyError as error:
            raise KitError(f"{folder / 'golden.npz'}: has no {error}; unpack the kit again") from error

    def _check_digests(self) -> dict[str, str]:
        """A message per changed graph. Raises KitError if another file was changed: it is the reference."""
        changed = {}
        if self.entry.get("sha256") != digest_of(self.entry):
            raise KitError(f"{self.folder / KIT_FILE}: changed since the kit was made; unpack it again")
        for name, expected in sorted(self.entry["files"].items()):
            path = self.folder / name
            try:
                found = sha256_of(path)
            except OSError as error:
                raise KitError(f"{path}: cannot be read ({error.strerror}); unpack the kit again") from error
            if found != expected["sha256"]:
                size = path.stat().st_size
                what = f"{size:,} of {expected['bytes']:,} bytes" if size != expected["bytes"] else "differs"
                message = f"changed since the kit was made ({what}); unpack the kit again"
                if not name.startswith("graphs/"):
                    raise KitError(f"{path}: {message}")
                changed[name] = message
        return changed

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        path = self.folder / name
        try:
            with np.load(path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise KitError(f"{path}: cannot be read ({error}); unpack the kit again") from error

    def precisions(self, asked: Sequence[str]) -> list[str]:
        """The requested precisions, or all. Raises KitError for a precision that the kit does not have."""
        there = list(self.entry["graphs"]["step"])
        for name in asked:
            if name not in there:
                raise KitError(f"the kit has no graphs in {name!r}; it has: {', '.join(there)}")
        return list(dict.fromkeys(asked)) or there


class Graph:
    """A graph of the kit: ``input``, ``output`` and ``states`` as in the bundle's manifest."""

    def __init__(self, kit: Kit, kind: str, precision: str) -> None:
        entry = kit.entry["graphs"][kind][precision]
        self.kind, self.precision = kind, precision
        self.path = kit.folder / entry["file"]
        self.inputs: list[dict[str, Any]] = entry["inputs"]
        self.input: dict[str, Any] = entry["inputs"][0]
        self.output: dict[str, Any] = entry["outputs"][0]
        self.states: list[dict[str, Any]] = entry.get("states", [])
        self.steps = max(case["steps"] for case in kit.entry["cases"][precision])
        self.rows = len(kit.inputs)
        self.limit: dict[str, Any] = kit.entry["limits"][precision]


def assemble(recorded: NDArray[Any], schedule: Sequence[Sequence[Sequence[int]]], steps: int) -> NDArray[Any]:
    """Assemble streams (batch, ..., steps) from recorded streams (rows, ..., time).

    ``schedule`` has a list for each row of the batch. The pair [step, row] restarts the stream at ``step``:
    from there on it repeats the recorded ``row`` from its beginning.
    """
    streams = np.empty((len(schedule), *recorded.shape[1:-1], steps), recorded.dtype)
    for stream, parts in zip(streams, schedule, strict=True):
        for i, (start, row) in enumerate(parts):
            stop = parts[i + 1][0] if i + 1 < len(parts) else steps
            stream[..., start:stop] = recorded[row, ..., : stop - start]
    return streams
