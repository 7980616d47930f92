"""What ten seconds of leads show: no heart, offsets and wander, and limb leads that cannot be of one heart.

The limits are from real data, 1,967 records of PTB-XL. Over ten seconds, 99 % of the leads have a median
within 0.13 mV, and 90 % have medians of single seconds within 0.31 mV of each other. The largest
contradiction of limb leads is 0.008. Leads I and V6 correlate below -0.5 in 0.25 % of the records, and in
86 % after the arm electrodes are swapped. In three seconds, the lead that moves most moves by 0.56 mV or more
within 0.1 s, and aVL alone, the smallest lead, by 0.059 mV.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.format.arrays import Array
from multires_edge.runtime.ecg.lead_names import plain_name
from multires_edge.runtime.ecg.leads import DERIVED

# Flags in the order of their bits.
TRENDS = ("no_beat", "offset", "wander", "contradiction", "arms_swapped")
_NO_BEAT, _OFFSET, _WANDER, _CONTRADICTION, _SWAPPED = (1 << i for i in range(len(TRENDS)))
TREND_SECONDS = 10


@dataclass(frozen=True)
class TrendLimits:
    """In volts, or as a ratio; ``seconds`` are the whole seconds that each needs.

    A contradiction is the rms of a limb lead less its value by Einthoven's law, relative to the largest of
    the three leads. Arm electrodes are swapped if leads I and V6 have opposite signs: their correlation. No
    lead shows a beat if none of them moves by ``beat`` within 0.1 s, mains hum aside; by ``beat_of_many`` if
    there are ``many`` leads.
    """

    beat: float = 0.05e-3
    beat_of_many: float = 0.2e-3
    many: int = 8
    offset: float = 0.3e-3
    wander: float = 0.5e-3
    contradiction: float = 0.45
    swapped: float = -0.5
    beat_seconds: int = 3
    level_seconds: int = 5
    contradiction_seconds: int = 2
    swapped_seconds: int = 5


@dataclass(frozen=True, eq=False)
class TrendsState:
    """A row of figures for each of the last ten seconds, NaN where a second has missing values."""

    seconds: Annotated[NDArray[np.float64], Array("float64", 2)]


class Trends:
    """Flags of leads from the last ten seconds.

    ``channels`` are names. Those in ``derived`` were computed from others, so nothing is compared with them.
    ``rate`` is that of the samples in Hz.
    ``levels``: whether offsets and wander reach the network, because no high-pass filter is in front of it.
    """

    def __init__(self, channels: Sequence[str], derived: Iterable[str], rate: float, *, levels: bool) -> None:
        self._levels, self._limits = levels, TrendLimits()
        # A period of mains hum at 50 Hz, and five of them: six at 60 Hz.
        self._hum, self._beat = max(1, round(rate / 50)), max(1, round(rate / 10))
        place = {plain_name(name): i for i, name in enumerate(channels) if name not in set(derived)}
        self._count = len(channels)
        # The limb leads that I and II give too.
        bases = ["i", "ii"]
        limbs = [name for name in place if name in DERIVED and set(bases) <= set(place)]
        self._limbs = [place[name] for name in limbs]
        self._bases = [place[base] for base in bases] if limbs else []
        self._arms = [place["i"], place["v6"]] if {"i", "v6"} <= set(place) else []
        self._compared = list(dict.fromkeys([*self._limbs, *self._bases, *self._arms]))
        # Einthoven's law for each limb lead: it, I and II among the compared channels, and their weights.
        count = len(limbs)
        self._trios = np.array([[i, count, count + 1] for i in range(count)])
        self._laws = np.array([[1.0, *(-dict(DERIVED[name])[base] for base in bases)] for name in limbs])
        self._own = list(place.values())
        self._width = self._count + 2 * count + 4
        self.start_over()

    def start_over(self) -> None:
        """Forget the seconds so far."""
        self._seconds: NDArray[np.float64] = np.full((TREND_SECONDS, self._width), np.nan)

    def judge(self, volts: NDArray[np.float64], medians: NDArray[np.float64]) -> NDArray[np.int64]:
        """The codes (seconds, channels) after each second of volts (channels, seconds, samples), NaN without
        a value; ``medians`` (channels, seconds)."""  # fmt: skip
        if not volts.shape[1]:
            return np.zeros(medians.T.shape, np.int64)
        seconds = np.concatenate([self._seconds, self._figures(volts, medians)])
        self._seconds = seconds[-TREND_SECONDS:].copy()
        # For each second, the last ten: (seconds, 10, figures).
        return self._codes(np.moveaxis(sliding_window_view(seconds[1:], TREND_SECONDS, 0), 2, 1))

    def _figures(self, volts: NDArray[np.float64], medians: NDArray[np.float64]) -> NDArray[np.float64]:
        """A row for each second.

        It has the medians, the contradiction of each limb lead, the largest energy of its three leads, then
        the product and the energies of the leads that show swapped arms, and how much of a beat there is.
        """
        count = volts.shape[1]
        off = largest = np.empty((0, count))
        arms = np.zeros((3, count))
        if self._compared:
            covariance = _covariance(volts[self._compared])
            energy = covariance.diagonal(0, 1, 2).T
        if self._limbs:
            trios = covariance[:, self._trios[:, :, None], self._trios[:, None]]
            off = np.einsum("la,slab,lb->ls", self._laws, trios, self._laws)
            largest = energy[self._trios].max(1)
        if self._arms:
            one, other = (self._compared.index(arm) for arm in self._arms)
            arms = np.stack([covariance[:, one, other], energy[one], energy[other]])
        return np.concatenate([medians, off, largest, arms, self._beats(volts)[None]]).T

    def _beats(self, volts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The largest move of a lead within 0.1 s in each second, over that of the smallest beat.

        Hum is averaged out, and what is left of it cancels. NaN without a lead that is whole. A beat is
        looked for at some of the samples first: if they show one, the others are not needed.
        """
        limits, seconds = self._limits, volts.shape[1]
        own = volts if self._own == list(range(self._count)) else volts[self._own]
        summed = np.cumsum(own, axis=2)
        moves = self._moves(summed, max(1, self._hum // 2))
        whole = np.isfinite(moves)
        count = whole.sum(0)
        smallest = np.where(count >= limits.many, limits.beat_of_many, limits.beat)
        without = np.flatnonzero(np.where(whole, moves, 0.0).max(0, initial=0.0) < smallest)
        if len(without):
            some = summed if len(without) == seconds else summed[:, without]
            moves[:, without] = self._moves(some, 1)
        largest = np.where(whole, moves, 0.0).max(0, initial=0.0)
        return np.where(count > 0, largest / smallest, np.nan)

    def _moves(self, summed: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
        """The largest move of each lead and second, from sums of samples; of every so many moves."""
        count, hum, beat = summed.shape[2], self._hum, self._beat
        last = count - hum - beat
        later = summed[:, :, hum + beat :: stride] - summed[:, :, beat : count - hum : stride]
        later -= summed[:, :, hum : count - beat : stride]
        later += summed[:, :, :last:stride]
        return np.asarray(np.abs(later, out=later).max(2, initial=0.0) / hum)

    def _codes(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """The codes (n, channels) of n times ten seconds of figures."""
        limits, count, limbs = self._limits, self._count, len(self._limbs)
        codes = np.zeros((len(seconds), count), np.int64)
        medians, off, largest, rest = np.split(seconds, [count, count + limbs, count + 2 * limbs], axis=2)
        arms, beats = rest[:, :, :3], rest[:, -limits.beat_seconds :, 3]
        codes |= np.where((beats < 1).all(1, keepdims=True), _NO_BEAT, 0)
        if self._levels:
            enough = np.isfinite(medians).sum(1)
            at = np.stack([np.zeros_like(enough), (enough - 1) // 2, enough // 2, enough - 1], axis=1)
            ordered = np.take_along_axis(np.sort(medians, axis=1), at.clip(0), 1)  # NaN last
            lowest, lower, upper, highest = np.moveaxis(ordered, 1, 0)
            known = enough >= limits.level_seconds
            codes |= np.where(known & (np.abs(lower + upper) / 2 > limits.offset), _OFFSET, 0)
            codes |= np.where(known & (highest - lowest > limits.wander), _WANDER, 0)
        if limbs:
            (total, bound), whole = _sums(off, largest)
            wrong = (total > limits.contradiction**2 * bound) & (whole >= limits.contradiction_seconds)
            codes[:, self._limbs] |= np.where(wrong, _CONTRADICTION, 0)
            codes[:, self._bases] |= np.where(wrong.any(1, keepdims=True), _CONTRADICTION, 0)
        if self._arms:
            (product, one, other), whole = _sums(*np.moveaxis(arms, 2, 0))
            swapped = (product < limits.swapped * np.sqrt(one * other)) & (whole >= limits.swapped_seconds)
            codes[:, self._arms] |= np.where(swapped[:, None], _SWAPPED, 0)
        return codes

    def save(self) -> TrendsState:
        return TrendsState(self._seconds.copy())

    def load(self, saved: TrendsState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        if saved.seconds.shape != self._seconds.shape:
            raise StateError("the state's trends are of other channels")
        self._seconds = saved.seconds.copy()


def _covariance(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of channels in each second, (seconds, channels, channels); changes x (channels, seconds, samples)."""
    x -= x.mean(2, keepdims=True)
    by_second = np.moveaxis(x, 1, 0)
    return np.asarray(by_second @ np.moveaxis(by_second, 2, 1) / x.shape[2])


def _sums(*figures: NDArray[np.float64]) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """The sums of figures (n, seconds, ...) over the seconds that have all of them, and their number."""
    whole = np.isfinite(figures).all(0)
    return [np.where(whole, each, 0).sum(1) for each in figures], whole.sum(1)
