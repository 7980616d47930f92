"""What the page draws: the samples as the network sees them, at the source's rate and as they arrive."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.card import Preprocessing, volts_per
from multires_edge.format.high_pass import Samples
from multires_edge.runtime.ecg.conditioning import Levels, Spikes

# After more seconds than these that never arrived, the filter starts over. It has forgotten what was before.
_LONGEST_GAP = 60.0


class Trace:
    """Removes impossible values and applies the card's high-pass filter, as :class:`FrontEnd` does.

    A stream filters whole blocks, at the network's rate; this does not wait for them. ``silence``: after so
    many seconds without a value of any lead the stream starts over. ``missing`` are channels without a lead.
    """

    def __init__(
        self, preprocessing: Preprocessing, rate: float, *, silence: float | None, missing: tuple[str, ...]
    ) -> None:
        channels = preprocessing.channels
        volts, high_pass = volts_per(preprocessing.unit), preprocessing.high_pass
        self._millivolts = 1000 * volts
        self._spikes = Spikes(rate, len(channels), volts)
        self._levels = Levels(rate, len(channels))
        self._filter = None if high_pass is None else high_pass.filter(rate, len(channels))
        self._present = [i for i, channel in enumerate(channels) if channel not in missing]
        self._longest_silence = None if silence is None else max(1, round(silence * rate))
        self._longest_gap = round(_LONGEST_GAP * rate)
        self._silent_for = 0
        self._next = self._due = 0  # numbers of the next sample to come, and to be returned
        self._absent: NDArray[np.bool_] = np.empty((0, len(channels)), bool)

    def take(self, first: int, samples: Samples) -> list[tuple[int, Samples]]:
        """Take samples (n, channels) in the card's unit, NaN without a value; ``first`` is their number.

        Returns the samples that they complete, in mV, and the number of the first of them: in several parts
        if the stream starts over in between. A linear-phase filter is late.
        """
        gap, parts = first - self._next, []
        if gap > self._longest_gap:
            self._start_over(first)
        elif gap:
            samples = np.concatenate([np.full((gap, samples.shape[1]), np.nan), samples])
            first = self._next
        self._next = first + len(samples)
        x = self._spikes.remove(samples)
        starts = self._starts(x)
        for start, stop in pairwise([0, *starts, len(x)]):
            if start in starts:
                self._start_over(first + start)
            filtered = self._filtered(x[start:stop])
            parts.append((self._due, filtered * self._millivolts))
            self._due += len(filtered)
        return [part for part in parts if len(part[1])]

    def _starts(self, x: Samples) -> list[int]:
        """The samples with which the stream starts over."""
        heard = np.flatnonzero(np.isfinite(x[:, self._present]).any(1))
        silences = np.diff(np.concatenate([[-1 - self._silent_for], heard, [len(x)]])) - 1
        self._silent_for = int(silences[-1])
        if self._longest_silence is None:
            return []
        long = silences[:-1] >= self._longest_silence
        return [int(number) for number in heard[long]]

    def _start_over(self, number: int) -> None:
        self._due = number
        self._absent = self._absent[:0]
        self._levels.start_over()
        if self._filter is not None:
            self._filter.settle()

    def _filtered(self, x: Samples) -> Samples:
        if self._filter is None:
            return x
        self._absent = np.concatenate([self._absent, np.isnan(x)])
        y = self._filter.process(self._levels.process(x))
        absent, self._absent = self._absent[: len(y)], self._absent[len(y) :]
        shown: Samples = np.where(absent, np.nan, y)
        return shown
