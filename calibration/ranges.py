"""Choose the range of int8 from a histogram of magnitudes: one class per method.

Quantization is symmetric with zero point 0: q = clip(round(x / scale), -127, 127) with
scale = threshold / 127. A method chooses the threshold of each channel from its histogram.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError, DataError
from multires_edge.base.names import check_name
from multires_edge.calibration.histogram import BINS, MagnitudeHistogram

LEVELS = 127
# A channel is dead if its largest magnitude is below this part of the tensor's.
_DEAD = 2.0**-20
# A tensor below this counts as zero; above it, 1 / scale is a finite float32 even in a dead channel.
_SMALLEST = 2.0**-64

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method(ABC):
    """A method to choose thresholds. Its fields are its parameters."""

    name: ClassVar[str]

    @abstractmethod
    def threshold(self, counts: NDArray[np.int64], width: float, largest: float) -> float:
        """The threshold of one channel, from counts (n,) in bins of ``width``; the last bin is not empty."""


@dataclass(frozen=True)
class MinMax(Method):
    """The largest magnitude: nothing is clipped."""

    name: ClassVar[str] = "minmax"

    def threshold(self, counts: NDArray[np.int64], width: float, largest: float) -> float:
        return largest


@dataclass(frozen=True)
class Percentile(Method):
    """The magnitude that ``percentile`` percent of all values do not exceed.

    That is the ceil(percentile / 100 * n)-th smallest of the n magnitudes, rounded up to the edge of
    its bin (at most 1/1024 of the largest magnitude), and never more than the largest.
    """

    percentile: float = 99.99
    name: ClassVar[str] = "percentile"

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise ConfigError(f"percentile is {self.percentile}, expected above 0 and at most 100")

    def threshold(self, counts: NDArray[np.int64], width: float, largest: float) -> float:
        # A decimal fraction: 99.99 is not exact in binary, and the rank must not depend on its rounding.
        share = Fraction(str(self.percentile)) / 100
        below = counts.cumsum()
        rank = math.ceil(share * int(below[-1]))
        return min(float((np.searchsorted(below, rank) + 1) * width), largest)


@dataclass(frozen=True)
class Entropy(Method):
    """The threshold whose quantized distribution loses the least information.

    S. Migacz, "8-bit inference with TensorRT", GTC 2017. For every i from 128 to the last bin, P is the
    first i bins, with the counts of all later bins added to the i-th. Q is the first i bins merged into
    128 levels, with the count of a level spread evenly over its bins that are not empty; bin b belongs to
    level floor(128 b / i). KL is infinite if P has weight in a bin where Q has no weight. The method takes
    the smallest i with the smallest KL(P || Q). The threshold is the middle of bin i (i + 1/2 widths), at
    most the largest magnitude.
    """

    name: ClassVar[str] = "entropy"
    levels: ClassVar[int] = 128

    def threshold(self, counts: NDArray[np.int64], width: float, largest: float) -> float:
        divergence = self.divergence(counts)
        return min((self.levels + int(divergence.argmin()) + 0.5) * width, largest)

    def divergence(self, counts: NDArray[np.int64]) -> Array:
        """KL(P || Q) in nats for i = 128, 129, ..., n of counts (n,): (n - 127,).

        With p the counts of P and q those of Q: KL = (sum p log p - sum p log q) / N - log N + log M,
        where N counts all values and M those in the first i bins. All sums run over levels or are
        differences of running sums over bins, so every i costs 128 terms.
        """
        n = len(counts)
        ends = np.arange(self.levels, n + 1)
        c = counts.astype(np.float64)
        values, filled, entropy = (_running(terms) for terms in (c, c > 0, _xlogx(c)))
        inside, last = values[ends], c[ends - 1]
        outside = values[-1] - inside
        # The first bin of each level, and the end of the last level: ceil(level * i / 128).
        edges = -(-np.arange(self.levels + 1) * ends[:, None] // self.levels)
        level, bins = np.diff(values[edges], axis=1), np.diff(filled[edges], axis=1)
        log_q = np.log(np.divide(level, bins, out=np.ones_like(level), where=bins > 0))
        p_log_p = entropy[ends - 1] + _xlogx(last + outside)
        p_log_q = (level * log_q).sum(1) + outside * log_q[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            kl = (p_log_p - p_log_q) / values[-1] - np.log(values[-1]) + np.log(inside)
        return np.where((outside > 0) & (last == 0), np.inf, kl)


@dataclass(frozen=True)
class MeanSquaredError(Method):
    """The threshold with the smallest mean squared quantization error.

    It is the best of k/128 of the largest magnitude, k = 1 ... 128, and the largest of equal ones. The
    values of a bin count as spread evenly over it.
    """

    name: ClassVar[str] = "mse"
    candidates: ClassVar[int] = 128

    def threshold(self, counts: NDArray[np.int64], width: float, largest: float) -> float:
        tried = largest * np.arange(self.candidates, 0, -1) / self.candidates
        return float(tried[quantization_noise(counts, width, tried).argmin()])


METHODS: dict[str, type[Method]] = {
    method.name: method for method in (MinMax, Percentile, Entropy, MeanSquaredError)
}


def method_named(name: str, **parameters: Any) -> Method:
    """The method of a name. Raises ConfigError for an unknown name or parameter."""
    check_name("method", name, METHODS)
    try:
        return METHODS[name](**parameters)
    except TypeError:
        raise ConfigError(f"method {name} takes no {', '.join(parameters)}") from None


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
