"""Resamples a stream with a polyphase low-pass filter. Its whole state can be saved and loaded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Annotated, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from multires_edge.base.errors import InputError, StateError
from multires_edge.format.arrays import Array
from multires_edge.format.fields import Natural

# A ratio with a larger denominator is rounded: by 5e-7 at most, half a sample in 10^6.
_LARGEST_DENOMINATOR = 1000
_HALF_LENGTH = 10  # in samples of the slower side
_KAISER_BETA = 5.0
# More windows of inputs would not fit the cache.
_OUTPUTS_AT_ONCE = 256
# From so many outputs for each phase of the filter on, they are computed phase by phase.
_EACH_PHASE = 8

SLOWEST, FASTEST = 50.0, 2000.0


@dataclass(frozen=True, eq=False)
class ResamplerState:
    """The last inputs, the number of the first one, and how many inputs and outputs the record has so far."""

    past: Annotated[NDArray[np.float64], Array("float64", 2, finite=True)]
    start: Natural
    received: Natural
    produced: Natural


class Resampler:
    """Resamples (n, channels) float64 from ``rate`` Hz to ``target`` Hz, for any n.

    Output m is y[m] = sum over k of h[k] u[m down + half - k], where u is the input with up - 1 zeros after
    each sample and h a Kaiser-windowed sinc. This equals ``scipy.signal.resample_poly(x, up, down,
    padtype="edge")`` of the whole recording: the first sample is held before the start, and the last after
    the end.
    """

    def __init__(self, rate: float, target: float, channels: int) -> None:
        check_rate(rate)
        ratio = (Fraction(float(target)) / Fraction(float(rate))).limit_denominator(_LARGEST_DENOMINATOR)
        if not ratio:
            raise InputError(f"cannot resample from {rate} Hz to {target} Hz")
        self.up, self.down = ratio.numerator, ratio.denominator
        self._filter, self._half = _phases(self.up, self.down)
        self._past: NDArray[np.float64] = np.zeros((self._filter.shape[1] - 1, channels))
        self.lookahead = self._half / (
            self.up * rate
        )  # seconds of input that an output needs after its own time
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Start over: the next input is number ``start`` of the record.

        Inputs and outputs keep their numbers in the record, so that the outputs do not depend on the start
        once the filter is full. The first output is the first one at the start or after it.
        """
        self._past[:] = 0
        self._start = self.received = start
        self.produced = self.outputs(start)

    def needed(self, outputs: int) -> int:
        """The number of inputs of the record that so many outputs need."""
        return ((outputs - 1) * self.down + self._half) // self.up + 1 if outputs > 0 else 0

    def _complete(self, received: int) -> int:
        """The number of outputs that so many inputs complete."""
        return max(0, (received * self.up - 1 - self._half) // self.down + 1)

    def process(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take finite samples (n, channels) and return the outputs that they complete, (m, channels)."""
        if not len(x):
            return np.empty((0, x.shape[1]))
        if self.received == self._start:
            self._past[:] = x[0]
        first = self.received - len(self._past)  # number of the buffer's first input
        buffer = np.concatenate([self._past, x])
        self.received += len(x)
        end = self._complete(self.received)
        y = self._outputs(buffer, first, self.produced, end)
        self._past = buffer[len(buffer) - len(self._past) :].copy()
        self.produced = max(self.produced, end)
        return y

    def _outputs(self, buffer: NDArray[np.float64], first: int, start: int, end: int) -> NDArray[np.float64]:
        """The outputs (m, channels) from ``start`` to ``end``; ``first`` is the number of the buffer's first
        input."""  # fmt: skip
        count, taps = max(0, end - start), self._filter.shape[1]
        y = np.empty((buffer.shape[1], count))
        if not count:
            return y.T
        # (channels, inputs, taps): einsum adds the products of a window in the same order, however many
        # windows there are. The rounding of BLAS depends on their number.
        windows = sliding_window_view(np.ascontiguousarray(buffer.T), taps, axis=1)
        numbers = np.arange(start, end) * self.down + self._half
        oldest, phases = numbers // self.up - (first + taps - 1), numbers % self.up
        if count >= _EACH_PHASE * self.up:
            # The windows of a phase are evenly spaced, and need no copy.
            for i in range(self.up):
                some = windows[:, oldest[i] :: self.down][:, : len(oldest[i :: self.up])]
                np.einsum("t,cmt->cm", self._filter[phases[i]], some, out=y[:, i :: self.up])
            return y.T
        for i in range(0, count, _OUTPUTS_AT_ONCE):
            some = windows[:, oldest[i : i + _OUTPUTS_AT_ONCE]]
            weights = self._filter[phases[i : i + _OUTPUTS_AT_ONCE]]
            np.einsum("mt,cmt->cm", weights, some, out=y[:, i : i + _OUTPUTS_AT_ONCE])
        return y.T

    def outputs(self, received: int) -> int:
        """The number of outputs of a recording with so many inputs: ceil(received up / down)."""
        return -(-received * self.up // self.down)

    def finish(self) -> NDArray[np.float64]:
        """The remaining outputs of the recording, from holding its last sample."""
        total = self.outputs(self.received)
        due = total - self.produced
        if due <= 0:
            return np.empty((0, self._past.shape[1]))
        return self.process(np.repeat(self._past[-1:], self.needed(total) - self.received, axis=0))[:due]

    def save(self) -> ResamplerState:
        return ResamplerState(self._past.copy(), self._start, self.received, self.produced)

    def load(self, saved: ResamplerState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        counted = max(self.outputs(saved.start), self._complete(saved.received)) == saved.produced
        if saved.past.shape != self._past.shape or not (counted and saved.start <= saved.received):
            raise StateError(
                f"the resampler's state has shape {saved.past.shape}, expected {self._past.shape}: it is of "
                "another rate, or damaged"
            )
        self._past = saved.past.copy()
        self._start, self.received, self.produced = saved.start, saved.received, saved.produced


def check_rate(rate: Any) -> None:
    """Raise InputError unless a device can have this rate in Hz."""
    is_number = isinstance(rate, Real)
    if not is_number or not SLOWEST <= rate <= FASTEST:
        raise InputError(f"the rate is {rate} Hz, expected {SLOWEST:.0f} to {FASTEST:.0f} Hz")


def _phases(up: int, down: int) -> tuple[NDArray[np.float64], int]:
    """The filter as (up, taps), one row per phase, oldest input first; and half its length, rounded down."""
    if up == down:
        return np.ones((1, 1)), 0
    slower = max(up, down)
    half = _HALF_LENGTH * slower
    n = np.arange(-half, half + 1)
    taps = np.sinc(n / slower) * np.kaiser(2 * half + 1, _KAISER_BETA)
    taps *= up / taps.sum()
    padded = np.zeros(-(-len(taps) // up) * up)
    padded[: len(taps)] = taps
    return np.ascontiguousarray(padded.reshape(-1, up)[::-1].T), half
