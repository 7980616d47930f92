"""Converts the samples of one source to inputs of the network, block by block, and stops it in silences.

Samples wait until those of a whole block are there. A block ends where a decision is due. All later steps
work on the same blocks, so the results are the same to the bit, whatever the size of the chunks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError, StateError
from multires_edge.format.arrays import Array
from multires_edge.format.card import Preprocessing, volts_per
from multires_edge.format.fields import Natural
from multires_edge.format.high_pass import Samples
from multires_edge.runtime.ecg.block import Block
from multires_edge.runtime.ecg.conditioning import Spikes, SpikesState
from multires_edge.runtime.ecg.conversion import Conversion, ConversionState
from multires_edge.runtime.ecg.decision import Event
from multires_edge.runtime.ecg.event_limit import EventLimit, EventLimitState
from multires_edge.runtime.ecg.gaps import GapPolicy, Silence
from multires_edge.runtime.ecg.leads import LeadMap
from multires_edge.runtime.ecg.quality import Quality, QualityState, Verdict
from multires_edge.runtime.ecg.resample import check_rate
from multires_edge.runtime.ecg.sources.protocol import SignalSpec

# Blocks of a recording that are processed in one go.
_BLOCKS_TOGETHER = 64
_MISSING_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class FrontEndState:
    """Samples that wait, and ``counts``: the number of the first of them, of the sample that the record
    started over with, and the steps since then. The network starts at step ``entry``. ``lost``: samples
    after those that wait that never arrived. ``silent``: the last of those that wait, which have no value.
    ``passed``: samples of a silence since its last block. ``told``: whether the silence was reported.
    """

    waiting: Annotated[Samples, Array("float64", 2)]
    came: Annotated[NDArray[np.bool_], Array("bool", 1)]
    counts: tuple[Natural, Natural, Natural]
    entry: Natural
    lost: Natural
    silent: Natural
    stopped: bool
    restarted: bool
    passed: Natural
    told: bool
    limit: EventLimitState
    notes: tuple[tuple[Natural, Event], ...]
    quality: QualityState
    spikes: SpikesState
    conversion: ConversionState
    ready: tuple[Block, ...]


class FrontEnd:
    """Converts samples of ``signal`` to blocks of ``every`` steps, cut after every ``reset`` steps too.

    Blocks of more than ``longest`` steps are cut as well. The first sample is number ``start`` of a record
    that started over with sample ``origin``; the network then starts at a multiple of ``align`` steps, and
    the blocks before have no steps. Raises DataError or InputError, with the name of the source, if leads,
    units or rate do not fit.
    """

    def __init__(
        self,
        signal: SignalSpec,
        preprocessing: Preprocessing,
        *,
        every: int,
        reset: int | None = None,
        longest: int | None = None,
        gap: GapPolicy | None = None,
        allow_missing: bool = False,
        rename: Mapping[str, str] | None = None,
        start: int = 0,
        origin: int = 0,
        align: int = 1,
    ) -> None:
        self.name, gap = signal.name, gap or GapPolicy()
        try:
            self.leads = LeadMap(signal, preprocessing, allow_missing=allow_missing, rename=rename)
            check_rate(signal.rate)
            self.rate = float(signal.rate)
            self._conversion = Conversion(preprocessing, self.leads, self.rate, gap.fill)
        except (DataError, InputError) as error:
            raise type(error)(f"{self.name}: {error}") from error
        self.ready: deque[Block] = deque()
        self._every, self._reset = every, reset
        self._cuts = [cut for cut in (every, reset, longest if longest and longest < every else None) if cut]
        self._tick: int = max(1, round(every / preprocessing.sampling_rate * self.rate))
        channels, missing = self.leads.channels, self.leads.missing
        unit = volts_per(preprocessing.unit)
        self._spikes = Spikes(self.rate, len(channels), unit)
        self._quality = Quality(
            self.rate, channels, missing, unit,
            derived=self.leads.derived, levels=preprocessing.high_pass is None,
        )  # fmt: skip
        present = [i for i, channel in enumerate(channels) if channel not in missing]
        self._silence = Silence(gap, self.rate, present)
        self._waiting: Samples = np.empty((0, len(channels)))
        self._came: NDArray[np.bool_] = np.empty(0, bool)
        self._start = self._index = start  # the latter is the number of the first waiting sample
        self._origin = origin  # number of the sample that the record started over with
        for stage in (self._spikes.start_over, self._conversion.start_over, self._quality.start):
            stage(start - origin)
        self._steps = self._conversion.next
        self._entry = -(-self._steps // align) * align
        self._lost = 0  # samples after the waiting ones that never arrived
        self._stopped = False
        self._restarted = False
        self._passed = 0
        self._told = False
        self._limit = EventLimit(self.rate)
        self._notes: deque[tuple[int, Event]] = deque()

    @property
    def received(self) -> int:
        """The number of samples so far, missing ones included."""
        return self._index + len(self._waiting) + self._lost

    @property
    def awaited(self) -> int:
        """How many more samples the next block needs."""
        if self._stopped:
            return self._tick - self._passed
        return self._needed(self._next_cut(self._steps)) - len(self._waiting) - self._lost

    @property
    def delay(self) -> float:
        """Seconds between the end of a decision's steps and the newest sample that its filters need."""
        return self._conversion.delay

    @property
    def settled(self) -> int:
        """After so many samples, the steps do not depend on the sample that the stream started with."""
        return math.ceil((self._spikes.memory + self._conversion.memory) * self.rate)

    @property
    def judged(self) -> int:
        """After so many samples, the flags of a second do not depend on it either."""
        return math.ceil((self._spikes.memory + self._quality.memory) * self.rate)

    def samples(self, steps: int) -> float:
        """The samples of the source, and parts of one, that so many steps are as long as."""
        return self._conversion.samples(steps)

    def outputs(self, samples: int) -> int:
        """The number of steps of a recording with so many samples."""
        return self._conversion.outputs(samples)

    def add_mapped(self, mapped: Samples, arrived: float | None = None) -> None:
        """Take samples (n, channels) from ``leads``."""
        self._limit.came(len(mapped))
        if len(mapped) and self._lost:
            self._fill(self._lost, arrived)
        while len(mapped):
            if self._stopped:
                mapped = self._listen(mapped, arrived)
                continue
            x = self._spikes.remove(mapped)
            stop = self._silence.after(x)
            self._wait(x[:stop], True, arrived)
            mapped = mapped[len(mapped) if stop is None else stop :]
            if stop is not None:
                self._stop(arrived)

    def add_missing(self, count: Any, arrived: float | None = None) -> None:
        """Take ``count`` samples that never arrived. Raises InputError.

        The next sample shows how many they are in all: a gap is filled as a whole, or ends the stream.
        """
        is_whole = isinstance(count, Integral)
        if not is_whole or count < 0:
            raise InputError(f"{self.name}: {count!r} samples are missing, expected a whole number")
        if self._stopped:
            self._index += count
            return
        self._spikes.pass_over(count)
        self._lost += count
        longest = self._silence.after_lost()
        if longest is not None and self._lost >= longest:
            # Decisions on what was seen before the gap need a little more, for the filters.
            self._fill(min(longest, int(self.delay * self.rate)), arrived)
            self._stop(arrived)

    def _fill(self, count: int, arrived: float | None) -> None:
        """Let ``count`` of the samples that never arrived wait like others."""
        self._lost -= count
        self._silence.silent += count
        for start in range(0, count, _MISSING_AT_ONCE):
            n = min(_MISSING_AT_ONCE, count - start)
            self._wait(np.full((n, len(self.leads.channels)), np.nan), False, arrived)

    def note(self, kind: str, *, always: bool = False, **details: Any) -> None:
        """Report an event at this point of the record, in order with the decisions.

        If there are too many, it is only counted, unless it must ``always`` be reported.
        """
        self._note(self.received, kind, details, always=always)

    def _note(self, index: int, kind: str, details: dict[str, Any], *, always: bool = False) -> bool:
        """Returns whether there was room for the event."""
        admitted = self._limit.admit(kind, details, always=always)
        self._notes.extend((index, Event(self.name, index / self.rate, *what)) for what in admitted)
        return bool(admitted)

    def finish(self) -> None:
        """End the source: emit the resampler's last steps, and events that are not reported yet.

        :meth:`rest` has the steps after the last decision.
        """
        if not self._stopped and self.received > self._start:
            self._fill(self._lost, None)
            self._take(len(self._waiting))
            self._conversion.finish()
            while self._conversion.ready >= self._next_cut(self._steps) - self._steps:
                self._emit(self._index, self._quality.take, None)
        for kind, details in self._limit.finish():
            self.note(kind, always=True, **details)
        self.report()

    def report(self) -> None:
        """Emit the events so far, without waiting for the decisions before them."""
        if self._notes:
            self._emit_silent(None, self.received)

    def rest(self) -> Block | None:
        """The steps after the last block of a finished source; None if there are no such steps."""
        if not self._conversion.ready:
            return None
        x = self._conversion.take(self._conversion.ready)
        verdict = self._quality.take()
        return Block(x, self.received / self.rate, self._steps + x.shape[1], quality=verdict.flags)

    def advance(self) -> Block | None:
        """Steps of the next block whose samples are there; None if there are no such steps.

        The network may run them before the block is whole. Events and flags come with its end, so results and
        their order do not change. A block that starts over is not divided: its events tell when it ends.
        """
        if self._stopped or self._restarted or self._steps < self._entry or self.ready:
            return None
        if len(self._waiting):
            self._take(len(self._waiting))
        if not self._conversion.ready:
            return None
        x = self._conversion.take(self._conversion.ready)
        self._steps += x.shape[1]
        return Block(x, self._time(self._steps), self._steps, origin=self._origin)

    def _time(self, steps: int) -> float:
        """Seconds of the record up to a step."""
        return (self._origin + self._conversion.samples(steps)) / self.rate

    def reopen(self) -> None:
        """Continue a source that had ended or was away. The next value starts a new recording."""
        self._pass_over_waiting()
        self._pause()
        self._told = True

    def _wait(self, x: Samples, came: bool, arrived: float | None) -> None:
        """Add samples to those that wait, and make blocks of them."""
        self._waiting = np.concatenate([self._waiting, x])
        self._came = np.concatenate([self._came, np.full(len(x), came)])
        while blocks := self._whole_blocks():
            start = self._index
            decisions = [need for need, cut in blocks if cut % self._every == 0]
            verdicts = iter(self._take(blocks[-1][0], decisions))
            for need, _ in blocks:
                self._emit(start + need, verdicts.__next__, arrived)

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
        return max(0, self._conversion.needed(cut) - (self._index - self._origin))

    def _next_cut(self, steps: int) -> int:
        cut = min((steps // every + 1) * every for every in self._cuts)
        return min(cut, self._entry) if steps < self._entry else cut

    def _take(self, count: int, decisions: Sequence[int] = ()) -> list[Verdict]:
        """Inspect and convert the next samples. Returns the verdict of each decision.

        ``decisions`` are their positions among these samples.
        """
        x, came = self._drop(count)
        verdicts = self._quality.inspect(x, ~came, decisions)
        self._conversion.process(x)
        return verdicts

    def _drop(self, count: int) -> tuple[Samples, NDArray[np.bool_]]:
        x, came = self._waiting[:count], self._came[:count]
        self._waiting, self._came = self._waiting[count:], self._came[count:]
        self._index += count
        return x, came

    def _emit(self, index: int, verdict: Callable[[], Verdict], arrived: float | None) -> None:
        """Make a block of the next steps; ``index`` is the number of the sample after it."""
        cut = self._next_cut(self._steps)
        x = self._conversion.take(cut - self._steps)
        self._steps = cut
        decide = cut % self._every == 0
        judged = verdict() if decide else Verdict({}, 0)
        entered = cut > self._entry
        block = Block(
            x if entered else None,
            self._time(cut),
            cut,
            self._restarted,
            decide and entered,
            self._reset is not None and cut % self._reset == 0,
            judged.flags,
            judged.usable,
            self._events_until(index),
            arrived,
            origin=self._origin,
        )
        self._restarted = False
        self.ready.append(block)

    def _events_until(self, index: int) -> tuple[Event, ...]:
        events = []
        while self._notes and self._notes[0][0] <= index:
            events.append(self._notes.popleft()[1])
        return tuple(events)

    # Silences, in which the gap policy has stopped the stream.

    def _stop(self, arrived: float | None) -> None:
        self._pass_over_waiting()
        at = self._index
        self._told = self._note(at, "silent", {})
        self._pause()
        events = self._events_until(self._index)
        self.ready.append(Block(None, at / self.rate, silent=True, events=events, arrived=arrived))

    def _pass_over_waiting(self) -> None:
        """Drop the samples that wait. The next decision still says which values were missing."""
        x, came = self._drop(len(self._waiting))
        self._quality.skim(x, ~came)

    def _pause(self) -> None:
        self._quality.start_over(gap=self._lost > 0)
        self._spikes.start_over()
        self._conversion.start_over()
        self._silence.start_over()
        self._index += self._lost
        self._stopped, self._passed, self._lost = True, 0, 0

    def _listen(self, x: Samples, arrived: float | None) -> Samples:
        """Pass over samples until one has a value, with an empty block at every tick; returns the rest.

        Sources that run in step with this one go on by these blocks.
        """
        heard = self._silence.heard(x)
        count = int(heard[0]) if len(heard) else len(x)
        start = self._index - self._passed
        ticks, self._passed = divmod(self._passed + count, self._tick)
        for tick in range(1, ticks + 1):
            self._emit_silent(arrived, start + tick * self._tick)
        self._index += count
        if len(heard):
            self._start_over()
        return x[count:]

    def _emit_silent(self, arrived: float | None, index: int) -> None:
        self.ready.append(Block(None, index / self.rate, events=self._events_until(index), arrived=arrived))

    def _start_over(self) -> None:
        """Treat the next sample as the first of a recording."""
        self._stopped = False
        self._restarted = True
        self._origin, self._steps, self._entry = self._index, 0, 0
        if self._told:
            self._note(self._index, "restart", {}, always=True)

    # The state in a checkpoint.

    def save(self) -> FrontEndState:
        return FrontEndState(
            waiting=self._waiting.copy(),
            came=self._came.copy(),
            counts=(self._index, self._origin, self._steps),
            entry=self._entry,
            lost=self._lost,
            silent=self._silence.silent,
            stopped=self._stopped,
            restarted=self._restarted,
            passed=self._passed,
            told=self._told,
            limit=self._limit.save(),
            notes=tuple(self._notes),
            quality=self._quality.save(),
            spikes=self._spikes.save(),
            conversion=self._conversion.save(),
            # The time of arrival has no meaning after a restart of the process.
            ready=tuple(replace(block, arrived=None) for block in self.ready),
        )

    def load(self, saved: FrontEndState, *, ended: bool) -> None:
        """Continue from :meth:`save`; ``ended`` tells whether the source had. Raises StateError."""
        self._check(saved, ended)
        self._quality.load(saved.quality)
        self._spikes.load(saved.spikes)
        try:
            self._conversion.load(saved.conversion)
        except StateError as error:
            raise StateError(f"{self.name}: {error}") from error
        self._waiting, self._came = saved.waiting.copy(), saved.came.copy()
        self._index, self._origin, self._steps = saved.counts
        self._entry = saved.entry
        self._lost, self._silence.silent = saved.lost, saved.silent
        self._stopped, self._restarted, self._passed = saved.stopped, saved.restarted, saved.passed
        self._told = saved.told
        self._limit.load(saved.limit)
        self._notes = deque(saved.notes)
        self.ready = deque(saved.ready)

    def _check(self, saved: FrontEndState, ended: bool) -> None:
        channels, (index, origin, steps) = len(self.leads.channels), saved.counts
        if saved.waiting.shape != (len(saved.came), channels) or (
            saved.stopped and len(saved.waiting) + saved.lost
        ):
            raise StateError(f"{self.name}: the state's samples are not of {channels} channels")
        counted = saved.stopped or ended or self._conversion.is_after(saved.conversion, index - origin, steps)
        if not counted or saved.passed >= self._tick:
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
