"""The interface of a source of samples, and the pieces that it returns."""

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
    """Samples (n, leads) float64, NaN without a value; ``arrived`` is the time for live sources."""

    values: NDArray[np.float64]
    arrived: float | None = None


@dataclass(frozen=True)
class Missing:
    """``count`` samples that never arrived."""

    count: int


@dataclass(frozen=True)
class Note:
    """An event at this point of the record. After a ``fault`` the source has no further samples."""

    kind: str
    details: dict[str, Any] = field(default_factory=dict)
    fault: bool = False


Piece = Samples | Missing | Note


class Source(Protocol):
    """A source of samples, read in pieces by one thread at a time.

    A ``live`` source receives its samples from a device. A source that has ``ended`` has no further samples.
    ``length`` is the number of samples of a recording, or None if it is unknown before the end.
    """

    signal: SignalSpec
    live: bool
    ended: bool
    length: int | None

    def read(self, count: int) -> list[Piece]:
        """The next ``count`` samples, or fewer at the end. A live source never waits for samples."""

    def expect(self, count: int, wake: Callable[[], None]) -> None:
        """Call ``wake``, in any thread, when ``count`` samples are there or the source has ended."""

    def identity(self) -> dict[str, Any]:
        """The values that must not differ if a saved state is to fit."""

    def save(self) -> dict[str, Any]:
        """The position after the samples that were read."""

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from the position of :meth:`save`."""

    def close(self) -> None:
        """Close files, sockets and threads."""


@dataclass(frozen=True)
class Format:
    """Rate in Hz, unit and leads from the user, for sources that do not name them.

    ``reconnect`` is the time in seconds that a device at an address may be away.
    """

    rate: float | None = None
    unit: str | None = None
    leads: Sequence[str] | None = None
    reconnect: float = 0.0


def require(module: str, purpose: str) -> None:
    """Raise MissingExtraError unless a module of the ecg extra is installed."""
    if find_spec(module) is None:
        raise MissingExtraError(module, "ecg", purpose)
