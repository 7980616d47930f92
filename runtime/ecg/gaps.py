"""What the network is fed where samples are missing, and when a silence ends a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import InputError, StateError
from multires_edge.format.arrays import Array, all_finite
from multires_edge.format.fields import Natural
from multires_edge.runtime.ecg.settings import parse_duration


@dataclass(frozen=True)
class GapPolicy:
    """What the network is fed where a sample is missing.

    "hold" repeats a lead's last value, "zero" takes the card's mean, which the network sees as zero. With
    ``silence``, the stream stops after that many seconds without a value of any lead. It makes no decisions
    until the next sample, and starts over with it.
    """

    fill: str = "hold"
    silence: float | None = None

    @classmethod
    def parse(cls, text: str) -> GapPolicy:
        """Read hold, zero, restart or restart:2s. Raises InputError."""
        kind, _, silence = text.partition(":")
        if kind in ("hold", "zero") and not silence:
            return cls(kind)
        if kind == "restart":
            return cls("hold", parse_duration(silence or 1.0, "the gap's silence"))
        raise InputError(f"gap is {text!r}, expected hold, zero, restart or restart:2s")


@dataclass(frozen=True, eq=False)
class GapsState:
    """The last value of each channel, and the samples of a silence so far."""

    last: Annotated[NDArray[np.float64], Array("float64", 1, finite=True)]
    silent_for: Natural


class Gaps:
    """Applies a policy to samples (n, channels) at the source's rate, NaN without a value.

    ``mean`` (channels,) is the card's; ``present`` are the channels that the source has.
    """

    def __init__(
        self, policy: GapPolicy, rate: float, mean: NDArray[np.float64], present: Sequence[int]
    ) -> None:
        self._policy, self._mean, self._present = policy, mean, list(present)
        self._longest = None if policy.silence is None else max(1, round(policy.silence * rate))
        self.start_over()

    def start_over(self) -> None:
        """Forget the samples so far."""
        self._last = self._mean.copy()
        self._silent_for = 0

    def fill(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The next samples, at least one, with a value everywhere."""
        if not all_finite(x):
            found = np.isfinite(x)
            if self._policy.fill == "zero":
                x = np.where(found, x, self._mean)
            else:
                rows = np.where(found, np.arange(1, len(x) + 1)[:, None], 0)
                held = np.concatenate([self._last[None], x])
                x = np.take_along_axis(held, np.maximum.accumulate(rows, 0), 0)
        self._last = x[-1].copy()
        return x

    def silence(self, x: NDArray[np.float64]) -> int | None:
        """After how many of the next samples the stream stops; None if it does not."""
        if self._longest is None:
            return None
        edges = np.concatenate([[-1 - self._silent_for], self.heard(x), [len(x)]])
        silences = np.diff(edges) - 1
        long = np.flatnonzero(silences >= self._longest)
        if len(long):
            return max(0, int(edges[long[0]]) + 1 + self._longest)
        self._silent_for = int(silences[-1])
        return None

    def heard(self, x: NDArray[np.float64]) -> NDArray[np.intp]:
        """The samples that have a value of any lead that the source has."""
        return np.flatnonzero(np.isfinite(x[:, self._present]).any(1))

    def save(self) -> GapsState:
        return GapsState(self._last.copy(), self._silent_for)

    def load(self, saved: GapsState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        if saved.last.shape != self._mean.shape:
            raise StateError(f"the state has {len(saved.last)} channels, expected {len(self._mean)}")
        self._last, self._silent_for = saved.last.copy(), saved.silent_for
