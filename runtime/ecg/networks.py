"""Runs the blocks of several sources through the network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.format.arrays import Array
from multires_edge.format.fields import Pattern
from multires_edge.runtime.ecg.block import Block
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.stream import Stream

# Blocks by source. All sources whose rows are in one batch have blocks of the same lengths.
Runs = Mapping[int, list[Block]]

Packed = Annotated[NDArray[np.uint8], Array("uint8", 1)]


@dataclass(frozen=True, eq=False)
class NetworksState:
    """The bytes of the states of all streams, and of the rows that are parked, by number."""

    networks: tuple[Packed, ...]
    parked: dict[Annotated[str, Pattern("[0-9]{1,9}", "the number of a row")], Packed]


class Networks:
    """The streams of the sources: one whose batch has a row for each source, or one for each source.

    A row without a block in a call is fed zeros. Its state is parked before that and loaded again with its
    next block.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._parked: dict[int, StreamState] = {}

    def run(self, runs: Runs, finished: Collection[int]) -> dict[int, NDArray[np.float32]]:
        """Logits (blocks, labels) at the end of each block, by source.

        Other sources keep their state, except the ``finished`` ones, which have no blocks left.
        """
        logits: dict[int, NDArray[np.float32]] = {}
        start = 0
        for stream in self._streams:
            rows = range(start, start + stream.batch)
            start += stream.batch
            if any(row in runs for row in rows):
                logits |= self._run(stream, rows, runs, finished)
        return logits

    def _run(
        self, stream: Stream, rows: range, runs: Runs, finished: Collection[int]
    ) -> dict[int, NDArray[np.float32]]:
        """Run the blocks of the sources ``rows``, which are the rows of the stream's batch."""
        inputs = {}
        for i, row in enumerate(rows):
            if run := runs.get(row):
                inputs[i] = np.concatenate([block.x for block in run if block.x is not None], 1)
                parked = self._parked.pop(row, None)
                if run[0].restart:
                    stream.reset([i])
                elif parked is not None:
                    stream.load_state(parked, [i])
            elif row not in finished and row not in self._parked:
                self._parked[row] = stream.save_state([i])
        x = np.zeros((stream.batch, *next(iter(inputs.values())).shape), np.float32)
        for i, samples in inputs.items():
            x[i] = samples
        # A step uses what prepare() did, and a chunk does not.
        y = stream.step(x[..., 0])[..., None] if x.shape[-1] == 1 else stream.run(x)
        logits = {}
        for i in inputs:
            run = runs[rows[i]]
            logits[rows[i]] = y[i].T[np.cumsum([block.length for block in run]) - 1]
            if run[-1].reset:
                stream.reset([i])
        return logits

    def prepare(self, row: int) -> None:
        """Do what the next step of a source with its own stream can do before its sample comes."""
        self._streams[row].prepare()

    def save(self) -> NetworksState:
        """The states of all sources."""
        parked = {str(row): _packed(state) for row, state in self._parked.items()}
        return NetworksState(tuple(_packed(stream.save_state()) for stream in self._streams), parked)

    def load(self, saved: NetworksState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        if len(saved.networks) != len(self._streams):
            raise StateError(f"the state has {len(saved.networks)} networks, expected {len(self._streams)}")
        parked = {int(row): _unpacked(state) for row, state in saved.parked.items()}
        for row, state in parked.items():
            self._streams[0].check_state(state, [row])
        for stream, packed in zip(self._streams, saved.networks, strict=True):
            stream.load_state(_unpacked(packed))
        self._parked = parked


def _packed(state: StreamState) -> Packed:
    return np.frombuffer(state.to_bytes(), np.uint8)


def _unpacked(state: Packed) -> StreamState:
    return StreamState.from_bytes(state.tobytes())
