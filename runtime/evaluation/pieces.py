"""The recordings of a folder as the rows of an array: cut into pieces, and read when they are indexed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError

# The pieces of one recording from its start, each (channels, steps) float32.
Reader = Callable[[], Iterator[NDArray[np.float32]]]


class RecordPieces:
    """Rows (pieces, channels, steps) float32, padded with zeros; ``lengths`` (pieces,) are their steps.

    The arguments ``names``, ``readers`` and ``lengths`` (those of its pieces) have one item per recording.
    Only the rows that were indexed last stay in memory. Indexing rows in ascending order reads each recording
    once; going back reads a recording from its start again.
    """

    def __init__(
        self,
        names: Sequence[str],
        readers: Sequence[Reader],
        lengths: Sequence[NDArray[np.int64]],
        channels: int,
    ) -> None:
        counts = [len(each) for each in lengths]
        self._names, self._readers = names, readers
        self._starts = np.cumsum([0, *counts[:-1]])
        self._recording = np.repeat(np.arange(len(counts)), counts)
        self.lengths: NDArray[np.int64] = np.concatenate(lengths)
        self.shape = (len(self.lengths), channels, int(self.lengths.max()))
        self._start_over()

    def _start_over(self) -> None:
        self._pieces: Iterator[NDArray[np.float32]] = iter(())
        self._of, self._next = -1, 0  # the recording that is read, and the row of its next piece
        self._last: tuple[NDArray[np.intp], NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def name(self, row: int) -> str:
        """The name of a row's recording."""
        return self._names[int(self._recording[row])]

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
        recording = int(self._recording[row])
        if recording != self._of or row < self._next:
            self._pieces, self._of = self._readers[recording](), recording
            self._next = int(self._starts[recording])
        for piece in self._pieces:
            self._next += 1
            if self._next > row and piece.shape[1] == self.lengths[row]:
                return piece
        raise DataError("a recording changed while it was read; read the folder again")
