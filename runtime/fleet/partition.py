"""One partition: its patients, from their packets in the log to their decisions in the other stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from multires_edge.base.errors import DataError, MultiresError
from multires_edge.runtime.fleet.broker import Broker
from multires_edge.runtime.fleet.decisions import Outlet, last_position
from multires_edge.runtime.fleet.fleet_metrics import FleetMetrics
from multires_edge.runtime.fleet.log import Entry, LogReader
from multires_edge.runtime.fleet.model import Model
from multires_edge.runtime.fleet.names import check_token, patient_of
from multires_edge.runtime.fleet.packet import Packet, read_packet
from multires_edge.runtime.fleet.patient import Patient
from multires_edge.runtime.fleet.position import Position

# Decisions that wait for the broker at most; then samples wait too, in their stream.
_MOST_WAITING = 1000
_LOOK = 0.02
# Patients that are taken over at once: while one waits for the broker, another computes.
_OPENING = 4
# Messages of a patient that are computed in one go.
_AT_ONCE = 64
# A patient without samples for so long needs no memory: the log has what its next decisions need.
_IDLE_SECONDS = 60.0
# A patient that cannot be decided on is tried again after so long, and people hear of it as rarely.
_QUIET_SECONDS = 60.0
_RETRY = 0.25


@dataclass
class _Seat:
    patient: Patient
    outlet: Outlet
    used: float


class Turns:
    """What the partitions of a worker share: one computes at a time, and a few patients are taken over.

    Otherwise the leases would not be renewed in time while many patients are taken over: what they compute
    in one round of the event loop would be too much.
    """

    def __init__(self) -> None:
        self.computing, self.opening = asyncio.Lock(), asyncio.Semaphore(_OPENING)


class Partition:
    """Decides on the patients of one partition, as long as ``valid`` says that this worker has its lease."""

    def __init__(
        self, number: int, broker: Broker, model: Model, worker: str, metrics: FleetMetrics, turns: Turns,
        valid: Callable[[], bool], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.number, self._broker, self._model, self._worker = number, broker, model, worker
        self._metrics, self._turns, self._valid, self._say = metrics, turns, valid, say
        self._seats: dict[str, _Seat] = {}
        self._shut: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._reader: LogReader | None = None

    @property
    def patients(self) -> int:
        return len(self._seats)

    @property
    def waiting(self) -> int:
        """Decisions that the broker has not stored yet."""
        return sum(seat.outlet.waiting for seat in self._seats.values())

    @property
    def behind(self) -> int:
        """Messages of the partition that wait at the broker."""
        return 0 if self._reader is None else self._reader.left

    async def run(self) -> None:
        """Take the patients over, then decide as their packets come, until cancelled."""
        names = self._broker.names
        try:
            last, patients = await self._survey()
            self._reader = self._read(names.partition(self.number), last + 1)
            await self._reader.open()
            for name in patients:
                await self._open(name, last + 1)
            while True:
                await self._room()
                await self._take(await self._reader.read())
        finally:
            await self._close()

    def _read(self, subject: str, start: int) -> LogReader:
        broker = self._broker
        return LogReader(broker.client, broker.context, broker.names.samples, subject, start)

    async def _survey(self) -> tuple[int, list[str]]:
        """The last sequence of the samples, and the patients of the partition."""
        from nats.errors import Error

        names = self._broker.names
        while True:
            try:
                info = await self._broker.context.stream_info(
                    names.samples, subjects_filter=names.partition(self.number)
                )
            except (Error, OSError, asyncio.TimeoutError):
                await asyncio.sleep(_RETRY)
            else:
                return info.state.last_seq, sorted(map(patient_of, info.state.subjects or {}))

    async def tidy(self) -> None:
        """Forget patients who are idle, and what was told of them."""
        now = time.monotonic()
        for name, seat in list(self._seats.items()):
            if now - seat.used > _IDLE_SECONDS and not seat.outlet.waiting:
                await self._drop(name)
        for times in (self._shut, self._told):
            for name in [name for name, at in times.items() if now - at > _QUIET_SECONDS]:
                del times[name]

    async def _take(self, entries: list[Entry]) -> None:
        """Give new messages to their patients."""
        by_patient: dict[str, list[Entry]] = {}
        for entry in entries:
            by_patient.setdefault(patient_of(entry.subject), []).append(entry)
        for name, own in by_patient.items():
            if name not in self._seats:
                await self._open(name, own[0].sequence)
            await self._feed(name, own)

    async def _open(self, name: str, before: int) -> None:
        """Take a patient over: decide again from where the last decision says, up to a sequence."""
        if name not in self._shut:
            async with self._turns.opening:
                await self._take_over(name, before)

    async def _take_over(self, name: str, before: int) -> None:
        broker = self._broker
        try:
            check_token(name, "a patient")
            last, position = await self._last(name)
            if position is not None:
                position = await self._adapted(name, position)
            patient = Patient(name, self._model, position)
        except MultiresError as error:
            self._shut_out(name, str(error))
            return
        outlet = Outlet(
            broker.context, broker.names, name, last, self._worker, self._valid,
            told=lambda message: self._metrics.told(name, message), problem=self._problem,
            overtaken=lambda: self._metrics.count("fenced_messages"),
        )  # fmt: skip
        self._seats[name] = _Seat(patient, outlet, time.monotonic())
        self._metrics.count("replays")
        reader = self._read(broker.names.samples_of(name), 1 if position is None else position.sequence)
        try:
            await reader.open()
            while reader.left and name in self._seats:
                entries = await reader.read()
                await self._feed(name, [entry for entry in entries if entry.sequence < before])
                if entries[-1].sequence >= before:
                    break
                await self._room()
        finally:
            await reader.close()

    async def _last(self, name: str) -> tuple[int, Position | None]:
        from nats.errors import Error

        while True:
            try:
                return await last_position(self._broker.context, self._broker.names, name)
            except (Error, OSError, asyncio.TimeoutError, json.JSONDecodeError):
                await asyncio.sleep(_RETRY)

    async def _adapted(self, name: str, position: Position) -> Position:
        """A position of another bundle, from which this worker's bundle makes the next decisions."""
        if position.bundle == self._model.digest or not position.carry:
            return position
        packet = await self._packet(name, position.sequence)
        if packet is None:
            return position
        first = self._model.first_needed(packet[1].signal, position)
        sequence = await self._find(name, (position.recording, first), position.sequence)
        return replace(position, sample=first, sequence=sequence)

    async def _find(self, name: str, sample: tuple[int, int], high: int) -> int:
        """The sequence, up to ``high``, of the packet with a sample of a recording, or of one before it."""

        async def is_early(sequence: int) -> bool:
            found = await self._packet(name, sequence)
            return found is not None and (found[1].recording, found[1].first) <= sample

        # It is not far away: look back twice as far each time, then halve what is between.
        low, distance = high, 1
        while low > 1 and not await is_early(low):
            high, low = low - 1, max(1, low - distance)
            distance *= 2
        while low < high:
            middle = (low + high + 1) // 2
            if await is_early(middle):
                low = middle
            else:
                high = middle - 1
        return low

    async def _packet(self, name: str, sequence: int) -> tuple[int, Packet] | None:
        """The patient's first packet from a sequence on, and its own sequence."""
        from nats.errors import Error
        from nats.js.errors import NotFoundError

        names = self._broker.names
        while True:
            try:
                message = await self._broker.context.get_msg(
                    names.samples, seq=sequence, subject=names.samples_of(name), next=True
                )
                return message.seq or 0, read_packet(message.data or b"")
            except NotFoundError:
                return None
            except DataError:
                sequence = (message.seq or 0) + 1
            except (Error, OSError, asyncio.TimeoutError):
                await asyncio.sleep(_RETRY)

    async def _feed(self, name: str, entries: list[Entry]) -> None:
        for start in range(0, len(entries), _AT_ONCE):
            async with self._turns.computing:
                self._decide(name, entries[start : start + _AT_ONCE])
                await asyncio.sleep(0)

    def _decide(self, name: str, entries: list[Entry]) -> None:
        seat = self._seats.get(name)
        if seat is None:
            return
        patient = seat.patient
        doubled, refused = patient.doubled, len(patient.refusals)
        try:
            messages = patient.take(entries)
        except MultiresError as error:
            self._shut_out(name, str(error))
            return
        seat.used = time.monotonic()
        seat.outlet.put(messages)
        refusals = patient.refusals[refused:]
        patient.refusals.clear()
        self._metrics.heard(name, patient.samples, patient.missing)
        self._metrics.count("packets", len(entries) - len(refusals))
        self._metrics.count("refused_messages", len(refusals))
        self._metrics.count("doubled_packets", patient.doubled - doubled)
        if refusals:
            self._hear_of(name, f"message {refusals[0].sequence} is not used: {refusals[0].reason}")

    async def _room(self) -> None:
        """Wait until the broker has stored enough decisions."""
        while self.waiting > _MOST_WAITING:
            await asyncio.sleep(_LOOK)

    def _shut_out(self, name: str, reason: str) -> None:
        """Leave a patient out for a while. The others go on."""
        self._hear_of(name, reason)
        self._shut[name] = time.monotonic()
        self._seats.pop(name, None)

    def _hear_of(self, name: str, reason: str) -> None:
        """Tell people of a patient, but not again and again."""
        if name not in self._told:
            self._told[name] = time.monotonic()
            self._say(f"warning: {name}: {reason}")

    def _problem(self, problem: str | None) -> None:
        self._metrics.problem = problem

    async def _drop(self, name: str) -> None:
        seat = self._seats.pop(name)
        await seat.outlet.close()
        self._metrics.forget(name)

    async def _close(self) -> None:
        if self._reader is not None:
            await self._reader.close()
        for name in list(self._seats):
            await self._drop(name)
