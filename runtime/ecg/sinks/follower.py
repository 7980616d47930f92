"""Follows the lines of a run and sends them to one sink, in a thread of its own."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from multires_edge.base.errors import MultiresError, OutputError
from multires_edge.runtime.ecg.sinks.choice import Choice
from multires_edge.runtime.ecg.sinks.position import Position, PositionFile
from multires_edge.runtime.ecg.sinks.protocol import DeliveryError, Line, RefusedLinesError, Sink
from multires_edge.runtime.ecg.sinks.waiting import LogLines, Named, Waiting

# Seconds until lines are sent again, which double.
_FIRST_WAIT, _LONGEST_WAIT, _LONGEST_ASKED = 0.5, 30.0, 300.0
# The position is written no more often, in seconds. It changes with each state of the run.
_SAVE_EVERY = 1.0


class Follower:
    """Sends ``waiting`` lines to ``sink``, and again until the sink has taken them.

    ``file`` keeps the position, if the lines are in the output. ``say`` is called with a line when the sink
    begins to fail and when it works again. Counts: lines that were ``sent`` and ``refused``, and calls that
    failed (``failures``). ``failing`` is why the last call failed, or None.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        choice: Choice,
        waiting: Waiting,
        file: PositionFile | None,
        say: Callable[[str], None],
    ) -> None:
        self.name, self.waiting = name, waiting
        self.sent = self.refused = self.failures = 0
        self.failing: str | None = None
        self.progress = time.monotonic()  # the time of the last success
        self._sink, self._choice, self._file, self._say = sink, choice, file, say
        self._saved = sink.save()  # fits the lines that are sent
        self._written: tuple[Any, ...] | None = None
        self._next_write, self._unwritable = 0.0, False
        self._times: dict[Any, tuple[Any, str]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)

    def start(self) -> None:
        """Write the position, so that every line is sent after a crash, and begin. Raises OutputError."""
        self._write(must=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still sends."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for the thread, which ends after the last line."""
        self._thread.join(max(0.0, seconds))

    def stop(self) -> None:
        """End the thread after its current call."""
        self._stop.set()
        self.waiting.close()

    def free(self) -> None:
        """Close the files, unless the thread was given up and uses them."""
        if not self.alive and isinstance(self.waiting, LogLines):
            self.waiting.free()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and self._turn():
                self._write_if_due()
            self._write()
        finally:
            try:
                self._sink.close()
            except Exception as error:
                self._say(f"note: {self.name}: {_reason(error)} while it was closed")

    def _turn(self) -> bool:
        """Send the next lines. Returns whether others may follow."""
        try:
            named = self.waiting.take(self._sink.most)
        except OSError as error:
            self._fail(f"the output cannot be read ({error.strerror or error})")
            self._stop.wait(_LONGEST_WAIT)
            return True
        if named and self._written is not None and not named[0][0].startswith(self._written[0]):
            # Another run must not send these lines with the ids of those before.
            self._write()
        lines = [line for name in named if (line := self._line(name)) is not None]
        if self._deliver(lines):
            self._saved = self._sink.save()
            self.waiting.done()
        return bool(named)

    def _line(self, named: Named) -> Line | None:
        """A line that the sink takes, or None."""
        try:
            entry = json.loads(named[1])
            source, time_ = entry["source"], entry["time"]
            at = entry.get("timing", {}).get("at")
            if at is not None:
                self._times[source] = time_, at
            known = self._times.get(source)
            if self._choice.takes(entry):
                return Line(*named, entry, known[1] if known is not None and known[0] == time_ else None)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.refused += 1  # another program wrote into the output
        return None

    def _deliver(self, lines: list[Line]) -> bool:
        """Send lines until they are taken or refused. Returns False if the run ends before."""
        wait = _FIRST_WAIT
        while lines:
            try:
                self._sink.send(lines)
            except RefusedLinesError as error:
                return self._refuse(lines, error)
            except Exception as error:  # also a mistake in a sink of another package must not end the run
                self.failures += 1
                self._fail(_reason(error))
                asked = error.wait if isinstance(error, DeliveryError) else None
                pause = max(wait * random.uniform(0.5, 1), min(asked or 0.0, _LONGEST_ASKED))
                if self._stop.wait(pause):
                    return False
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                self.sent += len(lines)
                self._succeed()
                return True
        return True

    def _refuse(self, lines: list[Line], error: RefusedLinesError) -> bool:
        """Send lines one by one, and leave out those that are never taken. As :meth:`_deliver`."""
        if len(lines) == 1:
            self.refused += 1
            if self.refused.bit_count() == 1:  # the 1st, 2nd, 4th, 8th: no flood
                self._say(f"warning: {self.name}: refused a line: {_reason(error)} ({self.refused} in all)")
            self._succeed()
            return True
        return all(self._deliver([line]) for line in lines)

    def _fail(self, reason: str) -> None:
        if self.failing is None:
            self._say(f"warning: {self.name}: {reason}; lines wait and are sent again")
        self.failing = reason

    def _succeed(self) -> None:
        self.progress = time.monotonic()
        if self.failing is not None:
            self._say(f"note: {self.name}: takes lines again")
            self.failing = None

    def _write_if_due(self) -> None:
        if time.monotonic() >= self._next_write:
            self._write()

    def _write(self, *, must: bool = False) -> None:
        """Write the position if it changed."""
        if self._file is None or not isinstance(self.waiting, LogLines):
            return
        place = self.waiting.position
        if place is None or (*place, self._saved) == self._written:
            return
        run, size = place
        self._next_write = time.monotonic() + _SAVE_EVERY
        try:
            mark = self.waiting.mark(size)
            self._file.write(Position(self.name, run, mark, self._saved))
            self._written, self._unwritable = (run, size, self._saved), False
        except OSError as error:  # also OutputError
            if must:
                raise
            if not self._unwritable:
                message = str(error) if isinstance(error, OutputError) else f"{self._file.path}: {error}"
                self._say(f"warning: {message}; after a crash {self.name} gets lines again")
            self._unwritable = True


def _reason(error: BaseException) -> str:
    """An error in one line, for people."""
    if isinstance(error, MultiresError):
        text = str(error)
    elif isinstance(error, OSError):
        text = error.strerror or str(error) or type(error).__name__
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]
