"""The high-pass filter that a card may name: it removes electrode offsets and baseline wander.

It runs at the network's rate, before the normalization. Every sum is computed sample by sample and in one
order, so the output is the same to the bit, whatever the size of the chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from multires_edge.base.errors import CardError, StateError
from multires_edge.format.fields import ABSENT, Between

Samples = NDArray[np.float64]
_OTHER = "the state is of another high-pass filter"
# A filter has forgotten its start once this part of it is left: what a few mV then add is less than the
# rounding of the network's float32 inputs.
_FORGOTTEN = 2.0**-32


@dataclass(frozen=True)
class HighPass:
    """A high-pass filter with the corner frequency ``corner`` in Hz.

    "butterworth" is causal and has an ``order``; it bends slow waves such as ST segments. Its gain at the
    corner is 0.71. "linear-phase" bends nothing, and its output is ``delay`` seconds late: a windowed sinc
    over twice the delay. Its gain at the corner is near 0.5 where the delay is at least 1 / corner.
    """

    kind: Literal["butterworth", "linear-phase"]
    corner: Annotated[float, Between(0.01, 5)]
    order: Annotated[int, Between(1, 4)] | None = field(default=None, metadata=ABSENT)
    delay: Annotated[float, Between(0.1, 10)] | None = field(default=None, metadata=ABSENT)

    def __post_init__(self) -> None:
        if (self.order is None) == (self.kind == "butterworth") or (self.delay is None) == (
            self.kind == "linear-phase"
        ):
            raise CardError(
                f"high_pass is {self.kind} with order {self.order} and delay {self.delay}, expected an order "
                "for butterworth, a delay for linear-phase"
            )

    def __str__(self) -> str:
        how = f"order {self.order}" if self.delay is None else f"a delay of {self.delay:g} s"
        return f"{self.kind} with {how}, {self.corner:g} Hz"

    def filter(self, rate: float, channels: int) -> HighPassFilter:
        """Make a filter for samples at ``rate`` Hz."""
        if self.order is not None:
            return Butterworth(self.corner, self.order, rate, channels)
        assert self.delay is not None
        return LinearPhase(self.corner, self.delay, rate, channels)

    def apply(self, samples: NDArray[Any], rate: float) -> Samples:
        """Filter whole records (..., channels, time). The output has no delay."""
        rows = np.ascontiguousarray(samples.reshape(-1, samples.shape[-1]).T, np.float64)
        running = self.filter(rate, rows.shape[1])
        filtered = np.concatenate([running.process(rows), running.finish()])
        whole: Samples = np.ascontiguousarray(filtered.T).reshape(samples.shape)
        return whole


class HighPassFilter:
    """Filters samples (n, channels) float64, for any n. It starts settled: the first sample gives zero.

    The output of a sample comes ``delay`` samples later; :meth:`finish` gives the last ones.
    """

    delay = 0
    memory: int  # after so many samples the output does not depend on when the filter started

    def process(self, x: Samples) -> Samples:
        """Take finite samples (n, channels) and return the outputs that they complete, (m, channels)."""
        raise NotImplementedError

    def finish(self) -> Samples:
        """The last ``delay`` outputs, from holding the last sample."""
        raise NotImplementedError

    def settle(self) -> None:
        """Start over with the next sample."""
        raise NotImplementedError

    def state(self) -> Samples:
        """Everything that the next outputs depend on: (values, channels), without values before a sample."""
        raise NotImplementedError

    def restore(self, state: Samples) -> None:
        """Continue from :meth:`state`. Raises StateError if it is not of this filter."""
        raise NotImplementedError


class Butterworth(HighPassFilter):
    """A cascade of sections of first or second order, by the bilinear transform."""

    def __init__(self, corner: float, order: int, rate: float, channels: int) -> None:
        self._sections = _sections(corner, order, rate)
        self._history: Samples | None = None
        self._shape = (4 * len(self._sections), channels)
        # The slowest pole of the analogue filter: its decay is that of the cascade.
        slowest = 2 * math.pi * corner * (1.0 if order == 1 else math.sin(math.pi / (2 * order)))
        self.memory = math.ceil(-math.log(_FORGOTTEN) / slowest * rate)

    def process(self, x: Samples) -> Samples:
        if not len(x):
            return x.copy()
        if self._history is None:
            self._history = np.zeros(self._shape)
            self._history[:2] = x[0]  # the inputs of later sections are zeros, like the outputs
        y = x
        for section, (gain, a1, a2) in enumerate(self._sections):
            y = self._section(y, self._history[4 * section : 4 * section + 4], gain, a1, a2)
        return y

    def _section(self, x: Samples, history: Samples, gain: float, a1: float, a2: float) -> Samples:
        """History: the last two inputs and the last two outputs, newest first."""
        inputs = np.concatenate([history[1::-1], x])
        y: Samples
        if a2 == 0:
            y = (inputs[2:] - inputs[1:-1]) * gain
        else:
            y = (inputs[2:] - 2 * inputs[1:-1] + inputs[:-2]) * gain
        newest, oldest = history[2].copy(), history[3].copy()
        for t in range(len(y)):
            output = y[t]
            output -= a1 * newest
            if a2:
                output -= a2 * oldest
            newest, oldest = output, newest
        history[:2], history[2], history[3] = inputs[:-3:-1], newest, oldest
        return y

    def finish(self) -> Samples:
        return np.empty((0, self._shape[1]))

    def settle(self) -> None:
        self._history = None

    def state(self) -> Samples:
        return np.empty((0, self._shape[1])) if self._history is None else self._history.copy()

    def restore(self, state: Samples) -> None:
        if len(state) and state.shape != self._shape:
            raise StateError(_OTHER)
        self._history = state.copy() if len(state) else None


class LinearPhase(HighPassFilter):
    """The sample of ``delay`` ago, less a weighted mean (Hann-windowed sinc) of the samples around it."""

    def __init__(self, corner: float, delay: float, rate: float, channels: int) -> None:
        self.delay = max(1, round(delay * rate))
        n = np.arange(-self.delay, self.delay + 1)
        mean = np.sinc(2 * corner / rate * n) * np.cos(math.pi / 2 * n / (self.delay + 1)) ** 2
        self._taps = -mean / mean.sum()
        self._taps[self.delay] += 1
        self.memory = len(self._taps)
        self._past: Samples = np.empty((0, channels))

    def process(self, x: Samples) -> Samples:
        if not len(x):
            return x.copy()
        if not len(self._past):
            self._past = np.repeat(x[:1], self.delay, axis=0)
        inputs = np.concatenate([self._past, x])
        length = len(self._taps)
        self._past = inputs[max(0, len(inputs) - length + 1) :].copy()
        if len(inputs) < length:
            return np.empty((0, inputs.shape[1]))
        # (channels, outputs, taps): einsum adds the products of a window in the same order, however many
        # windows there are. The rounding of BLAS depends on their number.
        windows = sliding_window_view(np.ascontiguousarray(inputs.T), length, axis=1)
        y: Samples = np.einsum("t,cmt->cm", self._taps, windows).T
        return y

    def finish(self) -> Samples:
        return self.process(np.repeat(self._past[-1:], self.delay, axis=0))

    def settle(self) -> None:
        self._past = self._past[:0]

    def state(self) -> Samples:
        return self._past.copy()

    def restore(self, state: Samples) -> None:
        if state.shape[1] != self._past.shape[1] or not (
            len(state) == 0 or self.delay < len(state) < len(self._taps)
        ):
            raise StateError(_OTHER)
        self._past = state.copy()


def _sections(corner: float, order: int, rate: float) -> list[tuple[float, float, float]]:
    """Gain and feedback of each section: y[t] = gain (difference of inputs) - a1 y[t-1] - a2 y[t-2]."""
    k = math.tan(math.pi * corner / rate)
    sections = [(1 / (1 + k), (k - 1) / (k + 1), 0.0)] if order % 2 else []
    for i in range(order // 2):
        damping = 2 * math.sin(math.pi * (2 * i + 1) / (2 * order))
        scale = 1 / (1 + damping * k + k * k)
        sections.append((scale, 2 * (k * k - 1) * scale, (1 - damping * k + k * k) * scale))
    return sections
