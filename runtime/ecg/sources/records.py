"""Recordings in files, read in pieces of any length."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, StateError, require_extra
from multires_edge.format.arrays import read_arrays
from multires_edge.format.card import is_voltage
from multires_edge.format.fields import Natural
from multires_edge.runtime.ecg.sources.protocol import Format, Note, Piece, Samples, SignalSpec, Source

# Samples per read: opening the file for each decision would take longer than the decision.
_READ_AHEAD = 1 << 15


@dataclass(frozen=True)
class Record:
    """A recording of ``length`` samples. ``problem`` is a fault that does not prevent reading.

    ``read`` returns the samples (stop - start, leads) from ``start`` to ``stop``. It raises any exception if
    they cannot be read.
    """

    signal: SignalSpec
    length: int
    read: Callable[[int, int], NDArray[np.float64]]
    problem: str | None = None


@dataclass(frozen=True)
class RecordPosition:
    """The number of samples that were read."""

    position: Natural
    ended: bool


class RecordSource(Source):
    """A recording as a source. If the file is damaged, it ends there with a fault."""

    Position = RecordPosition

    def __init__(self, record: Record) -> None:
        self.signal = record.signal
        self.length: int = record.length
        self._record = record
        self._position = 0
        self._buffer: NDArray[np.float64] = np.empty((0, len(self.signal.leads)))

    def read(self, count: int) -> list[Piece]:
        if self.ended:
            return []
        pieces: list[Piece] = []
        broken: Exception | None = None
        if len(self._buffer) < count:
            start = self._position + len(self._buffer)
            stop = min(start + max(count, _READ_AHEAD), self.length)
            more, broken = self._readable(start, stop)
            self._buffer = np.concatenate([self._buffer, more])
        values, self._buffer = self._buffer[:count], self._buffer[count:]
        self._position += len(values)
        if len(values):
            pieces.append(Samples(values))
        if broken is not None and not len(self._buffer):
            self.ended = True
            read = f"of {self.length} samples, {self._position} can be read ({_reason(broken)[:200]})"
            pieces.append(Note("truncated", {"message": read}, fault=True))
        elif self._position >= self.length:
            self.ended = True
            if self._record.problem:
                pieces.append(Note("truncated", {"message": self._record.problem}, fault=True))
        return pieces

    def _readable(self, start: int, stop: int) -> tuple[NDArray[np.float64], Exception | None]:
        """The samples up to ``stop``, or up to the damage and its error."""
        try:
            return self._read(start, stop), None
        except Exception as error:
            # A damaged file can raise any exception. Bisection finds the last good sample.
            good, bad, reason = start, stop, error
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                self._read(start, middle)
                good = middle
            except Exception:
                bad = middle
        return (self._read(start, good) if good > start else self._buffer[:0]), reason

    def _read(self, start: int, stop: int) -> NDArray[np.float64]:
        if stop <= start:
            return self._buffer[:0]
        values = self._record.read(start, stop)
        if values.shape != (stop - start, len(self.signal.leads)):
            raise ValueError(f"{values.shape[0]} samples, expected {stop - start}")
        return values

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


def open_wfdb(path: Path) -> Record:
    """A PhysioNet record, by its path without suffix."""
    require_extra("ecg", "reading WFDB recordings", "wfdb")
    import wfdb

    name = str(path)
    whole: NDArray[np.float64] | None = None
    with _refused(f"{path}: not a WFDB record"):
        _check_ascii(path)
        header = wfdb.rdheader(name)
        if isinstance(header, wfdb.MultiRecord):
            header = wfdb.rdrecord(name, sampto=1)
        # A header may omit the length. wfdb then has to read the whole record.
        if not header.sig_len:
            header = wfdb.rdrecord(name)
            whole = np.asarray(header.p_signal, np.float64)
        length = int(wfdb.rdheader(name).sig_len or header.sig_len)
        leads, units = [str(x) for x in header.sig_name], [str(x) for x in header.units]
        signal = SignalSpec(leads, float(header.fs), units, name)

    def read(start: int, stop: int) -> NDArray[np.float64]:
        if whole is not None:
            return whole[start:stop]
        return np.asarray(wfdb.rdrecord(name, sampfrom=start, sampto=stop).p_signal, np.float64)

    return Record(signal, length, read)


def open_edf(path: Path) -> Record:
    """A continuous EDF or EDF+ file: its signals in volts that have the rate of the first one."""
    require_extra("ecg", "reading EDF recordings", "edfio")
    import edfio

    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with _refused(f"{path}: not an EDF file"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        edf = edfio.read_edf(path, lazy_load_data=True)
        continuous = edf.is_continuous
    if not continuous:
        raise DataError(f"{path}: is discontinuous (EDF+D), expected EDF+C; convert it")
    signals = [signal for signal in edf.signals if is_voltage(signal.physical_dimension)]
    signals = [each for each in signals if each.sampling_frequency == signals[0].sampling_frequency]
    if not signals:
        raise DataError(f"{path}: has no signal in uV, mV or V")
    rate = float(signals[0].sampling_frequency)
    leads, units = [each.label for each in signals], [each.physical_dimension for each in signals]
    texts = [str(warning.message) for warning in caught]
    broken = [text for text in texts if "truncated" in text or "header" in text]

    def read(start: int, stop: int) -> NDArray[np.float64]:
        return np.stack([each.get_data_slice(start / rate, stop / rate) for each in signals], 1)

    length = int(edf.num_data_records) * int(signals[0].samples_per_data_record)
    return Record(SignalSpec(leads, rate, units, str(path)), length, read, " ".join(broken) or None)


def open_npz(path: Path, given: Format) -> Record:
    """An .npz file with ``samples`` (n, leads), ``leads``, ``rate`` in Hz and ``unit``, read as a whole."""
    arrays = read_arrays(path)
    try:
        samples = arrays["samples"]
        leads = [str(x) for x in arrays["leads"].flat] if "leads" in arrays else list(given.leads or ())
        rate = float(arrays["rate"]) if "rate" in arrays else given.rate
        unit = str(arrays["unit"]) if "unit" in arrays else given.unit
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: has {sorted(arrays)}, expected samples (n, leads), leads, rate and unit"
        ) from error
    if samples.ndim != 2 or samples.dtype.kind not in "fiu" or samples.shape[1] != len(leads):
        raise DataError(
            f"{path}: samples are {samples.dtype} {samples.shape}, expected numbers (n, leads) with "
            f"{len(leads)} leads"
        )
    if rate is None or unit is None:
        raise DataError(f"{path}: has no {'rate' if rate is None else 'unit'}; give --rate and --unit")
    signal = SignalSpec(leads, rate, unit, str(path))
    return Record(signal, len(samples), lambda start, stop: np.asarray(samples[start:stop], np.float64))


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    """Raise what a library raises, which can be any exception, as a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{what}, or damaged ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def segments_of(header: Path) -> list[str]:
    """The names of the segments of a multi-segment WFDB record; empty for other files."""
    if header.suffix.casefold() != ".hea" or not header.is_file():
        return []
    lines = [line.split() for line in header.read_text("latin-1").splitlines() if not line.startswith("#")]
    lines = [words for words in lines if words]
    return [words[0] for words in lines[1:]] if lines and "/" in lines[0][0] else []


def _check_ascii(path: Path) -> None:
    """wfdb drops characters that are not ASCII: it would read a microvolt with a mu as a volt."""
    header = Path(f"{path}.hea")
    for line in header.read_bytes().splitlines():
        if not line.isascii() and not line.startswith(b"#"):
            raise DataError(f"{header}: {line.decode('utf-8', 'replace')!r} is not ASCII; write uV for µV")
