"""Runs the blocks of several sources through the network: as one batch, or with a stream for each source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.runtime.ecg.frontend import Block
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.stream import Stream

# Blocks by source. All sources of one call have blocks of the same lengths.
Runs = Mapping[int, list[Block]]


class Networks(Protocol):
    """Runs blocks and keeps the state of every source."""

    def run(self, runs: Runs, finished: Collection[int]) -> dict[int, NDArray[np.float32]]:
        """Logits (blocks, labels) at the end of each block, by source.

        Other sources keep their state, except the ``finished`` ones, which have no blocks left.
        """

    def save(self) -> dict[str, Any]:
        """The states of all sources."""

    def load(self, saved: Mapping[str, Any]) -> None:
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

    def save(self) -> dict[str, Any]:
        return {"networks": [_packed(stream.save_state()) for stream in self._streams], "parked": {}}

    def load(self, saved: Mapping[str, Any]) -> None:
        _load(self._streams, saved["networks"])


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

    def save(self) -> dict[str, Any]:
        parked = {str(row): _packed(state) for row, state in self._parked.items()}
        return {"networks": [_packed(self._stream.save_state())], "parked": parked}

    def load(self, saved: Mapping[str, Any]) -> None:
        _load([self._stream], saved["networks"])
        self._parked = {int(row): _unpacked(state) for row, state in saved["parked"].items()}


def _inputs(run: list[Block]) -> NDArray[np.float32]:
    return np.concatenate([block.x for block in run if block.x is not None], 1)


def _ends(run: list[Block]) -> NDArray[np.intp]:
    return np.cumsum([block.length for block in run]) - 1


def _load(streams: list[Stream], states: list[NDArray[np.uint8]]) -> None:
    if len(states) != len(streams):
        raise StateError(f"the state has {len(states)} networks, expected {len(streams)}")
    for stream, state in zip(streams, states, strict=True):
        stream.load_state(_unpacked(state))


def _packed(state: StreamState) -> NDArray[np.uint8]:
    return np.frombuffer(state.to_bytes(), np.uint8)


def _unpacked(state: NDArray[np.uint8]) -> StreamState:
    return StreamState.from_bytes(state.tobytes())
