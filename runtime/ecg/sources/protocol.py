"""What a source of samples is, and the pieces that it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import MissingExtraError
from multires_edge.runtime.ecg.signal import SignalSpec


@dataclass(frozen=True)
class Samples:
    """Samples (n, leads) float64, NaN where there is no value; ``arrived`` of a live source."""

    values: NDArray[np.float64]
    arrived: float | None = None


@dataclass(frozen=True)
class Missing:
    """So many samples that never came."""

    count: int


@dataclass(frozen=True)
class Note:
    """An event at this point of the record. A ``fault`` is one that the source does not recover from."""

    kind: str
    details: dict[str, Any] = field(default_factory=dict)
    fault: bool = False


Piece = Samples | Missing | Note


class Source(Protocol):
    """A source of samples, read piece by piece from where it stands. One thread at a time.

    The samples of a ``live`` source come when they come; one that has ``ended`` has nothing left to read.
    """

    signal: SignalSpec
    live: bool
    ended: bool
    length: int | None  # in samples; None where only the end tells it

    def read(self, count: int) -> list[Piece]:
        """The next ``count`` samples, fewer at the end; of a live source what has come, without waiting."""

    def expect(self, count: int, wake: Callable[[], None]) -> None:
        """Have ``wake`` called, on any thread, once ``count`` samples are there or no more will come."""

    def identity(self) -> dict[str, Any]:
        """What must be the same for a saved state to fit."""

    def save(self) -> dict[str, Any]:
        """Where it stands, after what has been read."""

    def load(self, saved: dict[str, Any]) -> None:
        """Stand there again."""

    def close(self) -> None:
        """Let go of files, sockets and threads."""


@dataclass(frozen=True)
class Format:
    """What a user says of sources that do not say it themselves: rate in Hz, unit and leads of text.

    ``reconnect``: seconds that a device at an address may be away.
    """

    rate: float | None = None
    unit: str | None = None
    leads: Sequence[str] | None = None
    reconnect: float = 0.0


def require(module: str, purpose: str) -> None:
    """Raise MissingExtraError unless a library of the ecg extra is there."""
    if find_spec(module) is None:
        raise MissingExtraError(module, "ecg", purpose)
