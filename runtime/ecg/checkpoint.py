"""A run: write a session's lines, and save checkpoints so that a killed run can continue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from multires_edge.base.errors import OutputError, StateError
from multires_edge.format.fields import Between, FieldError, Name, plain, read_fields
from multires_edge.runtime.ecg.file_mark import FileMark
from multires_edge.runtime.ecg.metrics import Metrics
from multires_edge.runtime.ecg.output import Output
from multires_edge.runtime.ecg.session import Item, Session, SessionState
from multires_edge.runtime.ecg.state_file import StateFile


@dataclass(frozen=True)
class Checkpoint:
    """The content of a state file.

    The options of the run, where its output ended, the time in seconds since 1970, and the session.
    """

    options: dict[Name, bool | float | str | tuple[str, ...] | dict[str, str] | None]
    output: FileMark | None
    time: Annotated[float, Between(0, 1e12)]
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
                theirs, ours = (f"{given!r:.20}" for given in (saved.get(key), value))  # digests are long
                raise StateError(
                    f"the state is of a run with {key} {theirs}, this run has {ours}; "
                    "give the same options, or another state file"
                )


@dataclass
class Checkpointer:
    """Runs a session, writes its lines, syncs them, and saves a checkpoint every ``seconds``.

    ``options`` are those of the run, which a saved state must have. ``alive`` is called in every round, and
    ``metrics`` counts what comes.
    """

    session: Session
    output: Output
    state_file: StateFile | None
    options: dict[str, Any]
    seconds: float
    timing: bool
    say: Callable[[str], None]
    alive: Callable[[], None] = lambda: None
    metrics: Metrics | None = None

    def __post_init__(self) -> None:
        self._failing = False
        # Lines that the output has already, by recording: they come again.
        self._repeated: dict[str, int] = {}
        # The last attempt, and the last success.
        self._saved = self._last = time.monotonic()

    def resume(self, saved: Checkpoint) -> None:
        """Say where a run with live sources continues, because samples and decisions are missing there."""
        sources = self.session.sources
        if not any(source.live for source in sources):
            return
        names = [source.signal.name for source in sources if not source.live]
        self._repeated = {name: self.output.kept[name] for name in names if name in self.output.kept}
        self.session.resume(self.output.reached)
        seconds, kept = max(0.0, time.time() - saved.time), sum(self.output.kept.values())
        message = f"the state was saved {seconds:.0f} s ago"
        if kept:
            message += f"; {kept} lines before this one are newer"
            self.say(f"note: {message}, and stay in the output")
        entry = {"type": "event", "source": None, "time": None, "event": "continued"}
        details = {"seconds": round(seconds, 3), "lines": kept, "message": message}
        self.output.write([json.dumps(entry | details)])
        self.checkpoint()

    def run(self) -> bool:
        """Run to the end, or until stopped. Returns whether there was no fault."""
        for items in self.session.run():
            self.alive()
            if self.metrics is not None:
                self.metrics.take(items)
            self.output.write([self._line(item) for item in items if self._is_new(item)])
            if time.monotonic() - self._saved >= self.seconds or self.output.unsettled:
                self.checkpoint()
        if self.session.done:
            self.output.finish()
        self.checkpoint()
        if self._failing:
            self._say_what_follows()
        return not (self.session.faults or self._failing)

    def checkpoint(self, *, must: bool = False) -> None:
        """Sync the output, then save the state with the end of the output.

        If that fails, ``must`` raises OutputError; otherwise the next checkpoint tries again.
        """
        end = self.output.checkpoint()
        if self.state_file is not None and not self._repeats():
            checkpoint = Checkpoint(self.options, end, time.time(), self.session.save())
            try:
                self.state_file.write(plain(checkpoint))
            except OutputError as error:
                # Decisions matter more than the checkpoint, and the checkpoint before is still complete.
                if must:
                    raise
                if not self._failing:
                    self.say(f"warning: {error}; decisions continue without a new checkpoint")
                self._failing = True
                self._count(saved=False)
            else:
                if self._failing:
                    self.say(f"note: {self.state_file.path}: checkpoints are written again")
                self._failing, self._last = False, time.monotonic()
                self._count(saved=True)
        self._saved = time.monotonic()

    def _count(self, *, saved: bool) -> None:
        if self.metrics is not None:
            self.metrics.state(saved=saved)

    def _repeats(self) -> bool:
        """Whether lines of a recording still come again. The checkpoint before tells which these are."""
        sources = zip(self.session.sources, self.session.finished, strict=True)
        return any(source.signal.name in self._repeated for source, finished in sources if not finished)

    def _say_what_follows(self) -> None:
        old = time.monotonic() - self._last
        if any(source.live for source in self.session.sources):
            then = "keeps every line of the output, and continues without the samples since then"
        else:
            then = "reads the recordings again from there, and writes no line twice"
        self.say(f"warning: the last state is {old:.0f} s old; the next start {then}")

    def _is_new(self, item: Item) -> bool:
        left = self._repeated.pop(item.source, 0)
        if left > 1:
            self._repeated[item.source] = left - 1
        return not left

    def _line(self, item: Item) -> str:
        entry = item.to_json()
        if not self.timing:
            entry.pop("timing", None)
        return json.dumps(entry, ensure_ascii=False)
