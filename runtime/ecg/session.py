"""A session: read the sources and decide, in rounds."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from multires_edge.base.errors import StateError
from multires_edge.format.fields import FieldError, Name, plain, read_fields
from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.frontend import FrontEnd
from multires_edge.runtime.ecg.sources.protocol import Missing, Note, Piece, Samples, Source
from multires_edge.runtime.ecg.streams import EcgStreams, StreamsState

Item = Decision | Event

# Seconds of record that are read in one go at full speed, from one source and from all of them. Beside live
# sources a second is enough, so that these do not wait.
_CHUNK_SECONDS, _ROUND_SECONDS, _SHORTEST_CHUNK = 10.0, 80.0, 1.0
_TICK = 0.02
# The samples of a live source that complete no decision are read this often: reading has a cost of its own,
# which decisions of other sources would wait for.
_LIVE_READ = 0.1
# The least part of a processor that a live source may take, beside any number of others: for its lines, and
# again for its decisions. It may be ahead by some seconds of computing.
_SHARE, _CREDIT = 0.1, 0.25
# A live source stalls after this time without samples, or after two of its usual intervals, if it sends
# packets of seconds.
_STALL_SECONDS, _STALL_INTERVALS, _INTERVALS = 2.0, 2.0, 8


@dataclass(frozen=True, eq=False)
class SessionState:
    """The streams, then identity, position and end of each source, whether a sample of it could be read, and
    the faults so far."""  # fmt: skip

    streams: StreamsState
    sources: tuple[dict[Name, float | str | tuple[str, ...] | None], ...]
    positions: tuple[dict[Name, Any], ...]
    finished: tuple[bool, ...]
    readable: tuple[bool, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Condition:
    """How a source is: samples so far, those that never arrived, and whether it has ended.

    ``problem`` is why it brings no samples, or None, also for a recording that was read to its end.
    """

    name: str
    samples: int
    missing: int
    ended: bool
    problem: str | None


class _Feed:
    """A source, its row of the streams, and its clock in a run."""

    def __init__(self, source: Source, row: int, front: FrontEnd) -> None:
        self.source, self.row, self._front = source, row, front
        self.name, self.rate = source.signal.name, source.signal.rate
        self.finished = self.readable = False
        self.problem = ""  # the first line that could not be read
        self.missing = 0  # samples that never arrived
        # Samples that are part of the loaded state, and the time at which the first sample was played.
        self._already, self._began = 0, 0.0
        self._heard, self.stalled = time.monotonic(), False
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)
        self._debt, self._settled = 0.0, self._heard  # seconds of computing, and when that was known
        self._looked = self._heard - _LIVE_READ

    @property
    def awaited(self) -> int:
        """How many more samples the next decision needs, at least one."""
        return max(1, self._front.awaited)

    @property
    def seconds(self) -> float:
        """Seconds of record that the run has read."""
        return (self._front.received - self._already) / self.rate

    def condition(self, fault: str | None) -> Condition:
        """How the source is; ``fault`` is what ended it."""
        if fault is None and self.finished and self.source.live:
            fault = "the device has closed the connection"
        elif fault is None and self.stalled and not self.finished:
            fault = f"no samples for {time.monotonic() - self._heard:.0f} s"
        return Condition(self.name, self._front.received, self.missing, self.finished, fault)

    def begin(self, now: float) -> None:
        self._already = self._front.received
        self._began = now - self._already / self.rate

    def due(self, more: int = 0) -> float:
        """The time at which the last sample so far, or a later one, is played."""
        return self._began + (self._front.received + more) / self.rate

    def wanted(self, now: float, *, realtime: bool, chunk: float) -> int:
        """The number of samples to read now; ``chunk`` is in seconds, for recordings at full speed."""
        if self.source.live:
            # No further than the next decision, so that its timing is that of its last sample.
            count = self.awaited
            if now < self._looked + _LIVE_READ and not self.source.has(count):
                return 0
            self._looked = now
            return count
        count = round(chunk * self.rate)
        return min(count, int((now - self._began) * self.rate) - self._front.received) if realtime else count

    def owes(self, now: float) -> bool:
        """Whether the source took more than its share of the time, and waits for the others."""
        self._debt = max(0.0, self._debt - self.source.share * (now - self._settled))
        self._settled = now
        return self._debt > _CREDIT

    def charge(self, seconds: float) -> None:
        """Note what the source took."""
        self._debt += seconds

    def watch(self, now: float, *, heard: bool) -> list[Item]:
        """Report at once that a live source became silent, or sends samples again."""
        at = self._front.received / self.rate
        quiet = now - self._heard
        if heard:
            self._heard = now
            self._intervals.append(quiet)
            if self.stalled:
                self.stalled = False
                return [Event(self.name, at, "resumed")]
        elif quiet > self._patience and not self.stalled and not self.source.ended:
            self.stalled = True
            return [Event(self.name, at, "stalled", {"message": f"no samples for {quiet:.0f} s"})]
        return []

    @property
    def _patience(self) -> float:
        return max(_STALL_SECONDS, _STALL_INTERVALS * median(self._intervals or [0.0]))


class Session:
    """Feeds sources to streams; :meth:`run` yields decisions and events.

    ``realtime`` plays recordings at their own speed; otherwise they run at full speed.
    """

    def __init__(self, streams: EcgStreams, sources: Sequence[Source], *, realtime: bool = False) -> None:
        self.streams, self.sources = streams, list(sources)
        self._feeds = [
            _Feed(source, row, front)
            for row, (source, front) in enumerate(zip(sources, streams.fronts, strict=True))
        ]
        for source in self.sources:
            source.share = max(_SHARE, 1 / (1 + len(self.sources)))
        self._realtime = realtime
        # Whether the run follows a clock.
        self.paced = realtime or any(source.waits for source in sources)
        most = _SHORTEST_CHUNK if self.paced else _CHUNK_SECONDS
        self._chunk = max(_SHORTEST_CHUNK, min(most, _ROUND_SECONDS / len(self.sources)))
        self._arrival = threading.Event()
        self.faults: list[str] = []
        self.stopped = False
        self._busy = False  # whether a recording is read at full speed

    @property
    def done(self) -> bool:
        """Whether every source has ended."""
        return all(self.finished)

    @property
    def finished(self) -> list[bool]:
        """Which sources have ended."""
        return [feed.finished for feed in self._feeds]

    @property
    def seconds(self) -> float:
        """Seconds of record that :meth:`run` has read, summed over the sources."""
        return sum(feed.seconds for feed in self._feeds)

    def conditions(self) -> list[Condition]:
        """How the sources are. Any thread may call this."""
        return [feed.condition(self._fault_of(feed)) for feed in self._feeds]

    def stop(self) -> None:
        """End :meth:`run` after the current round. A signal handler may call this."""
        self.stopped = True

    def run(self) -> Iterator[list[Item]]:
        """Yield the decisions and events of each round, often none. The state can be saved between rounds."""
        now = time.monotonic()
        for feed in self._feeds:
            feed.begin(now)
        while not self.done and not self.stopped:
            now = time.monotonic()
            out: list[Item] = []
            self._busy = False
            for feed in self._feeds:
                if not feed.finished and not self._owes(feed, now):
                    out += self._turn(feed, now)
            out += self.streams.pump()
            yield out
            if self.paced and not (out or self._busy):
                self._wait()

    def _turn(self, feed: _Feed, now: float) -> list[Item]:
        """Read a source; its decisions, unless they wait for those of other sources."""
        count = feed.wanted(now, realtime=self._realtime, chunk=self._chunk)
        if count <= 0 or self.stopped:
            return []
        started = time.monotonic()
        out = self._read(feed, count, now)
        if not self.streams.lockstep:
            out += self.streams.pump()
        feed.charge(time.monotonic() - started)
        return out

    def _owes(self, feed: _Feed, now: float) -> bool:
        return feed.source.live and len(self._feeds) > 1 and feed.owes(now)

    def _wait(self) -> None:
        """Wait for the next tick or for the sample that completes a decision, whichever comes first."""
        until = time.monotonic() + _TICK
        for feed in self._feeds:
            if feed.finished or self._owes(feed, time.monotonic()):
                continue
            if feed.source.live:
                feed.source.expect(feed.awaited, self._arrival.set)
            elif self._realtime:
                until = min(until, feed.due(feed.awaited))
        self._prepare(until)
        self._arrival.wait(max(0.0, until - time.monotonic()))
        self._arrival.clear()

    def _prepare(self, until: float) -> None:
        """Work ahead, one source after the other, until a time or until samples complete a decision."""
        for feed in self._feeds:
            started = time.monotonic()
            if started >= until or self._arrival.is_set():
                return
            if not feed.finished:
                self.streams.prepare(feed.row)
                feed.charge(time.monotonic() - started)

    def _read(self, feed: _Feed, count: int, now: float) -> list[Item]:
        streams, source = self.streams, feed.source
        heard = False
        for piece in source.read(count):
            heard |= isinstance(piece, Samples)
            self._take(feed, piece)
        self._busy |= heard and not (source.live or self._realtime)
        if source.ended:
            if not feed.readable and self._fault_of(feed) is None:
                message = f"no sample could be read{feed.problem}"
                self._note(feed, Note("unreadable", {"message": message}, fault=True))
            streams.finish(feed.row)
            feed.finished = True
        if not source.live:
            return []
        events = feed.watch(now, heard=heard)
        if feed.stalled and not feed.finished:
            # No decision comes for which these events could wait.
            streams.report(feed.row)
        return events

    def _take(self, feed: _Feed, piece: Piece) -> None:
        if isinstance(piece, Samples):
            feed.readable = True
            arrived = piece.arrived
            if arrived is None and self._realtime:
                arrived = feed.due(piece.count)
            self.streams.feed(feed.row, piece.values, arrived)
        elif isinstance(piece, Missing):
            feed.missing += piece.count
            self.streams.missing(feed.row, piece.count)
        else:
            self._note(feed, piece)

    def _note(self, feed: _Feed, note: Note) -> None:
        self.streams.note(feed.row, note.kind, always=note.fault, **note.details)
        message = note.details.get("message", "")
        if note.fault:
            self.faults.append(f"{feed.name}: {note.kind}: {message}")
        elif note.kind == "bad_line" and not feed.problem:
            feed.problem = f" (line {note.details['line']}: {message})"

    def _fault_of(self, feed: _Feed) -> str | None:
        start = f"{feed.name}: "
        return next((fault.removeprefix(start) for fault in self.faults if fault.startswith(start)), None)

    def save(self) -> SessionState:
        return SessionState(
            streams=self.streams.save(),
            sources=tuple(source.identity() for source in self.sources),
            positions=tuple(plain(source.save()) for source in self.sources),
            finished=tuple(self.finished),
            readable=tuple(feed.readable for feed in self._feeds),
            faults=tuple(self.faults),
        )

    def load(self, saved: SessionState) -> None:
        """Continue from a saved state, before :meth:`run`. Raises StateError for other sources."""
        mine = [json.loads(json.dumps(source.identity())) for source in self.sources]
        if (theirs := plain(saved.sources)) != mine:
            raise StateError(f"the state is of other sources: {_names(theirs)}; these are {_names(mine)}")
        if not len(saved.positions) == len(saved.finished) == len(saved.readable) == len(mine):
            raise StateError(f"the state is not of {len(mine)} sources")
        for source, position in zip(self.sources, saved.positions, strict=True):
            try:
                source.load(read_fields(source.Position, position))
            except FieldError as error:
                raise StateError(f"the state of {source.signal.name}: {error}") from error
        self.streams.load(saved.streams)
        self.faults = list(saved.faults)
        for feed, finished, readable in zip(self._feeds, saved.finished, saved.readable, strict=True):
            feed.readable = readable
            # A recording stays ended unless it has grown. A device is connected again.
            feed.finished = finished and feed.source.ended
            if (finished and not feed.finished) or not feed.source.continues:
                self.streams.reopen(feed.row)
                self.faults = [fault for fault in self.faults if not fault.startswith(f"{feed.name}: ")]

    def resume(self, reached: Mapping[str, float]) -> None:
        """Continue live sources whose state is older than their decisions, after :meth:`load`.

        ``reached`` are the times of the last decisions by source. The samples of these decisions are lost, so
        such a source starts over after that time.
        """
        for feed, front in zip(self._feeds, self.streams.fronts, strict=True):
            if feed.source.live and feed.name in reached:
                self.streams.reopen(feed.row)
                for piece in feed.source.skip(max(0.0, reached[feed.name] - front.received / feed.rate)):
                    self._take(feed, piece)


def _names(identities: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{i.get('source')} (leads {i.get('leads')}, {i.get('rate')} Hz)" for i in identities)
