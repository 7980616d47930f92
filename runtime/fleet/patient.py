"""One patient: packets of the log become messages with decisions, the same on every worker."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, MultiresError, StateError
from multires_edge.runtime.ecg.carry import origin_of
from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.replay import Start
from multires_edge.runtime.ecg.session import Item
from multires_edge.runtime.ecg.streams import EcgStreams
from multires_edge.runtime.fleet.log import Entry
from multires_edge.runtime.fleet.model import Model
from multires_edge.runtime.fleet.packet import Packet, Signal, physical, read_packet
from multires_edge.runtime.fleet.position import Position

# A device that was away for longer starts a new recording. So no wrong number makes a patient wait for years.
_LONGEST_GAP = 86_400.0
_EARLY = 86_400 * 1_000_000  # microseconds that the clock of a device may be fast
_MARK_SECONDS = 1.0
# Kinds of events that have a label.
_OF_ALARMS = ("onset", "offset", "lost")


@dataclass(frozen=True)
class Message:
    """A message for the stream of decisions, with one or more lines as ``multires-edge stream`` writes them.

    It has a decision and the alarms that the decision raised or ended, or events. ``id`` is the same on every
    worker. ``position`` is the one after it. ``stored`` is when the broker stored the newest packet
    that it needed, in seconds since 1970.
    """

    body: bytes
    id: str
    position: Position
    items: tuple[Item, ...]
    stored: float


@dataclass(frozen=True)
class Refusal:
    """A message of the log that is not used, and why."""

    sequence: int
    reason: str


class Patient:
    """Decides on the packets of one patient.

    ``position`` is that of the last message with the patient's decisions, None if there is none. Give all
    packets from its ``sequence`` on: nothing is said twice. ``refusals`` collects the messages that were not
    used.
    """

    def __init__(self, name: str, model: Model, position: Position | None = None) -> None:
        self.name, self._model = name, model
        self.refusals: list[Refusal] = []
        self.doubled = 0  # packets that came twice
        self.samples = self.missing = 0  # all of this stream, and those of them that never arrived
        self.next = 0  # the number of the next sample
        self._streams: EcgStreams | None = None
        self._signal: Signal | None = None
        self._unfit: tuple[int, Signal, str] | None = None
        self._recording = -1
        self._decided = self._told = -1.0
        # Where the next stream can start: a sample, the origin and the carry. Each is of the last decision.
        self._sample = self._origin = 0
        self._carry: bytes | None = None
        # First samples of packets, with the sequences of their messages.
        self._marks: deque[tuple[int, int]] = deque()
        self._stored = 0.0
        if position is not None:
            self._recording = position.recording
            self._decided, self._told = position.decided, position.told
            self.next = self._sample = position.sample
            self._origin = position.origin
            self._carry = bytes.fromhex(position.carry) or None

    def take(self, log: Iterable[Entry]) -> list[Message]:
        """Take messages of the log, and return what they complete."""
        out: list[Message] = []
        run: list[NDArray[Any]] = []
        for entry in log:
            try:
                packet = read_packet(entry.data)
                self._check(packet, entry.time)
                if packet.recording > self._recording or self._streams is None:
                    out += self._feed(run)
                    self._open(packet)
            except MultiresError as error:
                self.refusals.append(Refusal(entry.sequence, str(error)))
                continue
            if packet.end <= self.next:
                self.doubled += bool(self._marks)  # without a mark, it is before the start
                continue
            self._stored = entry.time
            self._mark(max(packet.first, self.next), entry.sequence)
            if packet.first > self.next:
                out += self._feed(run)
                out += self._miss(packet.first)
            run.append(packet.values[max(0, self.next - packet.first) :])
            self.samples += packet.end - self.next
            self.next = packet.end
        return out + self._feed(run)

    def _check(self, packet: Packet, at: float) -> None:
        """Raise DataError unless the packet belongs to the recording, or starts a new one."""
        if packet.recording < self._recording:
            raise DataError(
                f"a packet of the recording {packet.recording}, but the patient has the later recording "
                f"{self._recording}: a device that starts again needs a later number"
            )
        if packet.recording > at * 1e6 + _EARLY:
            raise DataError(
                f"a recording that starts at {packet.recording}, expected microseconds since 1970 up to now"
            )
        if packet.recording > self._recording:
            return
        if self._signal is not None and packet.signal != self._signal:
            raise DataError(
                f"a packet of {packet.signal}, but the recording has {self._signal}: start a new recording"
            )
        if packet.first > self.next + _LONGEST_GAP * packet.signal.rate:
            raise DataError(
                f"a packet of sample {packet.first} after sample {self.next}: start a new recording after a "
                "gap of a day"
            )

    def _open(self, packet: Packet) -> None:
        """Start the stream. Raises MultiresError if the bundle cannot decide on the signal."""
        new = packet.recording > self._recording
        if self._unfit is not None and self._unfit[:2] == (packet.recording, packet.signal):
            raise DataError(self._unfit[2])
        try:
            streams = self._start(packet, new=new)
        except MultiresError as error:
            self._unfit = packet.recording, packet.signal, str(error)
            raise
        if new:
            self._recording = packet.recording
            self._decided = self._told = -1.0
            self.next = self._sample = self._origin = packet.first
            self._carry = None
        self._streams, self._signal, self._unfit = streams, packet.signal, None
        self._marks.clear()

    def _start(self, packet: Packet, *, new: bool) -> EcgStreams:
        if new:
            return self._model.open(self.name, packet.signal, Start(packet.first, packet.first))
        if self._carry is not None:
            # The carry may be of a bundle with another window: then the alarms start anew.
            with contextlib.suppress(StateError):
                return self._model.open(
                    self.name, packet.signal, Start(self._sample, self._origin, self._carry)
                )
        return self._model.open(
            self.name, packet.signal, Start(self._sample, min(self._origin, self._sample))
        )

    def _mark(self, sample: int, sequence: int) -> None:
        assert self._signal is not None
        if not self._marks or sample >= self._marks[-1][0] + _MARK_SECONDS * self._signal.rate:
            self._marks.append((sample, sequence))

    def _feed(self, run: list[NDArray[Any]]) -> list[Message]:
        """The messages that samples complete; ``run`` is empty afterwards."""
        if not run:
            return []
        assert self._streams is not None and self._signal is not None
        values = run[0] if len(run) == 1 else np.concatenate(run)
        run.clear()
        self._streams.feed(0, physical(values, self._signal))
        return self._messages(self._streams.pump())

    def _miss(self, end: int) -> list[Message]:
        """The messages that a gap up to sample ``end`` completes."""
        assert self._streams is not None
        count, self.next = end - self.next, end
        self.samples += count
        self.missing += count
        self._streams.missing(0, count)
        return self._messages(self._streams.pump())

    def _messages(self, items: Sequence[Item]) -> list[Message]:
        """A message for each decision with its alarms, and for the other events between decisions."""
        groups: list[list[Item]] = []
        for item in items:
            if isinstance(item, Event) and groups and _belongs(item, groups[-1]):
                groups[-1].append(item)
            else:
                groups.append([item])
        messages = map(self._message, groups)
        return [message for message in messages if message is not None]

    def _message(self, group: Sequence[Item]) -> Message | None:
        """None if all of it was said already."""
        decided, told, first = self._decided, self._told, group[0]
        if isinstance(first, Decision):
            if first.time <= decided:
                return None
            decided, what = first.time, f"decision/{first.time:.6f}"
            self._sample, self._carry = first.replay_from, first.carry
            self._origin = origin_of(first.carry)
        else:
            # Events at the same time are in one group: they come from one block of samples.
            group = [event for event in group if event.time > told]
            if not group:
                return None
            told = max(event.time for event in group)
            what = f"events/{told:.6f}"
        self._decided, self._told = decided, told
        return Message(
            b"\n".join(self._line(item) for item in group),
            f"{self.name}/{self._recording}/{what}",
            self._position(),
            tuple(group),
            self._stored,
        )

    def _line(self, item: Item) -> bytes:
        entry = item.to_json() | {"recording": self._recording}
        if isinstance(item, Decision):
            entry["made"] = self._model.provenance
        return json.dumps(entry, ensure_ascii=False).encode()

    def _position(self) -> Position:
        """Where the messages after the last one can be made again."""
        # Packets before the sample are not needed again.
        while len(self._marks) > 1 and self._marks[1][0] <= self._sample:
            self._marks.popleft()
        return Position(
            self._recording, self._origin, self._sample, self._marks[0][1], self._decided, self._told,
            self._model.digest, (self._carry or b"").hex(),
        )  # fmt: skip


def _belongs(event: Event, group: Sequence[Item]) -> bool:
    """Whether an event is in the message that these items start."""
    first = group[0]
    if isinstance(first, Event):
        return True
    return event.kind in _OF_ALARMS and "label" in event.details and event.time == first.time
