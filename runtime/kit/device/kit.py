"""The unpacked kit: graphs, recorded streams and the states that they end with."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from .description import KIT, KIT_FILE
from .files import KitError, sha256_of


class Kit:
    """The unpacked kit: ``description`` is kit.json, ``changed`` has a message per changed graph file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.description = KIT.read(folder / KIT_FILE)
        except FileNotFoundError as error:
            raise KitError(f"{folder / KIT_FILE}: cannot be read ({error.strerror}); {KIT.remedy}") from error
        self.changed = self._check_digests()
        golden = self._arrays("golden.npz")
        self.states = self._arrays("states.npz")
        try:
            self.inputs = golden["x"] if "x" in golden else golden["tokens"]
            self.stepwise, self.full = golden["stepwise"], golden["full"]
        except KeyError as error:
            raise KitError(f"{folder / 'golden.npz'}: has no {error}; unpack the kit again") from error
        for precision, cases in self.description.cases.items():
            rows, steps = len(self.inputs), self.inputs.shape[-1]
            recorded = {row for case in cases for parts in case.streams for _, row in parts}
            sequences = self.description.full[precision]
            longest = max(*(case.steps for case in cases), *(case.steps for case in sequences))
            if longest > steps or max(recorded) >= rows:
                raise KitError(
                    f"{folder / KIT_FILE}: its cases in {precision} need more than the {rows} streams of "
                    f"{steps} steps in golden.npz; {KIT.remedy}"
                )

    def _check_digests(self) -> dict[str, str]:
        """A message per changed graph. Raises KitError if another file was changed: it is the reference."""
        changed = {}
        for name, expected in sorted(self.description.files.items()):
            path = self.folder / name
            try:
                found, size = sha256_of(path), path.stat().st_size
            except OSError as error:
                raise KitError(f"{path}: cannot be read ({error.strerror}); unpack the kit again") from error
            if found != expected.sha256 or size != expected.bytes:
                what = f"{size:,} of {expected.bytes:,} bytes" if size != expected.bytes else "differs"
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
        there = list(self.description.graphs["step"])
        for name in asked:
            if name not in there:
                raise KitError(f"the kit has no graphs in {name!r}; it has: {', '.join(there)}")
        return list(dict.fromkeys(asked)) or there


class Graph:
    """A graph of the kit: ``input``, ``output`` and ``states`` as in the bundle's manifest."""

    def __init__(self, kit: Kit, kind: str, precision: str) -> None:
        spec, cases = kit.description.graphs[kind][precision], kit.description.cases[precision]
        self.kind, self.precision = kind, precision
        self.path = kit.folder / spec.file
        self.inputs, self.input, self.output = spec.inputs, spec.inputs[0], spec.outputs[0]
        self.states = spec.states
        self.steps = max(case.steps for case in cases)
        self.rows = len(kit.inputs)
        self.limit = kit.description.limits[precision]


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
