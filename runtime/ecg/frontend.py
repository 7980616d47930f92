"""One source's way from electrodes to the network's inputs: leads, quality, gaps, rate, normalisation.

Samples wait until those of a whole block are there, and a block ends where a decision is due. So
everything behind works on the same blocks, and gives the same bits, however the samples came in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import InputError
from multires_edge.format.card import Preprocessing
from multires_edge.runtime.ecg.decision import Event
from multires_edge.runtime.ecg.gaps import GapPolicy, Gaps
from multires_edge.runtime.ecg.leads import LeadMap, volts_per
from multires_edge.runtime.ecg.quality import Flags, Quality
from multires_edge.runtime.ecg.resample import Resampler, check_rate

# What is ready at once of a recording is looked at, filled and resampled at once, up to so much.
_BLOCKS_TOGETHER = 64


@dataclass
class Block:
    """The steps up to the next decision or reset: ``x`` (channels, steps) float32, or None while silent.

    ``restart``: the stream starts over before it; ``steps``: those since then, with this block's;
    ``decide``: a decision is due at its end; ``reset``: the stream starts over behind it.
    """

    x: NDArray[np.float32] | None
    time: float
    steps: int = 0
    restart: bool = False
    decide: bool = False
    reset: bool = False
    quality: Flags = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    arrived: float | None = None

    @property
    def length(self) -> int:
        """Steps of ``x``, none while silent."""
        return 0 if self.x is None else self.x.shape[1]


class FrontEnd:
    """Turns samples of ``leads`` at ``rate`` Hz into blocks of ``every`` steps, cut where ``reset`` says."""

    def __init__(
        self,
        name: str,
        leads: LeadMap,
        rate: float,
        preprocessing: Preprocessing,
        *,
        every: int,
        reset: int | None,
        gap: GapPolicy,
    ) -> None:
        check_rate(rate)
        rate = float(rate)
        channels = len(leads.channels)
        self.name, self.leads, self.rate = name, leads, rate
        self.ready: deque[Block] = deque()
        self._preprocessing = preprocessing
        self._every, self._reset = every, reset
        self._tick: int = max(1, round(every / preprocessing.sampling_rate * rate))
        self._resampler = Resampler(rate, preprocessing.sampling_rate, channels)
        self._quality = Quality(rate, leads.channels, leads.missing, volts_per(preprocessing.unit))
        mean = np.broadcast_to(np.asarray(preprocessing.mean, np.float64), channels)
        present = [i for i, channel in enumerate(leads.channels) if channel not in leads.missing]
        self._gaps = Gaps(gap, rate, mean, present)
        self._ahead: NDArray[np.float32] = np.empty((channels, 0), np.float32)
        self._waiting: NDArray[np.float64] = np.empty((0, channels))
        self._came: NDArray[np.bool_] = np.empty(0, bool)
        self._index = 0  # of the first sample that waits
        self._origin = 0  # of the sample that the stream started with
        self._steps = 0
        self._stopped = False
        self._restarted = False
        self._notes: deque[tuple[int, Event]] = deque()

    @property
    def received(self) -> int:
        """Samples so far, those that are missing included."""
        return self._index + len(self._waiting)

    @property
    def awaited(self) -> int:
        """How many more samples it takes for the next block."""
        if self._stopped:
            return self._tick - len(self._waiting)
        return self._needed(self._next_cut(self._steps)) - len(self._waiting)

    @property
    def delay(self) -> float:
        """Seconds that a decision lags behind the newest sample, by the resampler's filter."""
        return self._resampler.lookahead

    def add_mapped(
        self, mapped: NDArray[np.float64], arrived: float | None = None, *, came: bool = True
    ) -> None:
        """Take samples (n, channels) as the lead map gives them; ``came`` False for those that did not."""
        self._waiting = np.concatenate([self._waiting, mapped])
        self._came = np.concatenate([self._came, np.full(len(mapped), came)])
        while self._cut(arrived):
            pass

    def missing(self, count: Any, arrived: float | None = None) -> None:
        """Let ``count`` samples pass that never came."""
        is_whole = isinstance(count, Integral)
        if not is_whole or count < 0:
            raise InputError(f"{self.name}: {count!r} samples are missing, expected a whole number")
        while count > 0:
            n = min(count, 4096)
            self.add_mapped(np.full((n, len(self.leads.channels)), np.nan), arrived, came=False)
            count -= n

    def note(self, kind: str, **details: Any) -> None:
        """Report an event at this point of the record, in its turn among the decisions."""
        self._notes.append((self.received, Event(self.name, self.received / self.rate, kind, details)))

    def finish(self) -> None:
        """The source has ended: what the resampler still owes, and what has not been reported.

        Steps at the end that are less than a decision is due for are left out.
        """
        if not self._stopped and self.received:
            self._take(len(self._waiting))
            self._keep(self._resampler.finish())
            while self._ahead.shape[1] >= self._next_cut(self._steps) - self._steps:
                self._emit(self._index, self._quality.take, None)
        if self._notes:
            events = self._events_until(self.received)
            self.ready.append(Block(None, self.received / self.rate, events=events))

    def reopen(self) -> None:
        """A source that had ended is there again: what comes now is a new recording."""
        self._drop(len(self._waiting))
        self._ahead = self._ahead[:, :0]
        self._start_over()

    def _cut(self, arrived: float | None) -> bool:
        """Make blocks of what waits; False where that is not enough for one."""
        if self._stopped:
            return self._listen(arrived)
        needs, decisions = self._whole_blocks()
        if not needs:
            return False
        silence = self._gaps.silence(self._waiting[: needs[-1]])
        if silence is not None:
            before = sum(need < silence for need in needs)
            if not before:
                self._stop(silence)
                return True
            needs, decisions = needs[:before], [need for need in decisions if need < silence]
            self._gaps.silence(self._waiting[: needs[-1]])
        start = self._index
        flags = iter(self._take(needs[-1], decisions))
        for need in needs:
            self._emit(start + need, flags.__next__, arrived)
        return True

    def _whole_blocks(self) -> tuple[list[int], list[int]]:
        """How many of the samples that wait each block takes that is whole, counted from the first block's
        beginning; and those at whose end a decision is due."""
        needs: list[int] = []
        decisions = []
        cut = self._next_cut(self._steps)
        while len(needs) < _BLOCKS_TOGETHER and (need := self._needed(cut)) <= len(self._waiting):
            needs.append(need)
            if cut % self._every == 0:
                decisions.append(need)
            cut = self._next_cut(cut)
        return needs, decisions

    def _needed(self, cut: int) -> int:
        """How many samples it takes, of those that wait, for the steps up to a cut."""
        return max(0, self._resampler.needed(cut) - self._resampler.received)

    def _next_cut(self, steps: int) -> int:
        cuts = [self._every] if self._reset is None else [self._every, self._reset]
        return min((steps // every + 1) * every for every in cuts)

    def _take(self, count: int, decisions: Sequence[int] = ()) -> list[Flags]:
        """Quality, gaps and rate of the next samples; their steps lie in ``_ahead`` then.

        Returns the flags at each decision that is due after so many of them.
        """
        x, came = self._drop(count)
        flags = self._quality.inspect(x, ~came, decisions)
        if count:
            self._keep(self._resampler.process(self._gaps.fill(x)))
        return flags

    def _drop(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        x, came = self._waiting[:count], self._came[:count]
        self._waiting, self._came = self._waiting[count:], self._came[count:]
        self._index += count
        return x, came

    def _keep(self, resampled: NDArray[np.float64]) -> None:
        self._ahead = np.concatenate([self._ahead, self._preprocessing.normalize(resampled.T)], 1)

    def _emit(self, index: int, flags: Callable[[], Flags], arrived: float | None) -> None:
        """Make a block of the first steps of ``_ahead``; ``index`` is that of the sample behind it."""
        cut = self._next_cut(self._steps)
        length = cut - self._steps
        x, self._ahead = self._ahead[:, :length], self._ahead[:, length:]
        self._steps = cut
        decide = cut % self._every == 0
        block = Block(
            np.ascontiguousarray(x),
            self._time(),
            cut,
            self._restarted,
            decide,
            self._reset is not None and cut % self._reset == 0,
            flags() if decide else {},
            self._events_until(index),
            arrived,
        )
        self._restarted = False
        self.ready.append(block)

    def _time(self) -> float:
        """Seconds of the record up to the end of the steps so far."""
        resampler = self._resampler
        return (self._origin + self._steps * resampler.down / resampler.up) / self.rate

    def _events_until(self, index: int) -> list[Event]:
        events = []
        while self._notes and self._notes[0][0] <= index:
            events.append(self._notes.popleft()[1])
        return events

    def _start_over(self) -> None:
        """The next sample is the first of a recording."""
        self._stopped = False
        self._restarted = True
        self._origin, self._steps = self._index, 0
        self._gaps.start_over()
        self._resampler.reset()
        self._notes.append((self._index, Event(self.name, self._index / self.rate, "restart", {})))

    # The gap policy "restart".

    def _stop(self, at: int) -> None:
        x, came = self._drop(at)
        self._quality.inspect(x, ~came)
        self._stopped = True
        self._ahead = self._ahead[:, :0]
        self._notes.append((self._index, Event(self.name, self._index / self.rate, "silent", {})))

    def _listen(self, arrived: float | None) -> bool:
        """Let silence pass, a block of nothing at a time, until a sample comes."""
        heard = self._gaps.heard(self._waiting[: self._tick])
        if len(heard):
            self._drop(int(heard[0]))
            self._start_over()
            return True
        if len(self._waiting) < self._tick:
            return False
        self._drop(self._tick)
        block = Block(None, self._index / self.rate, events=self._events_until(self._index), arrived=arrived)
        self.ready.append(block)
        return True

    # What a checkpoint holds.

    def save(self) -> dict[str, Any]:
        return {
            "waiting": self._waiting.copy(),
            "came": self._came.copy(),
            "ahead": self._ahead.copy(),
            "counts": [self._index, self._origin, self._steps],
            "stopped": self._stopped,
            "restarted": self._restarted,
            "notes": [[index, event.save()] for index, event in self._notes],
            "quality": self._quality.save(),
            "gaps": self._gaps.save(),
            "resampler": self._resampler.save(),
            "ready": [_saved_block(block) for block in self.ready],
        }

    def load(self, saved: dict[str, Any]) -> None:
        self._waiting, self._came = saved["waiting"].copy(), saved["came"].copy()
        self._ahead = saved["ahead"].copy()
        self._index, self._origin, self._steps = saved["counts"]
        self._stopped, self._restarted = saved["stopped"], saved["restarted"]
        self._notes = deque((index, Event(**event)) for index, event in saved["notes"])
        self._quality.load(saved["quality"])
        self._gaps.load(saved["gaps"])
        self._resampler.load(saved["resampler"])
        self.ready = deque(_loaded_block(block) for block in saved["ready"])


def _saved_block(block: Block) -> dict[str, Any]:
    # When a sample arrived is of no use after a restart.
    return vars(block) | {"events": [event.save() for event in block.events], "arrived": None}


def _loaded_block(saved: dict[str, Any]) -> Block:
    quality = {channel: tuple(flags) for channel, flags in saved["quality"].items()}
    events = [Event(**event) for event in saved["events"]]
    return Block(**(saved | {"quality": quality, "events": events}))
