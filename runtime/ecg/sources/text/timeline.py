"""Places samples by the timestamps of their device: gaps, repeated samples, and clocks that were set.

A timestamp is when its first sample was measured, by a clock that may be a little fast or slow, jitter, or
count in steps. Samples are placed by their number as long as the times agree with it roughly; the expected
time follows the clock. A line whose time disagrees is held until the next lines: if they agree with it, the
jump is real. Otherwise the line alone was wrong, and its samples take their turn.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.fields import Between, Natural
from multires_edge.runtime.ecg.sources.protocol import Missing, Note

Rows = list[list[float]]
Placed = Rows | Missing | Note

# In any unit: nanoseconds since 1970 are below it.
LATEST = 4e18
# In seconds. The resolution of larger floats is too coarse for samples.
_LATEST_SECONDS = 1e12
# The expected time follows the clock within this many seconds. A clock that is off by 0.2 % is then expected
# 10 ms late at most, which is not a gap.
_FOLLOWED_IN = 5.0
# How far a time may be off: this multiple of the mean deviation so far, at least a sample and a half, and at
# most so many seconds. The mean starts as that of so many lines with this deviation.
_DEVIATIONS = 6.0
_SAMPLES = 1.5
_FURTHEST = 0.1
_FIRST_LINES, _FIRST_DEVIATION = 3, 0.005
_LINES_AVERAGED = 500
# A longer jump means that the clock was set, as does one of whole hours: summer time, or a time zone.
_LONGEST_GAP = 86_400.0
_HOUR = 3600.0
# Lines that go on for so many seconds after a jump back mean that the clock was set back. Fewer are repeated.
_LONGEST_REPEAT = 5.0
# A clock that stands still at a wrong time shows nothing. So many seconds of samples are held at most.
_LONGEST_HELD = 5.0
# Seconds per unit of time, and how many times longer or shorter than their samples its steps may be. Lines of
# so many different times and seconds of samples show the unit.
_UNITS = (1.0, 1e-3, 1e-6, 1e-9)
_UNIT_RATIO = 3.0
_ENOUGH = ((3, 0.1), (2, 1.0), (1, 3.0))

_Time = Annotated[float, Between(-LATEST, LATEST)]


class _Line(NamedTuple):
    time: float
    rows: Rows


@dataclass(frozen=True)
class SavedLine:
    """A line; missing values are None."""

    time: _Time
    rows: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class TimelineState:
    """``next``: the time of the next sample. ``unit``: seconds per unit of time, None before it is known.
    ``anchored``: whether a step of the clock was seen. ``deviation``: the mean over ``lines`` in
    seconds. ``repeated`` samples and ``wrong`` times are not reported yet. ``last``: the last line that was
    placed; ``held``: those that wait."""  # fmt: skip

    next: _Time
    unit: Annotated[float, Between(1e-9, 1.0)] | None
    anchored: bool
    deviation: Annotated[float, Between(0, _FURTHEST)]
    lines: Natural
    repeated: Natural
    wrong: Natural
    last: SavedLine | None
    held: tuple[SavedLine, ...]


class Timeline:
    """Places lines of samples at ``rate`` Hz by their times."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = 0.0
        self._unit: float | None = None
        self._anchored = False
        self._deviation, self._lines = _FIRST_DEVIATION, _FIRST_LINES
        self._repeated = self._wrong = 0
        self._last: _Line | None = None
        self._held: list[_Line] = []

    def place(self, time: float | None, rows: Rows) -> list[Placed]:
        """Place samples, the first of them at ``time``: samples, missing samples and events, in order.

        Samples without a time follow the last ones. Raises ValueError for a time that is too large.
        """
        if time is None:
            if self._held:
                return self._hold_on(rows)
            self._next += len(rows) / self._rate
            return [rows]
        if self._unit is not None:
            return self._place(_Line(self._seconds(time), rows))
        self._held.append(_Line(time, rows))
        return self._start_if_enough()

    @property
    def is_steady(self) -> bool:
        """Whether no line waits, and no event."""
        known = self._unit is not None and self._anchored and self._last is not None
        return known and not (self._held or self._wrong or self._repeated)

    def count(self, samples: int) -> None:
        """Place single samples without times, as :meth:`place` does while no line waits."""
        for _ in range(samples):
            self._next += 1 / self._rate

    def follow(self, times: NDArray[np.float64], rows: NDArray[np.float64]) -> int:
        """Place single samples in turn, as :meth:`place` does while the timeline is steady.

        Returns how many: those before the first time that is not near the expected one.
        """
        assert self._unit is not None and self._last is not None
        expected, deviation, lines, last = self._next, self._deviation, self._lines, self._last.time
        seconds, least = 1 / self._rate, _SAMPLES / self._rate
        follow = -math.expm1(-seconds / _FOLLOWED_IN)
        done = 0
        # The same arithmetic as _in_turn(), without its objects: a line costs a tenth.
        for time in (times * self._unit).tolist():
            if time != last:
                off = time - expected
                far = abs(off)
                if far > min(max(_DEVIATIONS * deviation, least), _FURTHEST) or abs(time) > _LATEST_SECONDS:
                    break
                expected += seconds
                expected += off * follow
                if lines < _LINES_AVERAGED:
                    lines += 1
                deviation += (far - deviation) / lines
                last = time
            else:  # a clock that counts in steps
                expected += seconds
            done += 1
        if done:
            self._next, self._deviation, self._lines = expected, deviation, lines
            self._last = _Line(last, [rows[done - 1].tolist()])
        return done

    def finish(self) -> list[Placed]:
        """The lines that still wait, and the events so far."""
        out = self._start() if self._unit is None and self._held else []
        return [*out, *self._take_turns(), *self._end_of_wrong(), *self._end_of_repeated()]

    def skip(self, seconds: float) -> None:
        """Drop the lines that wait, and expect the next one so much later."""
        self._held = []
        self._next += seconds

    def _place(self, line: _Line) -> list[Placed]:
        out: list[Placed] = []
        if self._held:
            if line.time == self._held[-1].time:  # a clock that counts in steps
                return self._hold_on(line.rows)
            out += self._resolve(line)
            if self._held:
                return out
        elif self._last is not None and line.time == self._last.time:
            if len(line.rows) > 1 and line.rows == self._last.rows:
                self._repeated += len(line.rows)
                return []
            return self._in_turn(line, follow=False)
        if not self._anchored:
            # A clock that counts in steps shows the time at its first step alone.
            self._anchored, self._next = True, line.time
        if self._agrees(line.time - self._next):
            return [*out, *self._in_turn(line)]
        self._held = [line]
        return out

    def _hold_on(self, rows: Rows) -> list[Placed]:
        """Hold samples that follow the held ones."""
        self._held[-1].rows.extend(rows)
        if self._unit is None:
            return self._start_if_enough()
        return self._take_turns() if self._length(self._held) > _LONGEST_HELD else []

    def _resolve(self, line: _Line) -> list[Placed]:
        """Place the held lines as the next line shows; or hold that line too."""
        start, end = self._held[0].time, self._end(self._held[-1])
        if self._agrees(line.time - self._next - self._length(self._held)):
            return self._take_turns()  # the held lines alone were wrong
        off = line.time - self._next
        if start < self._next and self._agrees(off) and off > -0.5 / self._rate:
            self._repeat()
            return []
        if not self._agrees(line.time - end):
            return self._take_turns()
        if start > self._next or line.time - start >= _LONGEST_REPEAT:
            return self._jump()
        if end > self._next + 0.5 / self._rate:  # the last line has new samples too
            rows = self._repeat()
            self._next += len(rows) / self._rate
            return [rows]
        self._held.append(line)
        return []

    def _start_if_enough(self) -> list[Placed]:
        """Place the first lines, if they show enough."""
        times, seconds = len({line.time for line in self._held}), self._length(self._held)
        enough = any(times >= least and seconds >= shortest for least, shortest in _ENOUGH)
        return self._start() if enough else []

    def _start(self) -> list[Placed]:
        """Place the first lines, which show the unit of time, and where it is at a step of the clock."""
        lines, self._held = self._held, []
        groups = [list(group) for _, group in groupby(lines, lambda line: line.time)]
        steps = [b[0].time - a[0].time for a, b in pairwise(groups)] or [0.0]
        self._unit = self._unit_of(statistics.median(steps), self._length(lines) / len(groups))
        lines = [_Line(self._seconds(line.time), line.rows) for line in lines]
        before, starts = 0, []
        for i, group in enumerate(groups):
            # The clock may have been anywhere within its first step.
            if i or len(group) == 1:
                starts.append(self._seconds(group[0].time) - before / self._rate)
            before += sum(len(line.rows) for line in group)
        self._anchored = bool(starts)
        self._next = statistics.median_low(starts) if starts else lines[0].time
        unplaced = len(groups[0]) if len(groups[0]) > 1 or not starts else 0
        out: list[Placed] = []
        for i, line in enumerate(lines):
            out += self._in_turn(line, follow=False) if i < unplaced else self._place(line)
        return out

    def _unit_of(self, step: float, seconds: float) -> float:
        """The unit of time in seconds, from a step of the clock and the seconds of samples per step."""
        fits = (unit for unit in _UNITS if 1 / _UNIT_RATIO < step * unit / seconds < _UNIT_RATIO)
        return next(fits, 1.0)

    def _seconds(self, time: float) -> float:
        seconds = time * (self._unit or 1.0)
        if abs(seconds) > _LATEST_SECONDS:
            raise ValueError(f"has the time {time:g}, expected seconds, or ms, us or ns that fit the rate")
        return seconds

    def _length(self, lines: Iterable[_Line]) -> float:
        """Seconds of samples."""
        return sum(len(line.rows) for line in lines) / self._rate

    def _end(self, line: _Line) -> float:
        """The time after a line's samples."""
        return line.time + len(line.rows) / self._rate

    def _agrees(self, off: float) -> bool:
        limit = min(max(_DEVIATIONS * self._deviation, _SAMPLES / self._rate), _FURTHEST)
        return abs(off) <= limit

    def _in_turn(self, line: _Line, *, follow: bool = True) -> list[Placed]:
        """Samples that follow the last ones; the expected time follows theirs."""
        off, seconds = line.time - self._next, len(line.rows) / self._rate
        self._next += seconds
        self._last = line
        if not follow:
            return [line.rows]
        self._next += off * -math.expm1(-seconds / _FOLLOWED_IN)
        self._lines = min(self._lines + 1, _LINES_AVERAGED)
        self._deviation += (min(abs(off), _FURTHEST) - self._deviation) / self._lines
        return [*self._end_of_wrong(), *self._end_of_repeated(), line.rows]

    def _take_turns(self) -> list[Placed]:
        """The held lines, whose times are wrong."""
        lines, self._held = self._held, []
        out: list[Placed] = []
        for line in lines:
            self._wrong += abs(line.time - self._next) > _FURTHEST
            self._lines = min(self._lines + 1, _LINES_AVERAGED)
            self._deviation += (_FURTHEST - self._deviation) / self._lines
            out += self._in_turn(line, follow=False)
        return out

    def _repeat(self) -> Rows:
        """Drop the held samples that came before; returns those that did not."""
        rows = [row for line in self._held for row in line.rows]
        repeated = min(len(rows), round((self._next - self._held[0].time) * self._rate))
        self._repeated += repeated
        self._held = []
        return rows[repeated:]

    def _jump(self) -> list[Placed]:
        """The held lines, with which the next line agrees."""
        off = self._held[0].time - self._next
        out: list[Placed] = [*self._end_of_wrong(), *self._end_of_repeated()]
        hours = round(off / _HOUR)
        if off < 0 or off > _LONGEST_GAP or (hours and abs(off - hours * _HOUR) <= _FURTHEST):
            out.append(Note("clock", {"message": f"the clock was set by {off:+.3f} s"}))
        else:
            missing = round(off * self._rate)
            out += [Note("gap", {"seconds": round(missing / self._rate, 6)}), Missing(missing)]
        self._next += off
        lines, self._held = self._held, []
        for line in lines:
            out += self._in_turn(line)
        return out

    def _end_of_wrong(self) -> list[Note]:
        wrong, self._wrong = self._wrong, 0
        message = f"{wrong} wrong time{'s' if wrong > 1 else ''}"
        return [Note("clock", {"message": message})] if wrong else []

    def _end_of_repeated(self) -> list[Note]:
        repeated, self._repeated = self._repeated, 0
        return [Note("late", {"samples": repeated})] if repeated else []

    def save(self) -> TimelineState:
        return TimelineState(
            self._next, self._unit, self._anchored, self._deviation, self._lines, self._repeated, self._wrong,
            None if self._last is None else _saved(self._last),
            tuple(map(_saved, self._held)),
        )  # fmt: skip

    def load(self, saved: TimelineState) -> None:
        self._next, self._unit, self._anchored = saved.next, saved.unit, saved.anchored
        self._deviation, self._lines = saved.deviation, saved.lines
        self._repeated, self._wrong = saved.repeated, saved.wrong
        self._last = None if saved.last is None else _loaded(saved.last)
        self._held = [_loaded(line) for line in saved.held]


def _saved(line: _Line) -> SavedLine:
    return SavedLine(line.time, tuple(tuple(None if math.isnan(v) else v for v in row) for row in line.rows))


def _loaded(line: SavedLine) -> _Line:
    return _Line(line.time, [[math.nan if v is None else v for v in row] for row in line.rows])
