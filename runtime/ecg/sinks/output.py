"""An output that also sends its lines to sinks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from multires_edge.base.errors import InputError
from multires_edge.base.files import disk_errors
from multires_edge.runtime.ecg.file_mark import FileMark
from multires_edge.runtime.ecg.output import Output
from multires_edge.runtime.ecg.output_file import OutputFile
from multires_edge.runtime.ecg.sinks.follower import Follower
from multires_edge.runtime.ecg.sinks.position import Position, PositionFile
from multires_edge.runtime.ecg.sinks.protocol import Sink
from multires_edge.runtime.ecg.sinks.registry import OpenedSink
from multires_edge.runtime.ecg.sinks.waiting import LogLines, MemoryLines
from multires_edge.runtime.ecg.whole_lines import end_of_lines

# At the end of the sources, a sink may take its time as long as it takes a line in so many seconds.
_PATIENCE = 10.0
# After a signal, the sinks that work get so many seconds for the lines that are left.
_FAREWELL = 1.0


class SinkOutput(Output):
    """Writes lines to ``inner``, if there is one, and sends them to sinks. No sink waits for another.

    If ``inner`` is a file, each sink reads the lines from there, and has a position in it: nothing is lost
    while a receiver is away or the run is not running, and lines that are sent again have the same ids.
    Otherwise some lines wait in memory, and the oldest are dropped.

    ``waits``: recordings at full speed wait for slow sinks whose lines are in memory, and at their end for
    sinks that fail. ``hurry`` returns True
    when nothing may wait. ``say`` is called with messages, also by threads. Raises MultiresError. The caller
    closes ``inner`` if that fails.
    """

    def __init__(
        self,
        inner: Output | None,
        sinks: Sequence[OpenedSink],
        *,
        say: Callable[[str], None],
        waits: bool = False,
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        self._inner, self._say, self._hurry = inner, say, hurry
        self._log = inner if isinstance(inner, OutputFile) else None
        self._memories: list[MemoryLines] = []
        self._logs: list[LogLines] = []
        self._waits = waits
        self._moves, self._end = (0, 0) if self._log is None else (self._log.moves, self._log.start)
        self.lost = False  # whether lines were not sent at the end
        self._closed = False
        self.followers: list[Follower] = []
        try:
            for sink in sinks:
                self.followers.append(self._follow(sink))
            self._tell()
            for follower in self.followers:
                follower.start()
        except BaseException:
            for follower in self.followers:
                follower.stop()
                if follower.alive:
                    follower.join(1)
                follower.free()
            raise

    def _follow(self, opened: OpenedSink) -> Follower:
        if self._log is None:
            memory = MemoryLines(waits=self._waits, hurry=self._hurry)
            self._memories.append(memory)
            opened.sink.load(None)
            return Follower(opened.name, opened.sink, opened.choice, memory, None, self._say)
        file = PositionFile(self._log.path, opened.name)
        descriptor = self._log.duplicate()
        try:
            with disk_errors(self._log.path):
                os.fsync(descriptor)
                size = end_of_lines(descriptor, os.fstat(descriptor).st_size)
                position = self._load(opened.sink, file, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

        def say(text: str) -> None:
            self._say(f"warning: {opened.name}: {text}")

        log = LogLines(descriptor, self._log.start, size, position, settled=opened.sink.settled, say=say)
        self._logs.append(log)
        return Follower(opened.name, opened.sink, opened.choice, log, file, self._say)

    def _load(self, sink: Sink, file: PositionFile, descriptor: int) -> Position | None:
        """Let a sink continue at its position, if that is in this output; else it starts."""
        position, wrong = file.read()
        if position is not None and not position.output.fits(descriptor):
            wrong = f"{file.path}: is a position in another output"
        elif position is not None:
            try:
                sink.load(position.saved)
                return position
            except InputError as error:
                wrong = f"{file.path}: {error}"
        if wrong:
            self._say(f"warning: {wrong}; the sink starts with the lines of this run")
        sink.load(None)
        return None

    def write(self, lines: list[str]) -> None:
        if self._inner is not None:
            self._inner.write(lines)
        if self._log is not None:
            self._tell()
        elif lines:
            for memory in self._memories:
                memory.put(lines)

    def _tell(self) -> None:
        """Tell the sinks where the lines are."""
        log = self._log
        if log is None:
            return
        if log.moves != self._moves:
            self._moves, self._end = log.moves, log.start
            for follower in self._logs:
                with disk_errors(log.path):
                    follower.moved(log.duplicate(), log.start)
        if log.position != self._end:
            self._end = log.position
            for follower in self._logs:
                follower.grew(self._end)

    @property
    def unsettled(self) -> bool:  # type: ignore[override]
        """As that of the inner output, and so are the next ones."""
        return self._inner is not None and self._inner.unsettled

    @property
    def kept(self) -> Mapping[str, int]:  # type: ignore[override]
        return {} if self._inner is None else self._inner.kept

    @property
    def reached(self) -> Mapping[str, float]:  # type: ignore[override]
        return {} if self._inner is None else self._inner.reached

    def checkpoint(self) -> FileMark | None:
        mark = None if self._inner is None else self._inner.checkpoint()
        self._tell()
        if mark is not None:
            for follower in self._logs:
                follower.synced(mark.size)
        return mark

    def finish(self) -> None:
        if self._inner is not None:
            self._inner.finish()
        self._tell()

    def close(self) -> None:
        """Wait for the sinks that take lines, then close everything. Says which lines are left."""
        if self._closed:
            return
        self._closed = True
        for follower in self.followers:
            follower.waiting.close()
        began = time.monotonic()
        while any(follower.alive and self._hopeful(follower, began) for follower in self.followers):
            time.sleep(0.005)
        for follower in self.followers:
            follower.stop()
        until = time.monotonic() + 0.1
        for follower in self.followers:
            follower.join(until - time.monotonic())
            self._say_what_is_left(follower)
            follower.free()
        if self._inner is not None:
            self._inner.close()

    def _hopeful(self, follower: Follower, began: float) -> bool:
        now = time.monotonic()
        if self._hurry():
            return follower.failing is None and now - began < _FAREWELL
        if follower.failing is not None and self._log is not None and not self._waits:
            return False  # a live run is started again soon, and sends these lines then
        return now - max(began, follower.progress) < _PATIENCE

    def _say_what_is_left(self, follower: Follower) -> None:
        left = follower.waiting.left
        if not (left or follower.waiting.dropped):
            return
        self.lost = True
        text = f"warning: {follower.name}: "
        if self._log is None:
            text += f"{left} bytes of lines were not sent" if left else ""
            dropped = follower.waiting.dropped
            text += (", " if left and dropped else "") + (f"{dropped} lines were dropped" if dropped else "")
        elif left:
            text += f"{left} bytes of lines were not sent; the next run with this output sends them"
        else:
            return  # said already
        self._say(text)

    def __enter__(self) -> SinkOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
