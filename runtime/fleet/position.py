"""Where in the log a decision can be made again: a header of the message with the decision."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated

from multires_edge.base.errors import StateError
from multires_edge.format.fields import Between, FieldError, Pattern, parse_json, read_fields

HEADER = "Multires-Replay"
_LONGEST = 16_384

Count = Annotated[int, Between(0, 2**64 - 1)]
Seconds = Annotated[float, Between(-1, 1e12)]


@dataclass(frozen=True)
class Position:
    """A patient's place in the log after a message with decisions or events.

    A stream of the ``recording`` that starts with ``sample``, which is in the message ``sequence``, makes the
    next decisions again, with the ``carry`` of the last decision in hexadecimal. ``origin`` is the sample
    that the record started over with. ``decided`` and ``told`` are the times of the last decision and event
    in seconds of the record, -1 without one. ``bundle`` is the digest of the bundle that decided.
    """

    recording: Count
    origin: Count
    sample: Count
    sequence: Count
    decided: Seconds
    told: Seconds
    bundle: Annotated[str, Pattern("[0-9a-f]{64}", "a SHA-256")]
    carry: Annotated[str, Pattern("[0-9a-f]*", "hexadecimal digits")] = ""

    def to_header(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_header(cls, text: str) -> Position:
        """Raises StateError."""
        try:
            if len(text) > _LONGEST:
                raise FieldError(f"it has {len(text)} characters, expected at most {_LONGEST}")
            return read_fields(cls, parse_json(text))
        except (ValueError, RecursionError) as error:
            raise StateError(f"the header {HEADER} cannot be read: {error}") from error

    def is_after(self, other: Position) -> bool:
        """Whether a message with this position says something that one with the ``other`` did not."""
        if self.recording != other.recording:
            return self.recording > other.recording
        return self.decided > other.decided or self.told > other.told
