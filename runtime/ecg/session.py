"""A run: read the sources, decide, write, and save checkpoints so that a killed run can continue."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from multires_edge.base.errors import OutputError, StateError
from multires_edge.format.fields import FieldError, Name, Natural, plain, read_fields
from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.output import Output
from multires_edge.runtime.ecg.sources.protocol import Missing, Note, Samples, Source
from multires_edge.runtime.ecg.state_file import StateFile
from multires_edge.runtime.ecg.streams import EcgStreams, StreamsState

Item = Decision | Event

# Seconds of record that are read in one go at full speed.
_CHUNK_SECONDS = 10.0
_TICK = 0.02
_STALL_SECONDS = 2.0


@dataclass(frozen=True, eq=False)
class SessionState:
    """The streams, then identity, position and end of each source, and the faults so far."""

    streams: StreamsState
    sources: tuple[dict[Name, float | str | tuple[str, ...] | None], ...]
    positions: tuple[dict[Name, Any], ...]
    finished: tuple[bool, ...]
    faults: tuple[str, ...]


class Session:
    """Feeds sources to streams; :meth:`run` yields decisions and events.

    ``realtime`` plays recordings at their own speed; otherwise they run at full speed.
    """

    def __init__(self, streams: EcgStreams, sources: Sequence[Source], *, realtime: bool = False) -> None:
        self.streams, self.sources = streams, list(sources)
        self._realtime = realtime
        self._live = [source.live for source in sources]
        self._paced = realtime or any(self._live)
        self._finished = [False] * len(sources)
        self._arrival = threading.Event()
        # Samples that are part of the loaded state, and the time at which the first sample was played.
        self._already = [0] * len(sources)
        self._began = [0.0] * len(sources)
        self._heard = [time.monotonic()] * len(sources)
        self._stalled = [False] * len(sources)
        self.faults: list[str] = []
        self.stopped = False

    @property
    def paced(self) -> bool:
        """Whether the run follows a clock."""
        return self._paced

    @property
    def done(self) -> bool:
        """Whether every source has ended."""
        return all(self._finished)

    @property
    def finished(self) -> list[bool]:
        """Which sources have ended."""
        return list(self._finished)

    @property
    def seconds(self) -> float:
        """Seconds of record that :meth:`run` has read, summed over the sources."""
        return sum(
            (self.streams.received(row) - already) / source.signal.rate
            for row, (already, source) in enumerate(zip(self._already, self.sources, strict=True))
        )

    def stop(self) -> None:
        """End :meth:`run` after the current round. A signal handler may call this."""
        self.stopped = True

    def run(self) -> Iterator[list[Item]]:
        """Yield the decisions and events of each round, often none. The state can be saved between rounds."""
        now = time.monotonic()
        self._already = [self.streams.received(row) for row in range(len(self.sources))]
        self._began = [
            now - already / source.signal.rate
            for already, source in zip(self._already, self.sources, strict=True)
        ]
        while not self.done and not self.stopped:
            now = time.monotonic()
            out: list[Item] = []
            for row, source in enumerate(self.sources):
                if self._finished[row]:
                    continue
                rate = source.signal.rate
                count = round(_CHUNK_SECONDS * rate)
                if source.live:
                    # No further than the next decision, so that its timing is that of its last sample.
                    count = max(1, self.streams.awaited(row))
                elif self._realtime:
                    due = int((now - self._began[row]) * rate)
                    count = min(count, due - self.streams.received(row))
                if count > 0:
                    out += self._read(row, source, count, now)
            out += self.streams.pump()
            yield out
            if self._paced and not out:
                self._wait()

    def _wait(self) -> None:
        """Wait for the next tick or for the sample that completes a decision, whichever comes first."""
        until = time.monotonic() + _TICK
        for row, source in enumerate(self.sources):
            if self._finished[row]:
                continue
            awaited = max(1, self.streams.awaited(row))
            if source.live:
                source.expect(awaited, self._arrival.set)
            elif self._realtime:
                until = min(until, self._due(row, awaited))
        self._arrival.wait(max(0.0, until - time.monotonic()))
        self._arrival.clear()

    def _due(self, row: int, more: int = 0) -> float:
        """The time at which the last sample so far, or a later one, is played."""
        return self._began[row] + (self.streams.received(row) + more) / self.sources[row].signal.rate

    def _read(self, row: int, source: Source, count: int, now: float) -> list[Item]:
        streams = self.streams
        heard = False
        for piece in source.read(count):
            if isinstance(piece, Samples):
                heard = True
                arrived = piece.arrived
                if arrived is None and self._realtime:
                    arrived = self._due(row, len(piece.values))
                streams.feed(row, piece.values, arrived)
            elif isinstance(piece, Missing):
                streams.missing(row, piece.count)
            else:
                self._note(row, source, piece)
        if source.ended:
            streams.finish(row)
            self._finished[row] = True
        return self._watch(row, source, heard, now) if source.live else []

    def _note(self, row: int, source: Source, note: Note) -> None:
        self.streams.note(row, note.kind, **note.details)
        if note.fault:
            self.faults.append(f"{source.signal.name}: {note.kind}: {note.details.get('message', '')}")

    def _watch(self, row: int, source: Source, heard: bool, now: float) -> list[Item]:
        """Report at once that a live source became silent, or sends samples again."""
        name, rate = source.signal.name, source.signal.rate
        at = self.streams.received(row) / rate
        if heard:
            self._heard[row] = now
            if self._stalled[row]:
                self._stalled[row] = False
                return [Event(name, at, "resumed")]
        elif now - self._heard[row] > _STALL_SECONDS and not self._stalled[row] and not source.ended:
            self._stalled[row] = True
            return [Event(name, at, "stalled", {"message": f"no samples for {_STALL_SECONDS:.0f} s"})]
        return []

    def save(self) -> SessionState:
        return SessionState(
            streams=self.streams.save(),
            sources=tuple(source.identity() for source in self.sources),
            positions=tuple(plain(source.save()) for source in self.sources),
            finished=tuple(self._finished),
            faults=tuple(self.faults),
        )

    def load(self, saved: SessionState) -> None:
        """Continue from a saved state, before :meth:`run`. Raises StateError for other sources."""
        mine = [json.loads(json.dumps(source.identity())) for source in self.sources]
        if (theirs := plain(saved.sources)) != mine:
            raise StateError(f"the state is of other sources: {_names(theirs)}; these are {_names(mine)}")
        if not len(saved.positions) == len(saved.finished) == len(mine):
            raise StateError(f"the state is not of {len(mine)} sources")
        for source, position in zip(self.sources, saved.positions, strict=True):
            try:
                source.load(read_fields(source.Position, position))
            except FieldError as error:
                raise StateError(f"the state of {source.signal.name}: {error}") from error
        self.streams.load(saved.streams)
        self._finished, self.faults = list(saved.finished), list(saved.faults)
        for row, source in enumerate(self.sources):
            # An ended recording stays ended, but a device whose connection had ended is connected again.
            if self._finished[row] and source.live:
                self._finished[row] = False
                self.streams.reopen(row)
                name = f"{source.signal.name}: "
                self.faults = [fault for fault in self.faults if not fault.startswith(name)]


@dataclass(frozen=True)
class Checkpoint:
    """The content of a state file: the options of a run, its bytes of output, and the session."""

    options: dict[Name, bool | float | str | tuple[str, ...] | dict[str, str] | None]
    output: Natural | None
    session: SessionState

    @classmethod
    def from_tree(cls, tree: Any) -> Checkpoint:
        """From the tree of :meth:`StateFile.read`. Raises StateError."""
        try:
            return read_fields(cls, tree)
        except FieldError as error:
            raise StateError(f"the state is damaged ({error}): move it away to start over") from error

    def check_options(self, mine: dict[str, Any]) -> None:
        """Raise StateError if a run with other options saved the state."""
        saved, mine = plain(self.options), plain(mine)
        for key, value in mine.items():
            if saved.get(key) != value:
                raise StateError(
                    f"the state is of a run with {key} {saved.get(key)!r}, this run has {value!r}; "
                    "give the same options, or another state file"
                )


class Checkpointer:
    """Runs a session, writes its lines, and saves a checkpoint every ``seconds``."""

    def __init__(
        self,
        session: Session,
        output: Output,
        state_file: StateFile | None,
        options: dict[str, Any],
        *,
        seconds: float,
        timing: bool,
        say: Callable[[str], None],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._session, self._output, self._state_file = session, output, state_file
        self._options, self._seconds, self._timing, self._say = options, seconds, timing, say
        self._alive = alive
        self._failing = False

    def run(self) -> bool:
        """Run to the end, or until stopped. Returns whether there was no fault."""
        saved = time.monotonic()
        for items in self._session.run():
            self._alive()
            self._output.write([self._line(item) for item in items])
            now = time.monotonic()
            if self._state_file is not None and now - saved >= self._seconds:
                self.checkpoint()
                saved = time.monotonic()
        if self._state_file is not None:
            self.checkpoint()
        return not (self._session.faults or self._failing)

    def checkpoint(self, *, must: bool = False) -> None:
        """Sync the output, then save the state with the length of the output.

        If that fails, ``must`` raises OutputError; otherwise the next checkpoint tries again.
        """
        assert self._state_file is not None
        offset = self._output.checkpoint()
        try:
            self._state_file.write(plain(Checkpoint(self._options, offset, self._session.save())))
        except OutputError as error:
            # Decisions matter more than the checkpoint, and the checkpoint before is still complete.
            if must:
                raise
            if not self._failing:
                self._say(f"warning: {error}; decisions continue without a new checkpoint")
            self._failing = True
        else:
            self._failing = False

    def _line(self, item: Item) -> str:
        entry = item.to_json()
        if not self._timing:
            entry.pop("timing", None)
        return json.dumps(entry, ensure_ascii=False)


def _names(identities: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{i.get('source')} (leads {i.get('leads')}, {i.get('rate')} Hz)" for i in identities)
