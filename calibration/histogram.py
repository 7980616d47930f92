"""Histograms of magnitudes: bounded memory, and the same counts in any order of values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import OverflowedError

# At least 16 bins for each of the 127 magnitudes of int8, and a power of two, so that bins merge exactly.
BINS = 2048
# All values below 2^-100 are in the first bin, so that the factors that map a value to its bin stay normal
# float32 numbers. Normalized data are 1.27e30 times larger.
SMALLEST_EXPONENT = -100
# Values that are counted at once; bounds the memory for a record of hours.
_PIECE = 1 << 20


class MagnitudeHistogram:
    """Counts of |x| per channel, in ``BINS`` equal bins over [0, 2^e).

    2^e is the smallest power of two above the channel's largest magnitude, so a bin is at most 1/1024 of
    that magnitude. When a larger value comes, bins merge in pairs. This is exact, because all edges are
    integers times powers of two: the counts depend only on the values, not on their order.
    """

    def __init__(self, channels: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((channels, BINS), np.int64)
        self.largest: NDArray[np.float32] = np.zeros(channels, np.float32)
        self.exponents: NDArray[np.int32] = np.full(channels, SMALLEST_EXPONENT, np.int32)

    @property
    def channels(self) -> int:
        return len(self.counts)

    @property
    def total(self) -> int:
        """The number of values in all channels."""
        return int(self.counts.sum())

    @property
    def widths(self) -> NDArray[np.float64]:
        """The width of the bins of each channel, (channels,)."""
        return np.ldexp(1.0, self.exponents) / BINS

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values (channels, n) float32. Raises OverflowedError for a NaN or an infinity."""
        piece = max(1, _PIECE // self.channels)
        for start in range(0, values.shape[1], piece):
            self._add(np.abs(values[:, start : start + piece]))

    def _add(self, magnitudes: NDArray[np.float32]) -> None:
        largest = magnitudes.max(axis=1)
        if not np.isfinite(largest).all():
            raise OverflowedError("holds NaN or infinite values")
        self.largest = np.maximum(self.largest, largest)
        # frexp gives the e with 2^(e-1) <= largest < 2^e, but for 0.
        exponents = np.where(self.largest > 0, np.frexp(self.largest)[1], SMALLEST_EXPONENT)
        self._grow(np.maximum(exponents, SMALLEST_EXPONENT))
        scale = np.ldexp(np.float32(BINS), -self.exponents)[:, None]
        bins = (magnitudes * scale).astype(np.int64)
        bins += (np.arange(self.channels) * BINS)[:, None]
        counts = np.bincount(bins.ravel(order="K"), minlength=self.counts.size)
        self.counts += counts.reshape(self.counts.shape)

    def _grow(self, exponents: NDArray[Any]) -> None:
        doublings = exponents - self.exponents
        for doubled in np.unique(doublings[doublings > 0]):
            rows = np.flatnonzero(doublings == doubled)
            merged = _merge(self.counts[rows], int(doubled))
            self.counts[rows] = 0
            self.counts[rows, : merged.shape[1]] = merged
        self.exponents = exponents.astype(np.int32)

    def pooled(self) -> MagnitudeHistogram:
        """The histogram of all channels together."""
        if self.channels == 1:
            return self
        total = MagnitudeHistogram(1)
        total.largest[0] = self.largest.max()
        total.exponents[0] = self.exponents.max()
        for counts, exponent in zip(self.counts, self.exponents, strict=True):
            merged = _merge(counts[None], int(total.exponents[0] - exponent))[0]
            total.counts[0, : len(merged)] += merged
        return total

    def coarse(self, bins: int) -> tuple[float, NDArray[np.int64]]:
        """For a plot of all channels together: the upper end of the range, and the counts in equal bins."""
        pooled = self.pooled()
        counts: NDArray[np.int64] = pooled.counts[0].reshape(bins, -1).sum(1)
        return float(np.ldexp(1.0, pooled.exponents[0])), counts


def _merge(counts: NDArray[np.int64], doublings: int) -> NDArray[np.int64]:
    """Counts (channels, bins) after the width of the bins has doubled ``doublings`` times."""
    together = min(1 << min(doublings, 62), counts.shape[1])
    merged: NDArray[np.int64] = counts.reshape(len(counts), -1, together).sum(2)
    return merged
