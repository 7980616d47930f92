"""A run: write a session's lines, and save checkpoints so that a killed run can continue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from multires_edge.base.errors import OutputError, StateError
from multires_edge.format.fields import FieldError, Name, Natural, plain, read_fields
from multires_edge.runtime.ecg.output import Output
from multires_edge.runtime.ecg.session import Item, Session, SessionState
from multires_edge.runtime.ecg.state_file import StateFile


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


@dataclass
class Checkpointer:
    """Runs a session, writes its lines, and saves a checkpoint every ``seconds``.

    ``options`` are those of the run, which a saved state must have. ``alive`` is called in every round.
    """

    session: Session
    output: Output
    state_file: StateFile | None
    options: dict[str, Any]
    seconds: float
    timing: bool
    say: Callable[[str], None]
    alive: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._failing = False

    def run(self) -> bool:
        """Run to the end, or until stopped. Returns whether there was no fault."""
        saved = time.monotonic()
        for items in self.session.run():
            self.alive()
            self.output.write([self._line(item) for item in items])
            now = time.monotonic()
            if self.state_file is not None and now - saved >= self.seconds:
                self.checkpoint()
                saved = time.monotonic()
        if self.state_file is not None:
            self.checkpoint()
        return not (self.session.faults or self._failing)

    def checkpoint(self, *, must: bool = False) -> None:
        """Sync the output, then save the state with the length of the output.

        If that fails, ``must`` raises OutputError; otherwise the next checkpoint tries again.
        """
        assert self.state_file is not None
        offset = self.output.checkpoint()
        try:
            self.state_file.write(plain(Checkpoint(self.options, offset, self.session.save())))
        except OutputError as error:
            # Decisions matter more than the checkpoint, and the checkpoint before is still complete.
            if must:
                raise
            if not self._failing:
                self.say(f"warning: {error}; decisions continue without a new checkpoint")
            self._failing = True
        else:
            self._failing = False

    def _line(self, item: Item) -> str:
        entry = item.to_json()
        if not self.timing:
            entry.pop("timing", None)
        return json.dumps(entry, ensure_ascii=False)
