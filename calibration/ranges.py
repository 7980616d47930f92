"""Choose the range of int8 from a histogram of magnitudes: one function per method.

Quantization is symmetric with zero point 0: q = clip(round(x / scale), -127, 127) with
scale = threshold / 127. A method chooses the threshold of each channel from its histogram.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError, DataError
from multires_edge.base.names import check_name
from multires_edge.calibration.histogram import BINS, MagnitudeHistogram
from multires_edge.format.fields import ABSENT, Name

LEVELS = 127
_ENTROPY_LEVELS = 128
# A channel is dead if its largest magnitude is below this part of the tensor's.
_DEAD = 2.0**-20
# A tensor below this counts as zero; above it, 1 / scale is a finite float32 even in a dead channel.
_SMALLEST = 2.0**-64

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """A method to choose thresholds, by its name in :data:`METHODS`; ``percentile`` is of "percentile"."""

    name: Name
    percentile: float | None = field(default=None, metadata=ABSENT)

    def __post_init__(self) -> None:
        check_name("method", self.name, METHODS)
        if (self.percentile is None) != (self.name != "percentile"):
            number = "a" if self.percentile is None else "no"
            raise ConfigError(f"method {self.name} takes {number} percentile")
        if self.percentile is not None and not 0 < self.percentile <= 100:
            raise ConfigError(f"percentile is {self.percentile}, expected above 0 and at most 100")

    @classmethod
    def of(cls, name: str, percentile: float | None = None) -> Method:
        """A method with its default parameter. Raises ConfigError for an unknown name or parameter."""
        return cls(name, 99.99 if percentile is None and name == "percentile" else percentile)

    def __str__(self) -> str:
        return self.name if self.percentile is None else f"{self.name} {self.percentile}"

    def threshold(self, counts: NDArray[np.int64], width: float, largest: float) -> float:
        """The threshold of one channel, from counts (n,) in bins of ``width``; the last bin is not empty."""
        parameters = {} if self.percentile is None else {"percentile": self.percentile}
        return METHODS[self.name](counts, width, largest, **parameters)


def min_max(counts: NDArray[np.int64], width: float, largest: float) -> float:
    """The largest magnitude: nothing is clipped."""
    return largest


def percentile_rank(counts: NDArray[np.int64], width: float, largest: float, percentile: float) -> float:
    """The magnitude that ``percentile`` percent of all values do not exceed.

    That is the ceil(percentile / 100 * n)-th smallest of the n magnitudes, rounded up to the edge of
    its bin (at most 1/1024 of the largest magnitude), and never more than the largest.
    """
    # A decimal fraction: 99.99 is not exact in binary, and the rank must not depend on its rounding.
    share = Fraction(str(percentile)) / 100
    below = counts.cumsum()
    rank = math.ceil(share * int(below[-1]))
    return min(float((np.searchsorted(below, rank) + 1) * width), largest)


def entropy(counts: NDArray[np.int64], width: float, largest: float) -> float:
    """The threshold whose quantized distribution loses the least information.

    S. Migacz, "8-bit inference with TensorRT", GTC 2017. For every i from 128 to the last bin, P is the
    first i bins, with the counts of all later bins added to the i-th. Q is the first i bins merged into
    128 levels, with the count of a level spread evenly over its bins that are not empty; bin b belongs to
    level floor(128 b / i). KL is infinite if P has weight in a bin where Q has no weight. The method takes
    the smallest i with the smallest KL(P || Q). The threshold is the middle of bin i (i + 1/2 widths), at
    most the largest magnitude.
    """
    return min((_ENTROPY_LEVELS + int(divergence(counts).argmin()) + 0.5) * width, largest)


def divergence(counts: NDArray[np.int64]) -> Array:
    """KL(P || Q) in nats for i = 128, 129, ..., n of counts (n,): (n - 127,).

    With p the counts of P and q those of Q: KL = (sum p log p - sum p log q) / N - log N + log M,
    where N counts all values and M those in the first i bins. All sums run over levels or are
    differences of running sums over bins, so every i costs 128 terms.
    """
    ends = np.arange(_ENTROPY_LEVELS, len(counts) + 1)
    c = counts.astype(np.float64)
    values, filled, entropy = (_running(terms) for terms in (c, c > 0, _xlogx(c)))
    inside, last = values[ends], c[ends - 1]
    outside = values[-1] - inside
    # The first bin of each level, and the end of the last level: ceil(level * i / 128).
    edges = -(-np.arange(_ENTROPY_LEVELS + 1) * ends[:, None] // _ENTROPY_LEVELS)
    level, bins = np.diff(values[edges], axis=1), np.diff(filled[edges], axis=1)
    log_q = np.log(np.divide(level, bins, out=np.ones_like(level), where=bins > 0))
    p_log_p = entropy[ends - 1] + _xlogx(last + outside)
    p_log_q = (level * log_q).sum(1) + outside * log_q[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = (p_log_p - p_log_q) / values[-1] - np.log(values[-1]) + np.log(inside)
    return np.where((outside > 0) & (last == 0), np.inf, kl)


def mean_squared_error(counts: NDArray[np.int64], width: float, largest: float) -> float:
    """The threshold with the smallest mean squared quantization error.

    It is the best of k/128 of the largest magnitude, k = 1 ... 128, and the largest of equal ones. The
    values of a bin count as spread evenly over it.
    """
    tried = largest * np.arange(128, 0, -1) / 128
    return float(tried[quantization_noise(counts, width, tried).argmin()])


METHODS: dict[str, Callable[..., float]] = {
    "minmax": min_max,
    "percentile": percentile_rank,
    "entropy": entropy,
    "mse": mean_squared_error,
}


def clipping_thresholds(method: Method, histogram: MagnitudeHistogram) -> NDArray[np.float32]:
    """One threshold per channel. Raises DataError when every value is zero.

    A channel that is (nearly) zero while others are not is dead. It gets 2^-20 of the largest threshold: a
    scale of zero would make 0 / 0, which is NaN, of values that should be quantized to 0.
    """
    largest = histogram.largest.max()
    if largest < _SMALLEST:
        raise DataError("all zeros; calibrate on real data, or on a network that uses this tensor")
    thresholds = np.zeros(histogram.channels)
    for c in np.flatnonzero(histogram.largest > largest * _DEAD):
        filled = histogram.counts[c, : np.flatnonzero(histogram.counts[c])[-1] + 1]
        thresholds[c] = method.threshold(filled, float(histogram.widths[c]), float(histogram.largest[c]))
    chosen: NDArray[np.float32] = np.maximum(thresholds, thresholds.max() * _DEAD).astype(np.float32)
    return chosen


def signal_to_quantization_noise(histogram: MagnitudeHistogram, thresholds: NDArray[np.float32]) -> float:
    """Mean square of all values over mean square of their quantization error, in dB, by the histogram."""
    signal = noise = 0.0
    edges = np.arange(BINS + 1)
    squares = np.diff(edges.astype(np.float64) ** 3) / 3
    for counts, width, threshold in zip(histogram.counts, histogram.widths, thresholds, strict=True):
        signal += float(counts @ squares) * width**2
        noise += float(quantization_noise(counts, width, np.array([threshold]))[0]) * int(counts.sum())
    return 10 * math.log10(signal / noise)


def quantization_noise(counts: NDArray[np.int64], width: float, thresholds: NDArray[Any]) -> Array:
    """Mean squared error of quantization with each of the thresholds (k,): (k,).

    Values count as spread evenly over their bin. With u = x / scale and q the integer nearest to u, at
    most 127, the integral of the squared error from 0 to x is scale^3 * (q / 12 + (u - q)^3 / 3).
    """
    scale = thresholds.astype(np.float64)[:, None] / LEVELS
    u = np.arange(len(counts) + 1) * width / scale
    q = np.minimum(np.rint(u), LEVELS)
    r = u - q
    summed = scale**3 * (q / 12 + r * r * r / 3)
    noise: Array = np.diff(summed, axis=1) @ counts / (width * counts.sum())
    return noise


def _running(terms: NDArray[Any]) -> Array:
    """0, the first term, the sum of the first two, ...: (n + 1,)."""
    return np.concatenate([[0.0], np.cumsum(terms, dtype=np.float64)])


def _xlogx(x: Array) -> Array:
    result: Array = x * np.log(np.maximum(x, 1))
    return result
