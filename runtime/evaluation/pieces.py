"""The recordings of a folder as the rows of an array: cut into pieces, and read when they are indexed."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.format.card import Preprocessing
from multires_edge.runtime.ecg.block import Block
from multires_edge.runtime.ecg.frontend import FrontEnd
from multires_edge.runtime.ecg.leads import LeadMap, check_applied
from multires_edge.runtime.ecg.quality import FILLED
from multires_edge.runtime.ecg.sources.protocol import Missing, Samples, SignalSpec


@dataclass(frozen=True)
class Recording:
    """A recording that is read when it is needed. ``parts`` reads it from its start, or from the sample that
    it is given. Raises DataError."""  # fmt: skip

    signal: SignalSpec
    parts: Callable[..., Iterator[Samples | Missing]]
    known_length: int | None = None

    @property
    def length(self) -> int:
        """The number of samples. Raises DataError."""
        if self.known_length is not None:
            return self.known_length
        return sum(part.count for part in self.parts())


class RecordPieces:
    """Rows (pieces, channels, steps) float32, padded with zeros; ``lengths`` (pieces,) are their steps.

    Each recording is cut into pieces of ``steps`` steps; ``recording`` (pieces,) is the number of a piece's
    recording. Only the rows that were indexed last stay in memory. Indexing rows in ascending order reads
    each recording once. Any other piece is read alone: the front end starts so much earlier that its steps
    are those of a recording that was read from its start. Warns once of each lead and flag
    whose samples are missing. ``leads`` are arguments of :class:`FrontEnd`. Raises DataError.
    """

    def __init__(
        self, recordings: Sequence[Recording], preprocessing: Preprocessing, steps: int, **leads: Any
    ) -> None:
        self._recordings = recordings
        self._preprocessing, self._steps, self._leads = preprocessing, steps, leads
        lengths, maps = [], list[LeadMap]()
        for recording in recordings:
            try:
                front = self._front(recording)
                maps.append(front.leads)
                total = front.outputs(recording.length)
            except InputError as error:
                raise DataError(str(error)) from error
            if not total:
                raise DataError(f"{recording.signal.name}: has no samples")
            lengths.append(np.diff([*range(0, total, steps), total]))
        check_applied(leads.get("rename") or {}, maps)
        counts = [len(each) for each in lengths]
        self._starts = np.cumsum([0, *counts[:-1]])
        self.recording = np.repeat(np.arange(len(counts)), counts)
        self.lengths: NDArray[np.int64] = np.concatenate(lengths)
        self.shape = (len(self.lengths), len(preprocessing.channels), int(self.lengths.max()))
        self._warned: set[tuple[int, str]] = set()
        self._start_over()

    def _start_over(self) -> None:
        self._pieces: Iterator[NDArray[np.float32]] = iter(())
        self._of, self._next = -1, 0  # the recording that is read, and the row of its next piece
        self._last: tuple[NDArray[np.intp], NDArray[np.float32]] | None = None

    def _front(self, recording: Recording, start: int = 0) -> FrontEnd:
        return FrontEnd(recording.signal, self._preprocessing, every=self._steps, start=start, **self._leads)

    def __len__(self) -> int:
        return self.shape[0]

    def name(self, row: int) -> str:
        """The name of a row's recording."""
        return self._recordings[int(self.recording[row])].signal.name

    def first(self, count: int) -> RecordPieces:
        """The first ``count`` rows."""
        part = copy.copy(self)
        part.lengths = self.lengths[:count]
        part.shape = (len(part.lengths), self.shape[1], int(part.lengths.max()))
        part._start_over()
        return part

    def __getitem__(self, rows: slice | NDArray[Any]) -> NDArray[np.float32]:
        numbers = np.arange(len(self))[rows]
        # Several precisions ask for the same rows in turn.
        if self._last is None or not np.array_equal(self._last[0], numbers):
            self._last = None
            x = np.zeros((len(numbers), *self.shape[1:]), np.float32)
            for row, number in zip(x, numbers.tolist(), strict=True):
                row[:, : self.lengths[number]] = self._read(number)
            self._last = numbers, x
        return self._last[1]

    def _read(self, row: int) -> NDArray[np.float32]:
        recording = int(self.recording[row])
        if recording != self._of or row != self._next:
            first = row - int(self._starts[recording])
            self._pieces, self._of, self._next = self._pieces_of(recording, first), recording, row
        for piece in self._pieces:
            self._next += 1
            if self._next > row and piece.shape[1] == self.lengths[row]:
                return piece
        raise DataError("a recording changed while it was read; read the folder again")

    def _pieces_of(self, number: int, first: int) -> Iterator[NDArray[np.float32]]:
        """The pieces of a recording from number ``first`` on, each (channels, steps)."""
        for block in self._blocks(self._recordings[number], first * self._steps):
            flags = {
                f"{channel} {flag}"
                for channel, found in block.quality.items()
                for flag in found
                if flag in FILLED
            }
            if new := sorted(flag for flag in flags if (number, flag) not in self._warned):
                self._warned |= {(number, flag) for flag in new}
                warnings.warn(f"{self._recordings[number].signal.name}: {', '.join(new)}", stacklevel=2)
            assert block.x is not None  # only a gap policy that stops has blocks without samples
            yield block.x

    def _blocks(self, recording: Recording, after: int) -> Iterator[Block]:
        """The blocks after so many steps of a recording."""
        front = self._front(recording)
        if start := max(0, math.floor(front.samples(after)) - front.settled):
            front = self._front(recording, start)
        for part in recording.parts(start):
            if isinstance(part, Samples):
                front.add_mapped(front.leads(part.values))
            else:
                front.add_missing(part.count)
            while front.ready:
                if (block := front.ready.popleft()).steps > after:
                    yield block
        front.finish()
        yield from (block for block in front.ready if block.steps > after)
        if rest := front.rest():
            yield rest
