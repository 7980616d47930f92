"""A recording, read in pieces of any length."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, MultiresError, StateError
from multires_edge.format.fields import Natural
from multires_edge.runtime.ecg.lead_names import is_ecg, listed, plain_names, shown
from multires_edge.runtime.ecg.sources.protocol import (
    Format,
    Missing,
    Note,
    Piece,
    Samples,
    SignalSpec,
    Source,
)

# Samples per read: opening the file for each decision would take longer than the decision.
_READ_AHEAD = 1 << 15
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Record:
    """A recording of ``length`` samples. ``problem`` is a fault that does not prevent reading.

    ``read`` returns the samples (stop - start, leads) from ``start`` to ``stop``. It raises any exception if
    they cannot be read. ``gaps`` are the samples from a start to a stop, in order, that were not recorded.
    ``notes`` say what was concluded or left out.
    """

    signal: SignalSpec
    length: int
    read: Callable[[int, int], Values]
    problem: str | None = None
    gaps: Sequence[tuple[int, int]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class RecordPosition:
    """The number of samples that were read."""

    position: Natural
    ended: bool


class RecordSource(Source):
    """A recording as a source. If the file is damaged, it ends there with a fault."""

    Position = RecordPosition

    def __init__(self, record: Record) -> None:
        self.signal, self.notes = record.signal, record.notes
        self.length: int = record.length
        self.gaps = record.gaps
        self._record = record
        self._position = 0
        self._buffer: Values = np.empty((0, len(self.signal.leads)))

    def read(self, count: int) -> list[Piece]:
        if self.ended:
            return []
        pieces: list[Piece] = []
        if (
            gap := next((gap for gap in self._record.gaps if gap[0] <= self._position < gap[1]), None)
        ) is not None:
            missing = gap[1] - self._position
            self._position = gap[1]
            pieces += [Note("gap", {"seconds": round(missing / self.signal.rate, 6)}), Missing(missing)]
        else:
            pieces += self._samples(count)
        if not self.ended and self._position >= self.length:
            self.ended = True
            if self._record.problem:
                pieces.append(Note("truncated", {"message": self._record.problem}, fault=True))
        return pieces

    def _samples(self, count: int) -> list[Piece]:
        """The next samples, up to a gap at most."""
        pieces: list[Piece] = []
        broken: Exception | None = None
        until = next((start for start, _ in self._record.gaps if start > self._position), self.length)
        if len(self._buffer) < count:
            start = self._position + len(self._buffer)
            stop = min(start + max(count, _READ_AHEAD), until)
            more, broken = self._readable(start, stop)
            self._buffer = np.concatenate([self._buffer, more])
        values, self._buffer = self._buffer[:count], self._buffer[count:]
        self._position += len(values)
        if len(values):
            pieces.append(Samples(values))
        if broken is not None and not len(self._buffer):
            self.ended = True
            read = f"of {self.length} samples, {self._position} can be read ({reason(broken)[:200]})"
            pieces.append(Note("truncated", {"message": read}, fault=True))
        return pieces

    def _readable(self, start: int, stop: int) -> tuple[Values, Exception | None]:
        """The samples up to ``stop``, or up to the damage and its error."""
        try:
            return self._read(start, stop), None
        except Exception as error:
            # A damaged file can raise any exception. Bisection finds the last good sample.
            good, bad, why = start, stop, error
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                self._read(start, middle)
                good = middle
            except Exception:
                bad = middle
        return (self._read(start, good) if good > start else self._buffer[:0]), why

    def _read(self, start: int, stop: int) -> Values:
        if stop <= start:
            return self._buffer[:0]
        values = self._record.read(start, stop)
        if values.shape != (stop - start, len(self.signal.leads)):
            raise ValueError(f"{values.shape[0]} samples, expected {stop - start}")
        return values

    def seek(self, sample: int) -> None:
        self.load(RecordPosition(sample, ended=False))

    def identity(self) -> dict[str, Any]:
        return self.signal.identity() | {"samples": self.length}

    def save(self) -> RecordPosition:
        return RecordPosition(self._position, self.ended)

    def load(self, saved: RecordPosition) -> None:
        if saved.position > self.length:
            raise StateError(
                f"{self.signal.name}: has {self.length} samples, but {saved.position} were read when the "
                "state was saved"
            )
        self._position, self.ended = saved.position, saved.ended
        self._buffer = self._buffer[:0]


@dataclass(frozen=True)
class Channel:
    """A signal of a recording, at ``rate`` Hz. ``fault`` says why it is not read, or is empty."""

    name: str
    rate: float
    unit: str
    fault: str = ""


def choose(channels: Sequence[Channel], given: Format, name: str) -> tuple[list[int], list[str]]:
    """The channels that are read, which have one rate; and notes on the others. Raises DataError.

    The rate is that of most leads that are wanted, then of most signals whose names are those of an ECG.
    """
    plain, wanted = plain_names([each.name for each in channels]), set(plain_names(list(given.wanted)))
    readable = [i for i, each in enumerate(channels) if not each.fault]
    quoted = shown([each.name for each in channels])
    faults = [each.fault for each in channels]
    notes = [
        f"{listed(quoted[i] for i, each in enumerate(faults) if each == fault)}: {fault}, not read"
        for fault in dict.fromkeys(filter(None, faults))
    ]
    if not readable:
        raise DataError(f"{name}: has no signal in uV, mV or V" + (f" ({notes[0]})" if notes else ""))
    rates = list(dict.fromkeys(channels[i].rate for i in readable))

    def worth(rate: float) -> tuple[int, int]:
        those = [i for i in readable if channels[i].rate == rate]
        return sum(plain[i] in wanted for i in those), sum(is_ecg(channels[i].name) for i in those)

    best = max(rates, key=worth)
    if others := [i for i in readable if channels[i].rate != best]:
        names = listed(f"{quoted[i]} ({channels[i].rate:g} Hz)" for i in others)
        notes.append(f"{names}: not at {best:g} Hz, not read")
    return [i for i in readable if channels[i].rate == best], notes


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Refuse a recording that is not there, or is not of a kind such as "an ISHNE file". Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with refused(f"{path}: not {kind}"):
        yield


@contextlib.contextmanager
def refused(what: str) -> Iterator[None]:
    """Raise what a damaged file or a library raises, which can be any exception, as a DataError."""
    try:
        yield
    except MultiresError:
        raise
    except MemoryError as error:
        raise DataError(f"{what}, or damaged (it needs more memory than there is)") from error
    except Exception as error:
        raise DataError(f"{what}, or damaged ({reason(error)})") from error


def reason(error: Exception) -> str:
    """What is wrong, in words of this package: the text of other errors may quote the file."""
    if isinstance(error, Damaged):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__


class Damaged(ValueError):
    """A fault of a file, in words that quote nothing of it but numbers."""
