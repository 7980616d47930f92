"""A source of samples, what it says of its signal, and the pieces that it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SignalSpec:
    """The leads of a source in order, its rate in Hz, and one unit for all leads or one per lead."""

    leads: Sequence[str]
    rate: float = 500.0
    unit: str | Sequence[str] = "mV"
    name: str = "ecg"

    def identity(self) -> dict[str, Any]:
        """The values that must not differ if a saved state of the source is to fit."""
        return {"source": self.name, "leads": list(self.leads), "rate": self.rate}


@dataclass(frozen=True)
class Samples:
    """Samples (n, leads) float64, NaN without a value; ``arrived`` is the time for live sources."""

    values: NDArray[np.float64]
    arrived: float | None = None

    @property
    def count(self) -> int:
        return len(self.values)


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
    count: ClassVar[int] = 0


Piece = Samples | Missing | Note


class Source(ABC):
    """A source of samples, read in pieces by one thread at a time.

    A ``live`` source receives its samples from a device, which cannot send them again. A source that
    ``waits`` is live, or a file that another program writes: it may have no samples now, and some later. A
    source that has ``ended`` has no further samples.
    ``length`` is the number of samples of a recording, or None if it is unknown before the end. ``gaps`` are
    the samples from a start to a stop, in order, that were not recorded, or None if they are unknown before
    the end; a source that knows them can :meth:`seek`. ``Position``
    is a dataclass, whose fields a state file has. ``continues`` is False after loading a state if it is
    unknown how long the source was away since then. ``share`` is the part of a processor that a live source
    may take, so that none takes it from the others.
    ``notes`` say what was concluded of the signal.
    """

    Position: ClassVar[type[Any]]
    signal: SignalSpec
    live = False
    waits = False
    ended = False
    continues = True
    share = 0.5
    length: int | None = None
    gaps: Sequence[tuple[int, int]] | None = None
    notes: Sequence[str] = ()

    @abstractmethod
    def read(self, count: int) -> list[Piece]:
        """The next ``count`` samples, or fewer at the end. A source that waits returns what is there."""

    @abstractmethod
    def save(self) -> Any:
        """The position after the samples that were read."""

    @abstractmethod
    def load(self, saved: Any) -> None:
        """Continue from the position of :meth:`save`. Raises StateError."""

    def seek(self, sample: int) -> None:
        """Read from number ``sample`` on; only for sources that know their gaps."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """The values that must not differ if a saved state is to fit."""
        return self.signal.identity() | {"unit": self.signal.unit}

    def has(self, count: int) -> bool:
        """Whether :meth:`read` would return ``count`` samples at once, or the source has ended."""
        return True

    def expect(self, count: int, wake: Callable[[], None]) -> None:
        """Call ``wake``, in any thread, when ``count`` samples are there or the source has ended."""
        wake()

    def skip(self, seconds: float) -> list[Piece]:
        """What to read for samples of a live source that are lost, after :meth:`load`."""
        return []

    def close(self) -> None:  # noqa: B027, most recordings need not be closed
        """Close files, sockets and threads."""


@dataclass(frozen=True)
class Format:
    """Rate in Hz, unit and leads from the user, for sources that do not name them.

    ``reconnect`` is the time in seconds that a device at an address may be away. ``follow``: text files are
    still being written. ``wanted`` are the leads that are asked for, for recordings with several rates.
    """

    rate: float | None = None
    unit: str | None = None
    leads: Sequence[str] | None = None
    reconnect: float = 0.0
    follow: bool = False
    wanted: Sequence[str] = ()
