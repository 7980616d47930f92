"""What ten seconds of leads show: offsets and wander, and limb leads that cannot be of one heart.

The limits are from real data, 1,967 records of PTB-XL. Over ten seconds, 99 % of the leads have a median
within 0.13 mV, and 90 % have medians of single seconds within 0.31 mV of each other. The largest
contradiction of limb leads is 0.008. Leads I and V6 correlate below -0.5 in 0.25 % of the records, and in
86 % after the arm electrodes are swapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.arrays import Array
from multires_edge.runtime.ecg.leads import plain_name

# Flags in the order of their bits.
TRENDS = ("offset", "wander", "contradiction", "arms_swapped")
_OFFSET, _WANDER, _CONTRADICTION, _SWAPPED = (1 << i for i in range(len(TRENDS)))
_SECONDS = 10
# Einthoven and Goldberger: each limb lead as a sum of I and II.
_RELATIONS = {"iii": (-1.0, 1.0), "avr": (-0.5, -0.5), "avl": (1.0, -0.5), "avf": (-0.5, 1.0)}


@dataclass(frozen=True)
class TrendLimits:
    """In volts, or as a ratio; ``seconds`` are the whole seconds that each needs.

    A contradiction is the rms of a limb lead less its value by Einthoven's law, relative to the largest of
    the three leads. Arm electrodes are swapped if leads I and V6 have opposite signs: their correlation.
    """

    offset: float = 0.3e-3
    wander: float = 0.5e-3
    contradiction: float = 0.45
    swapped: float = -0.5
    level_seconds: int = 5
    contradiction_seconds: int = 2
    swapped_seconds: int = 5


@dataclass(frozen=True, eq=False)
class TrendsState:
    """A row of figures for each of the last seconds, NaN where a second has missing values."""

    seconds: Annotated[NDArray[np.float64], Array("float64", 2)]


class Trends:
    """Flags of leads from the last ten seconds.

    ``channels`` are names. Those in ``derived`` were computed from others, so nothing is compared with them.
    ``levels``: whether offsets and wander reach the network, because no high-pass filter is in front of it.
    """

    def __init__(self, channels: Sequence[str], derived: Iterable[str], *, levels: bool) -> None:
        self._levels, self._limits = levels, TrendLimits()
        place = {plain_name(name): i for i, name in enumerate(channels) if name not in set(derived)}
        self._count = len(channels)
        self._relations: list[tuple[int, NDArray[np.float64]]] = []
        if {"i", "ii"} <= set(place):
            for name in _RELATIONS.keys() & place.keys():
                weights = np.zeros(self._count)
                weights[[place["i"], place["ii"]]] = _RELATIONS[name]
                weights[place[name]] = -1
                self._relations.append((place[name], weights))
            self._relations.sort(key=lambda relation: relation[0])
        self._arms = (place["i"], place["v6"]) if {"i", "v6"} <= set(place) else None
        self._width = self._count + 2 * len(self._relations) + 3
        self._seconds: NDArray[np.float64] = np.empty((0, self._width))

    def judge(self, volts: NDArray[np.float64], medians: NDArray[np.float64]) -> NDArray[np.int64]:
        """The codes (seconds, channels) after each second of volts (seconds, samples, channels), NaN without
        a value; ``medians`` (seconds, channels)."""  # fmt: skip
        codes = np.zeros(medians.shape, np.int64)
        for i, (second, median) in enumerate(zip(volts, medians, strict=True)):
            figures = self._figures(second, median)
            self._seconds = np.concatenate([self._seconds[1 - _SECONDS :], figures[None]])
            codes[i] = self._code()
        return codes

    def _figures(self, volts: NDArray[np.float64], median: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = volts - volts.mean(0)
        energy = np.square(moved).mean(0)
        figures = list(median)
        for _, weights in self._relations:
            used = weights != 0
            figures += [np.square(moved[:, used] @ weights[used]).mean(), energy[used].max()]
        if self._arms is None:
            return np.array([*figures, 0, 0, 0])
        one, other = self._arms
        return np.array([*figures, (moved[:, one] * moved[:, other]).mean(), energy[one], energy[other]])

    def _code(self) -> NDArray[np.int64]:
        limits, count = self._limits, self._count
        codes = np.zeros(count, np.int64)
        seconds = self._seconds
        if self._levels:
            medians = seconds[:, :count]
            whole = np.isfinite(medians)
            enough = whole.sum(0)
            level = np.array([np.median(medians[whole[:, i], i]) if enough[i] else 0 for i in range(count)])
            codes[(enough >= limits.level_seconds) & (np.abs(level) > limits.offset)] |= _OFFSET
            reach = np.where(whole, medians, -np.inf).max(0) - np.where(whole, medians, np.inf).min(0)
            codes[(enough >= limits.level_seconds) & (reach > limits.wander)] |= _WANDER
        for k, (_, weights) in enumerate(self._relations):
            pair = _whole(seconds[:, count + 2 * k : count + 2 * k + 2])
            if len(pair) >= limits.contradiction_seconds:
                off, largest = pair.mean(0)
                if off > limits.contradiction**2 * largest:
                    codes[weights != 0] |= _CONTRADICTION
        together = _whole(seconds[:, -3:])
        if self._arms is not None and len(together) >= limits.swapped_seconds:
            product, one, other = together.mean(0)
            if product < limits.swapped * np.sqrt(one * other):
                codes[list(self._arms)] |= _SWAPPED
        return codes

    def save(self) -> TrendsState:
        return TrendsState(self._seconds.copy())

    def load(self, saved: TrendsState) -> bool:
        """Continue from :meth:`save`. Returns False if it is not of these channels."""
        if saved.seconds.shape[1] != self._width or len(saved.seconds) > _SECONDS:
            return False
        self._seconds = saved.seconds.copy()
        return True


def _whole(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    return figures[np.isfinite(figures).all(1)]
