"""Recordings in files, read in pieces of any length."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, StateError
from multires_edge.format.arrays import read_arrays
from multires_edge.format.fields import Natural, plain, read_fields
from multires_edge.runtime.ecg.leads import volts_per
from multires_edge.runtime.ecg.signal import SignalSpec
from multires_edge.runtime.ecg.sources.protocol import Format, Note, Piece, Samples, require

# Samples per read: opening the file for each decision would take longer than the decision.
_READ_AHEAD = 1 << 15


class Record(Protocol):
    """A recording of ``length`` samples. ``problem`` is a fault that does not prevent reading."""

    signal: SignalSpec
    length: int
    problem: str | None

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Samples (stop - start, leads). Raises any exception if they cannot be read."""


@dataclass(frozen=True)
class _RecordState:
    position: Natural
    ended: bool


class RecordSource:
    """A recording as a source. If the file is damaged, it ends there with a fault."""

    live = False

    def __init__(self, record: Record) -> None:
        self.signal = record.signal
        self.length: int | None = record.length
        self.ended = False
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
            stop = min(start + max(count, _READ_AHEAD), self._record.length)
            more, broken = self._readable(start, stop)
            self._buffer = np.concatenate([self._buffer, more])
        values, self._buffer = self._buffer[:count], self._buffer[count:]
        self._position += len(values)
        if len(values):
            pieces.append(Samples(values))
        if broken is not None and not len(self._buffer):
            reason = " ".join(str(broken).split())[:200] or type(broken).__name__
            pieces.append(
                self._truncated(f"of {self._record.length} samples, {self._position} can be read ({reason})")
            )
            self.ended = True
        elif self._position >= self._record.length:
            if self._record.problem:
                pieces.append(self._truncated(self._record.problem))
            self.ended = True
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

    def _truncated(self, message: str) -> Note:
        return Note("truncated", {"message": message}, fault=True)

    def expect(self, count: int, wake: Callable[[], None]) -> None:
        wake()

    def identity(self) -> dict[str, Any]:
        return self.signal.identity() | {"samples": self._record.length}

    def save(self) -> dict[str, Any]:
        state: dict[str, Any] = plain(_RecordState(self._position, self.ended))
        return state

    def load(self, saved: dict[str, Any]) -> None:
        state = read_fields(_RecordState, saved)
        if state.position > self._record.length:
            raise StateError(
                f"{self.signal.name}: has {self._record.length} samples, but {state.position} were read when "
                "the state was saved"
            )
        self._position, self.ended = state.position, state.ended
        self._buffer = self._buffer[:0]

    def close(self) -> None:
        pass


class WfdbRecord:
    """A PhysioNet record, by its path without suffix."""

    def __init__(self, path: Path) -> None:
        require("wfdb", "reading WFDB recordings")
        import wfdb

        self._path = str(path)
        self._rdrecord = wfdb.rdrecord
        self.problem: str | None = None
        try:
            _check_ascii(path)
            header = wfdb.rdheader(self._path)
            if isinstance(header, wfdb.MultiRecord):
                header = wfdb.rdrecord(self._path, sampto=1)
            # A header may omit the length. wfdb then has to read the whole record.
            self._whole: NDArray[np.float64] | None = None
            if not header.sig_len:
                header = wfdb.rdrecord(self._path)
                self._whole = np.asarray(header.p_signal, np.float64)
            length = int(wfdb.rdheader(self._path).sig_len or header.sig_len)
            names, units = [str(x) for x in header.sig_name], [str(x) for x in header.units]
            self.signal = SignalSpec(names, float(header.fs), units, str(path))
        except DataError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path}: not a WFDB record, or damaged ({reason})") from error
        self.length = length

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        if self._whole is not None:
            return self._whole[start:stop]
        record = self._rdrecord(self._path, sampfrom=start, sampto=stop)
        return np.asarray(record.p_signal, np.float64)


class EdfRecord:
    """A continuous EDF or EDF+ file: its signals in volts that have the rate of the first one."""

    def __init__(self, path: Path) -> None:
        require("edfio", "reading EDF recordings")
        import edfio

        if not path.is_file():
            raise DataError(f"{path}: no such file")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                edf = edfio.read_edf(path, lazy_load_data=True)
                continuous = edf.is_continuous
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path}: not an EDF file, or damaged ({reason})") from error
        if not continuous:
            raise DataError(f"{path}: is discontinuous (EDF+D), expected EDF+C; convert it")
        signals = [signal for signal in edf.signals if _in_volts(signal.physical_dimension)]
        self._signals = [s for s in signals if s.sampling_frequency == signals[0].sampling_frequency]
        if not self._signals:
            raise DataError(f"{path}: has no signal in uV, mV or V")
        rate = float(self._signals[0].sampling_frequency)
        names = [signal.label for signal in self._signals]
        units = [signal.physical_dimension for signal in self._signals]
        self.signal = SignalSpec(names, rate, units, str(path))
        self.length = int(edf.num_data_records) * int(self._signals[0].samples_per_data_record)
        broken = [
            str(w.message) for w in caught if "truncated" in str(w.message) or "header" in str(w.message)
        ]
        self.problem = " ".join(broken) or None

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        rate = self.signal.rate
        return np.stack([s.get_data_slice(start / rate, stop / rate) for s in self._signals], 1)


class NpzRecord:
    """An .npz file with ``samples`` (n, leads), ``leads``, ``rate`` in Hz and ``unit``, read as a whole."""

    def __init__(self, path: Path, given: Format) -> None:
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
        self._samples = samples
        self.signal = SignalSpec(leads, rate, unit, str(path))
        self.length = len(samples)
        self.problem: str | None = None

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        return np.asarray(self._samples[start:stop], np.float64)


def _in_volts(unit: str) -> bool:
    try:
        return volts_per(unit) > 0
    except DataError:
        return False


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
