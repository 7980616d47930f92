"""What a manifest says of each graph: its file, inputs, outputs and states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output; a dimension is a number, or a name where it is dynamic."""

    name: str
    dtype: str
    shape: Shape

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> TensorSpec:
        return cls(entry["name"], entry["dtype"], tuple(entry["shape"]))


@dataclass(frozen=True)
class StateSpec:
    """A state of the step graph: feed ``output`` of one call to ``input`` of the next; zeros at first.

    ``scale`` and ``dilation`` belong to queues. ``in_place`` says that both may be bound to the same
    memory: no row that a step reads is one that it writes.
    """

    input: str
    output: str
    dtype: str
    shape: Shape
    scale: int | None = None
    dilation: int | None = None
    in_place: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the batch."""
        import numpy as np

        return math.prod(int(size) for size in self.shape[1:]) * np.dtype(self.dtype).itemsize

    def to_json(self) -> dict[str, Any]:
        queue = {} if self.scale is None else {"scale": self.scale, "dilation": self.dilation}
        return {
            "input": self.input,
            "output": self.output,
            "dtype": self.dtype,
            **queue,
            "shape": list(self.shape),
            "in_place": self.in_place,
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> StateSpec:
        return cls(
            entry["input"],
            entry["output"],
            entry["dtype"],
            tuple(entry["shape"]),
            entry.get("scale"),
            entry.get("dilation"),
            bool(entry.get("in_place", False)),
        )


@dataclass(frozen=True)
class RingSpec:
    """A ring outside of a graph: the row of step t in slot t mod ``slots``, read ``delays`` steps later.

    ``state`` is the name that the step graph has for it, whose layout it keeps.
    """

    state: str
    slots: int
    delays: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {"state": self.state, "slots": self.slots, "delays": list(self.delays)}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> RingSpec:
        return cls(entry["state"], int(entry["slots"]), tuple(int(delay) for delay in entry["delays"]))


@dataclass(frozen=True)
class RingBank:
    """Rings of rows of one width and type that a taps graph leaves to whoever runs it.

    Before a step, its input ``taps`` (batch, 1, taps, width) takes the rows at all delays, ring after ring;
    after it, its output ``pushes`` (batch, 1, rings, width) has the row to write into each.
    """

    taps: str
    pushes: str
    dtype: str
    width: int
    rings: tuple[RingSpec, ...]

    @property
    def n_taps(self) -> int:
        return sum(len(ring.delays) for ring in self.rings)

    def to_json(self) -> dict[str, Any]:
        return {
            "taps": self.taps,
            "pushes": self.pushes,
            "dtype": self.dtype,
            "width": self.width,
            "rings": [ring.to_json() for ring in self.rings],
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> RingBank:
        rings = tuple(RingSpec.from_json(ring) for ring in entry["rings"])
        return cls(entry["taps"], entry["pushes"], entry["dtype"], int(entry["width"]), rings)


@dataclass(frozen=True)
class GraphSpec:
    """One ONNX file of a bundle. ``banks`` are the rings that a taps graph has outside."""

    file: str
    sha256: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...] = ()
    banks: tuple[RingBank, ...] = ()

    @property
    def state_bytes(self) -> int:
        """Of one stream."""
        return sum(state.row_bytes for state in self.states)

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "file": self.file,
            "sha256": self.sha256,
            "opset": self.opset,
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }
        if self.states:
            entry["states"] = [spec.to_json() for spec in self.states]
        if self.banks:
            entry["banks"] = [bank.to_json() for bank in self.banks]
        return entry

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> GraphSpec:
        return cls(
            entry["file"],
            entry["sha256"],
            entry["opset"],
            tuple(TensorSpec.from_json(spec) for spec in entry["inputs"]),
            tuple(TensorSpec.from_json(spec) for spec in entry["outputs"]),
            tuple(StateSpec.from_json(spec) for spec in entry.get("states", ())),
            tuple(RingBank.from_json(bank) for bank in entry.get("banks", ())),
        )


@dataclass(frozen=True)
class FileSpec:
    """A file of a bundle, by its path in it."""

    file: str
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return {"file": self.file, "sha256": self.sha256}
