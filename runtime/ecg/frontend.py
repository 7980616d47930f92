"""Converts the samples of one source to inputs of the network: leads, quality, gaps, rate, normalization.

Samples wait until those of a whole block are there. A block ends where a decision is due. All later steps
work on the same blocks, so the results are the same to the bit, whatever the size of the chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError, StateError
from multires_edge.format.arrays import Array
from multires_edge.format.card import Preprocessing, volts_per
from multires_edge.format.fields import Natural
from multires_edge.runtime.ecg.conditioning import Levels, LevelsState, Spikes, SpikesState
from multires_edge.runtime.ecg.decision import Event
from multires_edge.runtime.ecg.gaps import GapPolicy, Gaps, GapsState
from multires_edge.runtime.ecg.leads import LeadMap
from multires_edge.runtime.ecg.quality import Flags, Quality, QualityState, Verdict
from multires_edge.runtime.ecg.resample import Resampler, ResamplerState, check_rate
from multires_edge.runtime.ecg.sources.protocol import SignalSpec

# Blocks of a recording that are processed in one go.
_BLOCKS_TOGETHER = 64
_MISSING_AT_ONCE = 4096


@dataclass(eq=False)
class Block:
    """The steps up to the next decision or reset: ``x`` (channels, steps) float32, or None in a silence.

    ``restart``: the stream starts over before the block; ``reset``: after it. ``decide``: a decision is due
    at its end. ``steps`` counts from the last start of the stream to the end of the block. ``usable`` is the
    number of channels that showed a heart since the last decision.
    """

    x: Annotated[NDArray[np.float32], Array("float32", 2, finite=True)] | None
    time: float
    steps: Natural = 0
    restart: bool = False
    decide: bool = False
    reset: bool = False
    quality: Flags = field(default_factory=dict)
    usable: Natural = 0
    events: tuple[Event, ...] = ()
    arrived: float | None = None

    @property
    def silent(self) -> bool:
        """Whether the gap policy stopped the stream in this block."""
        return any(event.kind == "silent" for event in self.events)

    @property
    def length(self) -> int:
        """The number of steps of ``x``, 0 in a silence."""
        return 0 if self.x is None else self.x.shape[1]


@dataclass(frozen=True, eq=False)
class FrontEndState:
    """Samples that wait, steps that no block has yet, and ``counts`` of the first waiting sample, the sample
    that the stream started with, and the steps since then."""  # fmt: skip

    waiting: Annotated[NDArray[np.float64], Array("float64", 2)]
    came: Annotated[NDArray[np.bool_], Array("bool", 1)]
    ahead: Annotated[NDArray[np.float32], Array("float32", 2, finite=True)]
    counts: tuple[Natural, Natural, Natural]
    stopped: bool
    restarted: bool
    notes: tuple[tuple[Natural, Event], ...]
    quality: QualityState
    spikes: SpikesState
    gaps: GapsState
    levels: LevelsState | None
    resampler: ResamplerState
    ready: tuple[Block, ...]


class FrontEnd:
    """Converts samples of ``signal`` to blocks of ``every`` steps, cut after every ``reset`` steps too.

    Raises DataError or InputError, with the name of the source, if leads, units or rate do not fit.
    """

    def __init__(
        self,
        signal: SignalSpec,
        preprocessing: Preprocessing,
        *,
        every: int,
        reset: int | None = None,
        gap: GapPolicy | None = None,
        allow_missing: bool = False,
        rename: Mapping[str, str] | None = None,
    ) -> None:
        self.name = signal.name
        try:
            self.leads = LeadMap(signal, preprocessing, allow_missing=allow_missing, rename=rename)
            check_rate(signal.rate)
            self.rate = float(signal.rate)
            channels = len(self.leads.channels)
            self.resampler = Resampler(self.rate, preprocessing.sampling_rate, channels)
        except (DataError, InputError) as error:
            raise type(error)(f"{self.name}: {error}") from error
        self.ready: deque[Block] = deque()
        self._preprocessing = preprocessing
        self._every, self._reset = every, reset
        self._tick: int = max(1, round(every / preprocessing.sampling_rate * self.rate))
        missing = self.leads.missing
        unit, high_pass = volts_per(preprocessing.unit), preprocessing.high_pass
        self._spikes = Spikes(self.rate, channels, unit)
        self._quality = Quality(
            self.rate, self.leads.channels, missing, unit,
            derived=self.leads.derived, levels=high_pass is None,
        )  # fmt: skip
        self._levels = None if high_pass is None else Levels(high_pass, self.rate, channels)
        self._absent = [i for i, name in enumerate(self.leads.channels) if name in missing]
        present = [i for i, channel in enumerate(self.leads.channels) if channel not in missing]
        self._gaps = Gaps(gap or GapPolicy(), self.rate, self.leads.mean, present)
        self._ahead: NDArray[np.float32] = np.empty((channels, 0), np.float32)
        self._waiting: NDArray[np.float64] = np.empty((0, channels))
        self._came: NDArray[np.bool_] = np.empty(0, bool)
        self._index = 0  # number of the first waiting sample
        self._origin = 0  # number of the sample that the stream started with
        self._steps = 0
        self._stopped = False
        self._restarted = False
        self._notes: deque[tuple[int, Event]] = deque()

    @property
    def received(self) -> int:
        """The number of samples so far, missing ones included."""
        return self._index + len(self._waiting)

    @property
    def awaited(self) -> int:
        """How many more samples the next block needs."""
        if self._stopped:
            return self._tick - len(self._waiting)
        return self._needed(self._next_cut(self._steps)) - len(self._waiting)

    @property
    def delay(self) -> float:
        """Seconds between the end of a decision's steps and the newest sample that its filters need."""
        return self.resampler.lookahead + self._filter_delay / self.rate

    @property
    def _filter_delay(self) -> int:
        return 0 if self._levels is None else self._levels.delay

    def add_mapped(
        self, mapped: NDArray[np.float64], arrived: float | None = None, *, came: bool = True
    ) -> None:
        """Take samples (n, channels) from ``leads``; ``came`` is False for samples that never arrived."""
        self._waiting = np.concatenate([self._waiting, self._spikes.remove(mapped)])
        self._came = np.concatenate([self._came, np.full(len(mapped), came)])
        while self._cut(arrived):
            pass

    def add_missing(self, count: Any, arrived: float | None = None) -> None:
        """Take ``count`` samples that never arrived. Raises InputError."""
        is_whole = isinstance(count, Integral)
        if not is_whole or count < 0:
            raise InputError(f"{self.name}: {count!r} samples are missing, expected a whole number")
        while count > 0:
            n = min(count, _MISSING_AT_ONCE)
            self.add_mapped(np.full((n, len(self.leads.channels)), np.nan), arrived, came=False)
            count -= n

    def note(self, kind: str, **details: Any) -> None:
        """Report an event at this point of the record, in order with the decisions."""
        self._note(self.received, kind, details)

    def _note(self, index: int, kind: str, details: dict[str, Any]) -> None:
        self._notes.append((index, Event(self.name, index / self.rate, kind, details)))

    def finish(self) -> None:
        """End the source: emit the resampler's last steps, and events that are not reported yet.

        :meth:`rest` has the steps after the last decision.
        """
        if not self._stopped and self.received:
            self._take(len(self._waiting))
            if self._levels is not None:
                self._resample(self._levels.finish())
            self._keep(self.resampler.finish())
            while self._ahead.shape[1] >= self._next_cut(self._steps) - self._steps:
                self._emit(self._index, self._quality.take, None)
        if self._notes:
            events = self._events_until(self.received)
            self.ready.append(Block(None, self.received / self.rate, events=events))

    def rest(self) -> Block | None:
        """The steps after the last block of a finished source; None if there are no such steps."""
        if not self._ahead.shape[1]:
            return None
        x, self._ahead = self._ahead, self._ahead[:, :0]
        verdict = self._quality.take()
        return Block(x, self.received / self.rate, self._steps + x.shape[1], quality=verdict.flags)

    def reopen(self) -> None:
        """Continue a source that had ended. The next sample starts a new recording."""
        self._drop(len(self._waiting))
        self._ahead = self._ahead[:, :0]
        self._start_over()

    def _cut(self, arrived: float | None) -> bool:
        """Make blocks of the waiting samples; False if there are not enough for a block."""
        if self._stopped:
            return self._listen(arrived)
        blocks = self._whole_blocks()
        if not blocks:
            return False
        silence = self._gaps.silence(self._waiting[: blocks[-1][0]])
        if silence is not None:
            blocks = [block for block in blocks if block[0] < silence]
            if not blocks:
                self._stop(silence)
                return True
            self._gaps.silence(self._waiting[: blocks[-1][0]])
        start = self._index
        decisions = [need for need, cut in blocks if cut % self._every == 0]
        verdicts = iter(self._take(blocks[-1][0], decisions))
        for need, _ in blocks:
            self._emit(start + need, verdicts.__next__, arrived)
        return True

    def _whole_blocks(self) -> list[tuple[int, int]]:
        """For each whole block, the number of waiting samples up to its end, and the steps at its end."""
        blocks: list[tuple[int, int]] = []
        cut = self._next_cut(self._steps)
        while len(blocks) < _BLOCKS_TOGETHER and (need := self._needed(cut)) <= len(self._waiting):
            blocks.append((need, cut))
            cut = self._next_cut(cut)
        return blocks

    def _needed(self, cut: int) -> int:
        """How many of the waiting samples the steps up to ``cut`` need."""
        return max(0, self.resampler.needed(cut) + self._filter_delay - (self._index - self._origin))

    def _next_cut(self, steps: int) -> int:
        cuts = [self._every] if self._reset is None else [self._every, self._reset]
        return min((steps // every + 1) * every for every in cuts)

    def _take(self, count: int, decisions: Sequence[int] = ()) -> list[Verdict]:
        """Inspect, fill, filter and resample the next samples; their steps are in ``_ahead`` afterwards.

        Returns the verdict of each decision. ``decisions`` are their positions among these samples.
        """
        x, came = self._drop(count)
        verdicts = self._quality.inspect(x, ~came, decisions)
        if count:
            self._resample(self._gaps.fill(x) if self._levels is None else self._levels.process(x))
        return verdicts

    def _resample(self, x: NDArray[np.float64]) -> None:
        if self._levels is not None:
            x[:, self._absent] = self.leads.mean[self._absent]
        self._keep(self.resampler.process(x))

    def _drop(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        x, came = self._waiting[:count], self._came[:count]
        self._waiting, self._came = self._waiting[count:], self._came[count:]
        self._index += count
        return x, came

    def _keep(self, resampled: NDArray[np.float64]) -> None:
        self._ahead = np.concatenate([self._ahead, self._preprocessing.normalize(resampled.T)], 1)

    def _emit(self, index: int, verdict: Callable[[], Verdict], arrived: float | None) -> None:
        """Make a block of the first steps of ``_ahead``; ``index`` is the number of the sample after it."""
        cut = self._next_cut(self._steps)
        length = cut - self._steps
        x, self._ahead = self._ahead[:, :length], self._ahead[:, length:]
        self._steps = cut
        decide = cut % self._every == 0
        judged = verdict() if decide else Verdict({}, 0)
        block = Block(
            np.ascontiguousarray(x),
            self._time(),
            cut,
            self._restarted,
            decide,
            self._reset is not None and cut % self._reset == 0,
            judged.flags,
            judged.usable,
            self._events_until(index),
            arrived,
        )
        self._restarted = False
        self.ready.append(block)

    def _time(self) -> float:
        """Seconds of the record up to the end of the steps so far."""
        resampler = self.resampler
        return (self._origin + self._steps * resampler.down / resampler.up) / self.rate

    def _events_until(self, index: int) -> tuple[Event, ...]:
        events = []
        while self._notes and self._notes[0][0] <= index:
            events.append(self._notes.popleft()[1])
        return tuple(events)

    # Silences, with the gap policy "restart".

    def _start_over(self) -> None:
        """Treat the next sample as the first of a recording."""
        self._stopped = False
        self._restarted = True
        self._origin, self._steps = self._index, 0
        self._gaps.start_over()
        if self._levels is not None:
            self._levels.start_over()
        self.resampler.reset()
        self._note(self._index, "restart", {})

    def _stop(self, at: int) -> None:
        x, came = self._drop(at)
        self._quality.inspect(x, ~came)
        self._stopped = True
        self._ahead = self._ahead[:, :0]
        self._note(self._index, "silent", {})

    def _listen(self, arrived: float | None) -> bool:
        """Pass over a silence, one empty block at a time, until a sample has a value."""
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

    # The state in a checkpoint.

    def save(self) -> FrontEndState:
        return FrontEndState(
            waiting=self._waiting.copy(),
            came=self._came.copy(),
            ahead=self._ahead.copy(),
            counts=(self._index, self._origin, self._steps),
            stopped=self._stopped,
            restarted=self._restarted,
            notes=tuple(self._notes),
            quality=self._quality.save(),
            spikes=self._spikes.save(),
            gaps=self._gaps.save(),
            levels=None if self._levels is None else self._levels.save(),
            resampler=self.resampler.save(),
            # The time of arrival has no meaning after a restart of the process.
            ready=tuple(replace(block, arrived=None) for block in self.ready),
        )

    def load(self, saved: FrontEndState, *, ended: bool) -> None:
        """Continue from :meth:`save`; ``ended`` tells whether the source had. Raises StateError."""
        self._check(saved, ended)
        self._quality.load(saved.quality)
        self._spikes.load(saved.spikes)
        self._gaps.load(saved.gaps)
        if (self._levels is None) != (saved.levels is None):
            raise StateError(f"{self.name}: the state is of a card with another high_pass")
        if self._levels is not None and saved.levels is not None:
            self._levels.load(saved.levels)
        self.resampler.load(saved.resampler)
        self._waiting, self._came = saved.waiting.copy(), saved.came.copy()
        self._ahead = saved.ahead.copy()
        self._index, self._origin, self._steps = saved.counts
        self._stopped, self._restarted = saved.stopped, saved.restarted
        self._notes = deque(saved.notes)
        self.ready = deque(saved.ready)

    def _check(self, saved: FrontEndState, ended: bool) -> None:
        channels, (index, origin, steps) = len(self.leads.channels), saved.counts
        if saved.waiting.shape != (len(saved.came), channels) or len(saved.ahead) != channels:
            raise StateError(f"{self.name}: the state's samples are not of {channels} channels")
        counted = (max(0, index - origin - self._filter_delay), steps + saved.ahead.shape[1])
        if not (saved.stopped or ended) and counted != (saved.resampler.received, saved.resampler.produced):
            raise StateError(f"{self.name}: the state's counts of samples contradict each other")
        for block in saved.ready:
            shape = (0, 0) if block.x is None else block.x.shape
            if block.decide > bool(block.length) or (block.x is not None and shape[0] != channels):
                raise StateError(f"{self.name}: a block of the state has shape {shape}")
            if not set(block.quality) <= set(self.leads.channels):
                raise StateError(f"{self.name}: a block of the state has flags of {', '.join(block.quality)}")
        events = [event for _, event in saved.notes] + [e for block in saved.ready for e in block.events]
        if any(event.source != self.name for event in events):
            raise StateError(f"{self.name}: the state has events of another source")
