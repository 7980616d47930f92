"""What a sink is, and what it gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multires_edge.base.errors import MultiresError


@dataclass(frozen=True)
class Line:
    """A line of output: its ``text`` without a line end, and the same as an ``entry``.

    ``id`` is the same whenever the line is sent again, in this process or a later one, and in no other line.
    ``at`` is the time of day at which the newest sample was measured, in UTC as ISO 8601; None if unknown.
    """

    id: str
    text: str
    entry: Mapping[str, Any]
    at: str | None = None

    @property
    def with_id(self) -> str:
        """The text with the id as the first field of its object."""
        return f'{{"id": "{self.id}", {self.text[1:]}'


@dataclass(frozen=True)
class About:
    """The run that lines come from: its sources with their rates in Hz, the labels, and the names of model
    and program."""  # fmt: skip

    sources: Mapping[str, float]
    labels: Sequence[str]
    interval: float = 0.5  # seconds of record between decisions
    model: str = ""
    program: str = "multires-edge"


class DeliveryError(MultiresError):
    """A receiver that is away or takes nothing now. The lines are sent again.

    ``wait`` is the time in seconds that the receiver asked for.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class RefusedLinesError(DeliveryError):
    """A receiver that will never take these lines. They are sent one by one, and those refused are counted
    and left out."""  # fmt: skip


class Sink(ABC):
    """Sends lines to a receiver. Each sink has a thread of its own, which calls all methods but the first.

    ``most`` lines are sent at once. If ``settled``, the sink gets a line only after the output has it on the
    disk: no later run makes another line in its place.
    """

    most = 100
    settled = False

    def load(self, saved: str | None) -> None:  # noqa: B027, most sinks have no state
        """Continue after the lines of :meth:`save`; None for a sink that starts.

        Raises InputError for what is not of :meth:`save`: the sink then starts.
        """

    @abstractmethod
    def send(self, lines: Sequence[Line]) -> None:
        """Send lines. The receiver has them when this returns.

        Raises DeliveryError or OSError to be called again, later, with the same lines. Raises
        RefusedLinesError for lines that are never taken. It should not wait for more than some seconds.
        """

    def save(self) -> str:
        """What :meth:`load` needs after the lines that were sent."""
        return ""

    def close(self) -> None:  # noqa: B027, not every sink has a connection
        """Close connections and files."""
