"""Writes decisions to their stream: each once, in order, whoever else writes."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from multires_edge.base.errors import StateError
from multires_edge.runtime.fleet.names import Names
from multires_edge.runtime.fleet.patient import Message
from multires_edge.runtime.fleet.position import HEADER, Position
from multires_edge.runtime.fleet.tasks import ended

if TYPE_CHECKING:
    from nats.js import JetStreamContext

_TIMEOUT, _RETRY, _LONGEST_RETRY = 2.0, 0.1, 2.0
# The broker's code for "wrong last sequence": another worker wrote after our last message.
_WRONG_LAST = (10071, 10164)
_WORKER = "Multires-Worker"


async def last_position(context: JetStreamContext, names: Names, patient: str) -> tuple[int, Position | None]:
    """The sequence of the last message with decisions of a patient, and the position in its header.

    0 and None without a message. Raises StateError for a message that no worker wrote.
    """
    from nats.js.errors import NotFoundError

    try:
        message = await context.get_last_msg(names.decisions, names.decisions_of(patient))
    except NotFoundError:
        return 0, None
    header = (message.headers or {}).get(HEADER)
    if header is None:
        raise StateError(
            f"the message {message.seq} of {names.decisions_of(patient)} has no header {HEADER}: no worker "
            "wrote it; delete it from the stream"
        )
    return message.seq or 0, Position.from_header(header)


class Outlet:
    """Writes the messages of one patient one after the other, as long as ``may_write`` says so.

    ``told`` is called for each message that is stored, ``problem`` with what keeps messages from it, or None,
    and ``overtaken`` when another worker has written.

    ``last`` is the sequence of the patient's last message in the stream. The broker refuses a message if that
    is not the last any more. Then another worker has written: what it wrote is taken out of the queue.
    """

    def __init__(
        self, context: JetStreamContext, names: Names, patient: str, last: int, worker: str,
        may_write: Callable[[], bool], told: Callable[[Message], None], problem: Callable[[str | None], None],
        overtaken: Callable[[], None],
    ) -> None:  # fmt: skip
        self._context, self._names, self._patient = context, names, patient
        self._last, self._worker = last, worker
        self._may_write, self._told = may_write, told
        self._problem, self._overtaken = problem, overtaken
        self._queue: deque[Message] = deque()
        self._task: asyncio.Task[None] | None = None
        self.fenced = self.doubled = 0

    @property
    def waiting(self) -> int:
        """Messages that are not in the stream yet."""
        return len(self._queue)

    def put(self, messages: list[Message]) -> None:
        """Write messages, after those before them."""
        self._queue.extend(messages)
        if self._queue and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._write_all())

    async def close(self) -> None:
        """Stop writing; messages that wait are made again from the log by whoever has the patient next."""
        self._queue.clear()
        if self._task is not None:
            await ended(self._task)

    async def _write_all(self) -> None:
        from nats.errors import Error
        from nats.js.errors import APIError

        pause = _RETRY
        while self._queue and self._may_write():
            try:
                await self._write(self._queue[0])
                pause = _RETRY
                self._problem(None)
                continue
            except APIError as error:
                if error.err_code in _WRONG_LAST:
                    self.fenced += 1
                    self._overtaken()
                    if await self._catch_up():
                        continue
                self._problem(f"the broker does not store decisions: {error.description}")
            except (Error, OSError, asyncio.TimeoutError) as error:
                self._problem(f"the broker does not answer ({type(error).__name__})")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY)

    async def _write(self, message: Message) -> None:
        ack = await self._context.publish(
            self._names.decisions_of(self._patient),
            message.body,
            timeout=_TIMEOUT,
            headers={
                "Nats-Msg-Id": message.id,
                "Nats-Expected-Stream": self._names.decisions,
                "Nats-Expected-Last-Subject-Sequence": str(self._last),
                HEADER: message.position.to_header(),
                _WORKER: self._worker,
            },
        )
        self._last = ack.seq
        self._queue.popleft()
        if ack.duplicate:
            self.doubled += 1
        else:
            self._told(message)

    async def _catch_up(self) -> bool:
        """Take what another worker has written out of the queue. False if the broker does not say it."""
        from nats.errors import Error

        try:
            self._last, position = await last_position(self._context, self._names, self._patient)
        except (Error, OSError, asyncio.TimeoutError, StateError, json.JSONDecodeError):
            return False
        if position is not None:
            self._queue = deque(message for message in self._queue if message.position.is_after(position))
        return True
