"""The messages to browsers. Each browser has a bounded queue."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.fields import plain
from multires_edge.runtime.monitor.patient import Identity, Patient
from multires_edge.runtime.monitor.review import Past

MOST_CLIENTS = 32
# The length of a browser's queue, in seconds of all patients' samples. A slower browser loses samples.
_LONGEST_LAG = 5.0
_SMALLEST_QUEUE = 1 << 16

Message = str | bytes


class Client:
    """A browser's queue: ``backlog`` first, then at most ``room`` bytes. The oldest messages are dropped.

    After a loss the browser gets the number of lost samples and lines, and the current states from
    ``restate``: it may have missed a change of state.
    """

    def __init__(self, backlog: Sequence[Message], room: int, restate: Callable[[], list[Message]]) -> None:
        self._backlog: list[Message] = list(backlog)
        self._room, self._restate = room, restate
        self._queue: deque[tuple[Message, int, int]] = deque()
        self._bytes = 0
        self._lost_samples = self._lost_lines = 0
        self._filled = asyncio.Event()
        self._filled.set()

    def put(self, message: Message, *, samples: int = 0, lines: int = 0) -> None:
        """Add a message that has ``samples`` samples or ``lines`` lines of output. Never waits."""
        self._queue.append((message, samples, lines))
        self._bytes += len(message)
        while self._bytes > self._room and len(self._queue) > 1:
            oldest, samples, lines = self._queue.popleft()
            self._bytes -= len(oldest)
            self._lost_samples += samples
            self._lost_lines += lines
        self._filled.set()

    async def take(self) -> list[Message]:
        """Wait for messages, and return all that are queued."""
        await self._filled.wait()
        self._filled.clear()
        messages, self._backlog = self._backlog, []
        lost = {"type": "dropped", "samples": self._lost_samples, "lines": self._lost_lines}
        if lost["samples"] or lost["lines"]:
            messages.append(json.dumps(lost))
        messages += [message for message, _, _ in self._queue]
        if lost["samples"] or lost["lines"]:
            messages += self._restate()
        self._queue.clear()
        self._bytes = self._lost_samples = self._lost_lines = 0
        return messages


class Hub:
    """The states of all patients, and the queues of all browsers.

    The first message, "hello", includes ``about``. Messages are JSON: "decision" and "event" are unchanged
    lines of output. Frames of samples are binary (:mod:`.patient`). Only the server's thread may call this.
    """

    def __init__(
        self, patients: Sequence[Identity], channels: Sequence[str], about: Mapping[str, Any]
    ) -> None:
        self._patients = [Patient(number, identity) for number, identity in enumerate(patients)]
        self._by_source = {patient.identity.source: patient for patient in self._patients}
        self._channels = list(channels)
        self._about = dict(about)
        # Tells a browser that reconnects whether the monitor was restarted.
        self._run = secrets.token_hex(8)
        bytes_per_second = sum(4 * len(channels) * identity.rate for identity in patients)
        self._room = max(_SMALLEST_QUEUE, round(_LONGEST_LAG * bytes_per_second))
        self._clients: set[Client] = set()

    def join(self) -> Client | None:
        """Add a browser. Returns its queue, or None if there are MOST_CLIENTS browsers."""
        if len(self._clients) >= MOST_CLIENTS:
            return None
        client = Client(self._backlog(), self._room, self._statuses)
        self._clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        self._clients.discard(client)

    def samples(self, number: int, first: int, millivolts: NDArray[np.floating[Any]]) -> None:
        """Send samples (n, channels) of a patient in mV; ``first`` is the number of the first sample."""
        patient = self._patients[number]
        was = patient.feed
        self._put(patient.take_samples(first, millivolts), samples=len(millivolts))
        if patient.feed != was:
            self._put(json.dumps(patient.status()))

    def line(self, line: str) -> None:
        """Send a line of output."""
        entry = json.loads(line)
        patient = self._by_source[entry["source"]]
        changed = patient.take_line(line, entry)
        self._put(line, lines=1)
        if changed:
            self._put(json.dumps(patient.status()))

    def ended(self, number: int) -> None:
        """Send the end of a source."""
        patient = self._patients[number]
        if patient.end():
            self._put(json.dumps(patient.status()))

    def hear(self, message: str | bytes) -> bool:
        """Take a message of a browser: an alarm was acknowledged. Returns whether it is a valid message."""
        match _parsed(message):
            case {
                "type": "acknowledge",
                "source": str(source),
                "label": str(label),
                "since": float() | int() as since,
            }:
                patient = self._by_source.get(source)
                if patient is not None and patient.acknowledge(label, since):
                    self._put(json.dumps(patient.status()))
                return True
        return False

    def past(self, number: int) -> Past | None:
        """What a review of a patient needs, or None if there is no such patient."""
        if not 0 <= number < len(self._patients):
            return None
        patient = self._patients[number]
        return Past(patient.identity.source, self._about["labels"], patient.reached, list(patient.lines))

    def tick(self) -> None:
        """Send a sign of life. A browser without one for some seconds reconnects."""
        self._put('{"type": "tick"}')

    def _put(self, message: Message, *, samples: int = 0, lines: int = 0) -> None:
        for client in self._clients:
            client.put(message, samples=samples, lines=lines)

    def _statuses(self) -> list[Message]:
        return [json.dumps(patient.status()) for patient in self._patients]

    def _backlog(self) -> list[Message]:
        hello = {
            "type": "hello",
            "run": self._run,
            **self._about,
            "channels": self._channels,
            "patients": [plain(patient.identity) for patient in self._patients],
        }
        past: list[Message] = [json.dumps(hello)]
        for patient in self._patients:
            past += patient.frames
            past += patient.lines
        return [*past, *self._statuses(), '{"type": "now"}']


def _parsed(message: str | bytes) -> Any:
    try:
        return json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        return None
