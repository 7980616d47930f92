"""Samples that are stored as differences from those before: WFDB's format 8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multires_edge.runtime.ecg.sources.recordings.frames import FrameFile
from multires_edge.runtime.ecg.sources.recordings.record import Values

# Frames that are summed at once.
_FRAMES = 1 << 16


class Differences:
    """Sums the differences in ``frames``, from the ``initial`` values of its signals on.

    A sample needs all differences before it. The sums before the latest read are kept, so a recording that is
    read in order is read twice.
    """

    def __init__(self, frames: FrameFile, initial: Sequence[int]) -> None:
        self._frames = frames
        # The number of a frame, and the samples (signals,) before it.
        self._start = self._before = 0, np.array(initial, np.float64)

    def length(self) -> int:
        """Whole frames in the file."""
        return self._frames.length()

    def read(self, first: int, stop: int, signals: Sequence[int]) -> Values:
        """The samples (n, signals) in the frames from ``first`` to ``stop``. Raises Damaged."""
        at, sums = self._before if self._before[0] <= first else self._start
        while at < first:
            until = min(at + _FRAMES, first)
            sums = sums + [self._frames.read(at, until, [i]).sum() for i in range(len(sums))]
            at = until
        self._before = at, sums
        values: Values = np.cumsum(self._frames.read(first, stop, signals), axis=0)
        return values + sums[list(signals)]
