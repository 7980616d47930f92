"""Runs the blocks of several sources through the network: as one batch, or with a stream for each source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.format.arrays import Array
from multires_edge.format.fields import Pattern
from multires_edge.runtime.ecg.frontend import Block
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.stream import Stream

# Blocks by source. All sources of one call have blocks of the same lengths.
Runs = Mapping[int, list[Block]]


Packed = Annotated[NDArray[np.uint8], Array("uint8", 1)]


@dataclass(frozen=True, eq=False)
class NetworksState:
    """The bytes of the states of all streams, and of the rows that are parked, by number."""

    networks: tuple[Packed, ...]
    parked: dict[Annotated[str, Pattern("[0-9]{1,9}", "the number of a row")], Packed]


class Networks(Protocol):
    """Runs blocks and keeps the state of every source."""

    def run(self, runs: Runs, finished: Collection[int]) -> dict[int, NDArray[np.float32]]:
        """Logits (blocks, labels) at the end of each block, by source.

        Other sources keep their state, except the ``finished`` ones, which have no blocks left.
        """

    def save(self) -> NetworksState:
        """The states of all sources."""

    def load(self, saved: NetworksState) -> None:
        """Continue from :meth:`save`. Raises StateError."""


class SeparateStreams:
    """A stream of batch 1 for each source."""

    def __init__(self, streams: list[Stream]) -> None:
        self._streams = streams

    def run(self, runs: Runs, finished: Collection[int]) -> dict[int, NDArray[np.float32]]:
        logits = {}
        for row, run in runs.items():
            stream = self._streams[row]
            if run[0].restart:
                stream.reset()
            logits[row] = stream.run(_inputs(run)[None])[0].T[_ends(run)]
            if run[-1].reset:
                stream.reset()
        return logits

    def save(self) -> NetworksState:
        return NetworksState(tuple(_packed(stream.save_state()) for stream in self._streams), {})

    def load(self, saved: NetworksState) -> None:
        _load(self._streams, saved)


class LockstepBatch:
    """One stream with a row of its batch for each source.

    A source without a block in a call is fed zeros. Its state is parked before that and loaded again with
    its next block.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._parked: dict[int, StreamState] = {}

    def run(self, runs: Runs, finished: Collection[int]) -> dict[int, NDArray[np.float32]]:
        stream = self._stream
        for row in range(stream.batch):
            if row not in runs and row not in finished and row not in self._parked:
                self._parked[row] = stream.save_state([row])
        inputs = {row: _inputs(run) for row, run in runs.items()}
        x = np.zeros((stream.batch, *next(iter(inputs.values())).shape), np.float32)
        for row, run in runs.items():
            x[row] = inputs[row]
            parked = self._parked.pop(row, None)
            if run[0].restart:
                stream.reset([row])
            elif parked is not None:
                stream.load_state(parked, [row])
        logits = stream.run(x)
        if full := [row for row, run in runs.items() if run[-1].reset]:
            stream.reset(full)
        return {row: logits[row].T[_ends(run)] for row, run in runs.items()}

    def save(self) -> NetworksState:
        parked = {str(row): _packed(state) for row, state in self._parked.items()}
        return NetworksState((_packed(self._stream.save_state()),), parked)

    def load(self, saved: NetworksState) -> None:
        parked = {int(row): _unpacked(state) for row, state in saved.parked.items()}
        for row, state in parked.items():
            self._stream.check_state(state, [row])
        _load([self._stream], saved)
        self._parked = parked


def _inputs(run: list[Block]) -> NDArray[np.float32]:
    return np.concatenate([block.x for block in run if block.x is not None], 1)


def _ends(run: list[Block]) -> NDArray[np.intp]:
    return np.cumsum([block.length for block in run]) - 1


def _load(streams: list[Stream], saved: NetworksState) -> None:
    if len(saved.networks) != len(streams):
        raise StateError(f"the state has {len(saved.networks)} networks, expected {len(streams)}")
    for stream, state in zip(streams, saved.networks, strict=True):
        stream.load_state(_unpacked(state))


def _packed(state: StreamState) -> Packed:
    return np.frombuffer(state.to_bytes(), np.uint8)


def _unpacked(state: Packed) -> StreamState:
    return StreamState.from_bytes(state.tobytes())
