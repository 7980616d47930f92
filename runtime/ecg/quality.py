"""Flags of faulty leads. They are computed before gaps are filled, and reported with every decision."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.format.arrays import Array, all_finite
from multires_edge.format.fields import Natural
from multires_edge.runtime.ecg.trends import TREND_SECONDS, TRENDS, Trends, TrendsState

# The flags of a channel, of channels with at least one flag.
Flags = dict[str, tuple[str, ...]]
# In the order of reports.
FLAGS = ("missing", "gap", "nan", "flat", "clipped", "noise", "implausible", *TRENDS)
# The flags of samples that are missing, and are filled before the network sees them.
FILLED = FLAGS[:3]
_GAP, _NAN, _FLAT, _CLIPPED, _NOISE, _IMPLAUSIBLE = (1 << i for i in range(1, 7))
_TREND_BITS = FLAGS.index(TRENDS[0])
# The network cannot judge a heart from a lead with one of these flags.
_UNUSABLE = _FLAT | _CLIPPED | _IMPLAUSIBLE | 1 << FLAGS.index("no_beat") | 1 << FLAGS.index("offset")


@dataclass(frozen=True)
class QualityLimits:
    """The limits of a good second of a lead, in volts on the skin.

    A lead is flat if it moves less than ``flat``. It is clipped if it stays at its highest or lowest value
    for ``plateau`` seconds, more than ``rail`` away from its median. It is noisy if its noise is above
    ``noise`` (rms); QRS complexes do not affect the estimate. No heart moves a lead by more than ``largest``:
    in PTB-XL, 99.99 % of the leads move less than 7.6 mV in a second.
    """

    flat: float = 10e-6
    rail: float = 1e-3
    plateau: float = 0.02
    noise: float = 50e-6
    largest: float = 10e-3


@dataclass(frozen=True)
class Verdict:
    """The flags of faulty channels, and the number of channels that show a heart."""

    flags: Flags
    usable: int


@dataclass(frozen=True, eq=False)
class QualityState:
    """The samples of the second that has not ended, and those still to come of one that is not judged; the
    flags of the last one and since :meth:`take`, and which channels had a value since then."""  # fmt: skip

    window: Annotated[NDArray[np.float64], Array("float64", 2)]
    skipped: Natural
    judged: Annotated[NDArray[np.int64], Array("int64", 1)]
    since: Annotated[NDArray[np.int64], Array("int64", 1)]
    valued: Annotated[NDArray[np.bool_], Array("bool", 1)]
    taken: bool
    trends: TrendsState


class Quality:
    """Flags of each channel, from samples at the source's rate.

    :meth:`take` returns the flags since its last call. Gaps and NaNs are those among the samples since then.
    Flat, clipped and noise are judged when a second ends, and stay until the next second ends.
    """

    memory = 2.0 + TREND_SECONDS  # seconds after which the flags do not depend on the first sample

    def __init__(
        self,
        rate: float,
        channels: list[str],
        missing: Sequence[str],
        unit_volts: float,
        *,
        derived: Sequence[str] = (),
        levels: bool = True,
    ) -> None:
        self._channels = channels
        self._trends = Trends(channels, [*derived, *missing], rate, levels=levels)
        self._valued = np.zeros(len(channels), bool)
        self._taken = False
        self._present = np.array([channel not in missing for channel in channels])
        self._missing = frozenset(missing)
        self._limits = QualityLimits()
        self._volts = unit_volts
        self._lag = max(1, round(0.005 * rate))
        self._plateau = max(3, round(self._limits.plateau * rate))
        self._second = max(2 * self._lag + 1, round(rate))
        self._window: NDArray[np.float64] = np.zeros((self._second, len(channels)))
        self._filled = self._skip = 0
        self._judged = np.zeros(len(channels), np.int64)
        self._since = np.zeros(len(channels), np.int64)

    def inspect(
        self, x: NDArray[np.float64], silent: NDArray[np.bool_], ends: Sequence[int] = ()
    ) -> list[Verdict]:
        """Inspect x (n, channels) in the card's unit, NaN without a value; ``silent`` (n,) never arrived.

        Returns the result of :meth:`take` after the first ``end`` samples, for each of ``ends``.
        """
        seconds = self._seconds(x)
        whole = all_finite(x) and not silent.any()
        verdicts: list[Verdict] = []
        start = 0
        for end in (*ends, len(x)):
            if end > start:
                self._begin()
            if whole:
                self._valued |= end > start
            else:
                self._look_for_gaps(x[start:end], silent[start:end])
            while seconds and seconds[0][0] <= end:
                self._judged = seconds.popleft()[1]
                self._since |= self._judged
            start = end
            if len(verdicts) < len(ends):
                verdicts.append(self.take())
        return verdicts

    def skim(self, x: NDArray[np.float64], silent: NDArray[np.bool_]) -> None:
        """Note which values are missing, in the samples before :meth:`start_over`: no decision follows."""
        if len(x):
            self._begin()
            self._look_for_gaps(x, silent)

    def _begin(self) -> None:
        """Forget what was taken, before the first samples after it."""
        if self._taken:
            self._taken = False
            self._since[:], self._valued[:] = 0, False

    def _look_for_gaps(self, x: NDArray[np.float64], silent: NDArray[np.bool_]) -> None:
        if silent.any():
            self._since |= _GAP
        found = np.isfinite(x)
        self._since[~found[~silent].all(0)] |= _NAN
        self._valued |= found.any(0)

    def _seconds(self, x: NDArray[np.float64]) -> deque[tuple[int, NDArray[np.int64]]]:
        """The seconds that end among these samples: the number of samples up to the end, and the codes."""
        skipped = min(self._skip, len(x))
        self._skip -= skipped
        return deque((skipped + end, codes) for end, codes in self._whole_seconds(x[skipped:]))

    def _whole_seconds(self, x: NDArray[np.float64]) -> list[tuple[int, NDArray[np.int64]]]:
        filled, second = self._filled, self._second
        count, self._filled = divmod(filled + len(x), second)
        taken = count * second - filled if count else 0
        if count:
            ended = np.concatenate([self._window[:filled], x[:taken]]) if filled else x[:taken]
            # Channels first: numpy is several times as fast along contiguous samples.
            by_channel = np.ascontiguousarray(ended.T) * self._volts
            codes = self._judge(by_channel.reshape(-1, count, second))
            filled = 0
        self._window[filled : self._filled] = x[taken:]
        return [((i + 1) * second - (second * count - taken), codes[i]) for i in range(count)]

    def start(self, number: int) -> None:
        """The first sample is number ``number`` of its record, whose seconds are judged from its start."""
        self._skip = -number % self._second

    def start_over(self, *, gap: bool) -> None:
        """Forget the samples so far, but not that some were missing since the last :meth:`take`.

        ``gap``: samples never arrived.
        """
        self._begin()
        self._since |= _GAP if gap else 0
        self._filled = self._skip = 0
        self._judged[:] = 0
        self._since &= _GAP | _NAN
        self._valued[:] = False
        self._trends.start_over()

    def take(self) -> Verdict:
        """The flags since the last call, by channel, and how many channels had a usable value."""
        codes = self._since | self._judged
        usable = np.count_nonzero(self._valued & self._present & (codes & _UNUSABLE == 0))
        self._taken = True  # decisions at the end of a record have no further samples
        flags: Flags = {}
        for channel, code in zip(self._channels, codes.tolist(), strict=True):
            if channel in self._missing:
                flags[channel] = ("missing",)
            elif code:
                flags[channel] = tuple(flag for i, flag in enumerate(FLAGS) if code >> i & 1)
        return Verdict(flags, int(usable))

    def _judge(self, volts: NDArray[np.float64]) -> NDArray[np.int64]:
        """The codes (seconds, channels) of volts (channels, seconds, samples), which are contiguous."""
        limits = self._limits
        high, low = volts.max(2), volts.min(2)  # NaN where a value is missing
        whole: NDArray[np.bool_] = np.asarray(np.isfinite(high) & np.isfinite(low))
        given = volts
        if not whole.all():
            partly = volts[~whole]
            high[~whole], low[~whole] = np.fmax.reduce(partly, 1), np.fmin.reduce(partly, 1)
            # The rest needs all values of a second; zeros are fast to compute with.
            volts = np.where(whole[:, :, None], volts, 0.0)
        flat = high - low < limits.flat
        codes = np.where(flat, _FLAT, 0) | np.where(high - low > limits.largest, _IMPLAUSIBLE, 0)
        middle = _median(volts)
        trends = self._trends.judge(given, np.where(whole & ~flat, middle, np.nan))
        for extreme in (high, low):
            for channel, i in np.argwhere(whole & (np.abs(extreme - middle) > limits.rail)):
                stands = volts[channel, i] == extreme[channel, i]
                codes[channel, i] |= _CLIPPED if _longest_run(stands) >= self._plateau else 0
        codes |= np.where(whole & self._are_noisy(volts), _NOISE, 0)
        return np.asarray(codes.T | trends << _TREND_BITS, np.int64)

    def _are_noisy(self, volts: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether seconds are noisy, (channels, seconds).

        The second difference of white noise with deviation s has deviation sqrt(6) s; its median absolute
        value is 0.6745 times that. A QRS complex is too short to affect the median over a second.
        """
        lag = self._lag
        bends = volts[:, :, lag:-lag] * -2
        bends += volts[:, :, 2 * lag :]
        bends += volts[:, :, : -2 * lag]
        large = np.abs(bends, out=bends) > self._limits.noise * (0.6745 * 6**0.5)
        # The upper median is large if the values above it are, and there are so many of these.
        count = large.shape[2]
        return np.asarray(np.count_nonzero(large, axis=2) >= count - count // 2)

    def save(self) -> QualityState:
        return QualityState(
            self._window[: self._filled].copy(),
            self._skip,
            self._judged.copy(),
            self._since.copy(),
            self._valued.copy(),
            self._taken,
            self._trends.save(),
        )

    def load(self, saved: QualityState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        channels, codes = len(self._channels), (saved.judged, saved.since)
        known = all(len(c) == channels and ((c >= 0) & (c < 1 << len(FLAGS))).all() for c in codes)
        known = known and len(saved.valued) == channels
        known = known and max(len(saved.window), saved.skipped) < self._second
        if not known or saved.window.shape[1] != channels or (len(saved.window) and saved.skipped):
            raise StateError(f"the state's quality is not of {channels} channels and less than a second")
        self._trends.load(saved.trends)
        self._filled, self._skip = len(saved.window), saved.skipped
        self._window[: self._filled] = saved.window
        self._judged, self._since = saved.judged.copy(), saved.since.copy()
        self._valued, self._taken = saved.valued.copy(), saved.taken


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper median along the last axis; numpy's median takes three times as long."""
    middle = values.shape[-1] // 2
    return np.asarray(np.partition(values, middle, axis=-1)[..., middle])


def _longest_run(mask: NDArray[np.bool_]) -> int:
    if np.count_nonzero(mask) < 2:
        return int(mask.any())
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max())
