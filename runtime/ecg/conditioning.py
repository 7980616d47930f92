"""Samples at their own rate: impossible values, and levels after gaps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.format.arrays import Array, all_finite
from multires_edge.format.fields import Natural
from multires_edge.format.high_pass import Samples

# No heart moves a lead so far between two samples, in volts. A value that does is a sentinel or a spike.
# After so many seconds at another level that level is believed: the electrode has another offset.
_LARGEST_STEP = 10e-3
_BELIEVED_AFTER = 0.5
# Seconds after which the belief in a level does not depend on what was before.
_BELIEF_RENEWED = 2.0
# After a longer gap, in seconds, a lead's level is another one, which is no signal.
LEVEL_KEPT = 0.5


@dataclass(frozen=True, eq=False)
class BeliefState:
    """For each channel, the last believed value, and by how many samples it is believed."""

    last: Annotated[Samples, Array("float64", 1, finite=True)]
    belief: Annotated[NDArray[np.int64], Array("int64", 1)]


@dataclass(frozen=True, eq=False)
class SpikesState:
    """The belief that counts, the one that will take its place, and the number of the next sample."""

    belief: BeliefState
    successor: BeliefState | None
    next: Natural


class Belief:
    """Replaces values that are more than ``step`` away from the believed one by NaN.

    A value near the last believed one strengthens the belief in that level, any other value and a missing one
    weaken it, and the value at which no belief is left becomes the level.
    """

    def __init__(self, channels: int, step: float, strongest: int) -> None:
        self._step, self._strongest = step, strongest
        self.last: Samples = np.zeros(channels)
        self.belief: NDArray[np.int64] = np.ones(channels, np.int64)

    def agrees(self, other: Belief) -> bool:
        """Whether both will do the same with all further samples."""
        return np.array_equal(self.last, other.last) and np.array_equal(self.belief, other.belief)

    def remove(self, x: Samples) -> Samples:
        """Samples (n, channels), NaN without a value."""
        if not len(x):
            return x
        steps = np.empty(x.shape)
        with np.errstate(invalid="ignore"):
            np.subtract(x[0], self.last, out=steps[0])
            np.subtract(x[1:], x[:-1], out=steps[1:])
        if steps.max() <= self._step and steps.min() >= -self._step:  # no NaN
            self.last = x[-1].copy()
            self.belief = np.minimum(self.belief + len(x), self._strongest)
            return x
        x = x.copy()
        for channel in range(x.shape[1]):
            self._remove(x[:, channel], channel)
        return x

    def pass_over(self, count: int) -> None:
        """Take ``count`` samples without a value."""
        self.belief = np.maximum(1, self.belief - count)

    def _remove(self, values: Samples, channel: int) -> None:
        last, belief = float(self.last[channel]), int(self.belief[channel])
        for t, value in enumerate(values.tolist()):
            if math.isnan(value):
                belief = max(1, belief - 1)
                continue
            if abs(value - last) <= self._step:
                last, belief = value, min(belief + 1, self._strongest)
                continue
            values[t] = np.nan
            belief -= 1
            if not belief:
                last, belief = value, 1
        self.last[channel], self.belief[channel] = last, belief

    def save(self) -> BeliefState:
        return BeliefState(self.last.copy(), self.belief.copy())

    def load(self, saved: BeliefState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        known = saved.last.shape == saved.belief.shape == self.last.shape
        if not known or not ((saved.belief >= 1) & (saved.belief <= self._strongest)).all():
            raise StateError(f"the state of spikes is not of {len(self.last)} channels")
        self.last, self.belief = saved.last.copy(), saved.belief.copy()


class Spikes:
    """Replaces values that no heart can have by NaN.

    A belief has no end: values that change between two levels can keep it at either, whatever they were long
    ago. So every two seconds of the record a new belief starts, and two seconds later it takes the place of
    the one before. Nearly always both have become the same by then.
    """

    memory = 2 * _BELIEF_RENEWED  # seconds after which nothing depends on the first sample

    def __init__(self, rate: float, channels: int, unit_volts: float) -> None:
        strongest = max(2, round(_BELIEVED_AFTER * rate))
        self._fresh = partial(Belief, channels, _LARGEST_STEP / unit_volts, strongest)
        self._renewal = round(_BELIEF_RENEWED * rate)
        self.start_over()

    def start_over(self, start: int = 0) -> None:
        """Believe nothing; the next sample is number ``start`` of the record."""
        self._belief, self._next = self._fresh(), start
        self._successor: Belief | None = None

    def remove(self, x: Samples) -> Samples:
        """Samples (n, channels), NaN without a value."""
        parts = []
        while len(x):
            if not self._next % self._renewal:
                self._renew()
            count = self._renewal - self._next % self._renewal
            parts.append(self._belief.remove(x[:count]))
            self._follow(x[:count])
            self._next += len(x[:count])
            x = x[count:]
        return np.concatenate(parts) if parts else x

    def pass_over(self, count: int) -> None:
        """Take ``count`` samples without a value."""
        if count > self.memory / _BELIEF_RENEWED * self._renewal:
            return self.start_over(self._next + count)
        while count:
            if not self._next % self._renewal:
                self._renew()
            some = min(count, self._renewal - self._next % self._renewal)
            for belief in (self._belief, self._successor):
                if belief is not None:
                    belief.pass_over(some)
            self._next += some
            count -= some
        return None

    def _renew(self) -> None:
        if self._successor is not None:
            self._belief = self._successor
        self._successor = self._fresh()

    def _follow(self, x: Samples) -> None:
        """Let the successor see samples too, unless it has become the same."""
        if self._successor is None:
            return
        # A new belief often refuses its first sample, and then none: the others need no search one by one.
        self._successor.remove(x[:1])
        self._successor.remove(x[1:])
        if self._successor.agrees(self._belief):
            self._successor = None

    def save(self) -> SpikesState:
        successor = None if self._successor is None else self._successor.save()
        return SpikesState(self._belief.save(), successor, self._next)

    def load(self, saved: SpikesState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        self._belief.load(saved.belief)
        self._successor, self._next = None, saved.next
        if saved.successor is not None:
            self._successor = self._fresh()
            self._successor.load(saved.successor)


@dataclass(frozen=True, eq=False)
class LevelsState:
    """For each channel: the last value, NaN before the first, the samples without a value since then, and
    the level that is taken away."""  # fmt: skip

    last: Annotated[Samples, Array("float64", 1)]
    absent: Annotated[NDArray[np.int64], Array("int64", 1)]
    level: Annotated[Samples, Array("float64", 1, finite=True)]


class Levels:
    """Fills gaps in front of a high-pass filter, which must not see the levels of electrodes change.

    A lead is zero at its first value. It comes back from a longer gap at another level than it went: that
    step is no signal, and is taken away. Within a gap the last value is held.
    """

    def __init__(self, rate: float, channels: int) -> None:
        self._kept = max(1, round(LEVEL_KEPT * rate))
        self._channels = channels
        self.start_over()

    def start_over(self) -> None:
        """Treat the next sample as the first."""
        self._last: Samples = np.full(self._channels, np.nan)
        self._absent: NDArray[np.int64] = np.zeros(self._channels, np.int64)
        self._level: Samples = np.zeros(self._channels)

    def process(self, x: Samples) -> Samples:
        """The next samples (n, channels), with a value everywhere."""
        if not len(x):
            return x
        if all_finite(x) and np.isfinite(self._last).all() and not self._absent.any():
            self._last = x[-1].copy()
            return x - self._level
        if len(x) > 1 and np.isnan(self._last).all() and not self._absent.any():
            # After the first sample the levels are known: the others need no search one by one.
            return np.concatenate([self.process(x[:1]), self.process(x[1:])])
        x = x.copy()
        for channel in range(x.shape[1]):
            self._bridge(x[:, channel], channel)
        return x

    def _bridge(self, values: Samples, channel: int) -> None:
        """Hold the last value in gaps, and take the step after a long gap away."""
        last, absent = float(self._last[channel]), int(self._absent[channel])
        level = float(self._level[channel])
        for t, value in enumerate(values.tolist()):
            if math.isnan(value):
                absent += 1
            else:
                if math.isnan(last):
                    level = value  # zero at its start
                elif absent >= self._kept:
                    level += value - last
                last, absent = value, 0
            values[t] = 0.0 if math.isnan(last) else last - level
        self._last[channel], self._absent[channel], self._level[channel] = last, absent, level

    def save(self) -> LevelsState:
        return LevelsState(self._last.copy(), self._absent.copy(), self._level.copy())

    def load(self, saved: LevelsState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        shapes = {saved.last.shape, saved.absent.shape, saved.level.shape}
        if shapes != {(self._channels,)} or (saved.absent < 0).any():
            raise StateError(f"the state's levels are not of {self._channels} channels")
        self._last, self._absent = saved.last.copy(), saved.absent.copy()
        self._level = saved.level.copy()
