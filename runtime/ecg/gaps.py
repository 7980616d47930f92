"""What the network is fed where samples are missing, and which gaps end a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import InputError, StateError
from multires_edge.format.arrays import Array, all_finite
from multires_edge.format.high_pass import Samples
from multires_edge.runtime.ecg.settings import parse_duration

# Seconds of samples that are filled in if they never arrived. After a longer gap half of a window of ten
# seconds would be made up, so the stream starts over.
_LONGEST_FILLED = 5.0
# A lead without a value is held for so many seconds; the card's mean follows. A stream that starts in the
# middle of a record need not know the values before.
LONGEST_HELD = 10.0
# The work of a gap is that of its filled seconds.
_LONGEST_SILENCE = 60.0


@dataclass(frozen=True)
class GapPolicy:
    """What the network is fed where a sample is missing, and when the stream stops.

    "hold" repeats a lead's last value for ten seconds, "zero" takes the card's mean, which the network sees
    as zero. The stream stops after ``silence`` seconds without a value of any lead, and after ``lost``
    seconds of samples that never arrived (None: never). It makes no decisions until the next value, and
    starts over with it.
    """

    fill: str = "hold"
    silence: float | None = None
    lost: float | None = None

    @classmethod
    def parse(cls, text: str) -> GapPolicy:
        """Read hold, zero, restart or restart:2s. Raises InputError."""
        kind, _, duration = text.partition(":")
        if kind in ("hold", "zero") and not duration:
            return cls(kind, None, _LONGEST_FILLED)
        if kind != "restart":
            raise InputError(f"gap is {text!r}, expected hold, zero, restart or restart:2s")
        silence = parse_duration(duration or 1.0, "the gap's silence")
        if silence > _LONGEST_SILENCE:
            raise InputError(f"the gap's silence is {duration}, expected {_LONGEST_SILENCE:g} s or less")
        return cls("hold", silence, silence)


class Silence:
    """Finds the sample after which a policy stops the stream.

    Samples are (n, channels) at ``rate`` Hz, NaN without a value; ``present`` are the channels that the
    source has.
    """

    def __init__(self, policy: GapPolicy, rate: float, present: Sequence[int]) -> None:
        self._present = list(present)
        self._longest_silent, self._longest_lost = (
            None if seconds is None else max(1, round(seconds * rate))
            for seconds in (policy.silence, policy.lost)
        )
        self.silent = 0  # the latest samples, which have no value

    @property
    def watches(self) -> bool:
        """Whether values matter, and not only which samples arrive."""
        return self._longest_silent is not None

    @property
    def longest(self) -> int:
        """The number of samples after which the policy stops the stream at the latest; 0 if it never does."""
        return max(self._longest_silent or 0, self._longest_lost or 0)

    def start_over(self) -> None:
        """Forget the samples so far."""
        self.silent = 0

    def after(self, x: Samples) -> int | None:
        """After how many of the next samples the stream stops; None if it does not."""
        if self._longest_silent is None:
            self.silent = 0
            return None
        edges = np.concatenate([[-1 - self.silent], self.heard(x), [len(x)]])
        silences = np.diff(edges) - 1
        long = np.flatnonzero(silences >= self._longest_silent)
        if len(long):
            return max(0, int(edges[long[0]]) + 1 + self._longest_silent)
        self.silent = int(silences[-1])
        return None

    def after_lost(self) -> int | None:
        """After how many samples that never arrive the stream stops; None if it does not."""
        rooms = [] if self._longest_lost is None else [self._longest_lost]
        if self._longest_silent is not None:
            rooms.append(max(0, self._longest_silent - self.silent))
        return min(rooms, default=None)

    def heard(self, x: Samples) -> NDArray[np.intp]:
        """The samples that have a value of any lead that the source has."""
        return np.flatnonzero(np.isfinite(x[:, self._present]).any(1))


@dataclass(frozen=True, eq=False)
class HoldState:
    """The last value of each channel, and the samples since then."""

    last: Annotated[Samples, Array("float64", 1, finite=True)]
    age: Annotated[NDArray[np.int64], Array("int64", 1)]


class Hold:
    """Fills samples without a value: with the last value of the channel, or with ``mean`` (channels,).

    A value is held for ``longest`` samples; None is forever.
    """

    def __init__(self, fill: str, mean: Samples, longest: int | None = None) -> None:
        self._mean = mean
        self._longest = 0 if fill == "zero" else np.iinfo(np.int64).max if longest is None else longest
        self.start_over()

    def start_over(self) -> None:
        """Forget the last values."""
        self._last = self._mean.copy()
        self._age: NDArray[np.int64] = np.zeros(len(self._mean), np.int64)

    def process(self, x: Samples) -> Samples:
        """The next samples (n, channels), with a value everywhere."""
        if not len(x):
            return x
        if all_finite(x):
            self._last, self._age = x[-1].copy(), np.zeros_like(self._age)
            return x
        found = np.isfinite(x)
        numbers = np.arange(1, len(x) + 1)[:, None]
        rows = np.maximum.accumulate(np.where(found, numbers, 0), 0)
        held = np.take_along_axis(np.concatenate([self._last[None], x]), rows, 0)
        ages = numbers - rows + np.where(rows, 0, self._age)
        self._last, self._age = held[-1].copy(), ages[-1]
        return np.where(ages <= self._longest, held, self._mean)

    def save(self) -> HoldState:
        return HoldState(self._last.copy(), self._age.copy())

    def load(self, saved: HoldState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        if saved.last.shape != self._mean.shape or saved.age.shape != self._mean.shape:
            raise StateError(f"the state has {len(saved.last)} channels, expected {len(self._mean)}")
        self._last, self._age = saved.last.copy(), np.maximum(saved.age, 0)
