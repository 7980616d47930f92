"""WFDB records: single, in parts of a fixed or a variable layout, and with several rates."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from multires_edge.format.card import is_voltage, volts_per
from multires_edge.runtime.ecg.lead_names import listed, shown
from multires_edge.runtime.ecg.sources.protocol import Format, SignalSpec
from multires_edge.runtime.ecg.sources.recordings.differences import Differences
from multires_edge.runtime.ecg.sources.recordings.frames import ENCODINGS, FrameFile, one_or_each
from multires_edge.runtime.ecg.sources.recordings.record import (
    Channel,
    Damaged,
    Record,
    Values,
    choose,
    refused,
)
from multires_edge.runtime.ecg.sources.recordings.wfdb_header import (
    DEFAULT_GAIN,
    DEFAULT_RATE,
    NO_FILE,
    Header,
    read_header,
)
from multires_edge.runtime.ecg.sources.recordings.wfdb_library import NeedsLibrary, open_by_library

_HEADERS_KEPT = 8


def open_wfdb(path: Path, given: Format) -> Record:
    """A PhysioNet record, by its path without suffix. Raises DataError."""
    with refused(f"{path}: not a WFDB record"):
        header = read_header(Path(f"{path}.hea"))
        try:
            record = _Parts(path, header) if header.segments else _Single(path, header)
        except NeedsLibrary:
            return open_by_library(path, header)
        return _opened(path, record, given)


def segments_of(path: Path) -> list[str]:
    """The names of the segments of a record in parts, by its header; empty for other files."""
    if path.suffix.casefold() != ".hea" or not path.is_file():
        return []
    try:
        return [name for name, _ in read_header(path).segments if name != NO_FILE]
    except (OSError, ValueError):
        return []  # refused when it is opened


def files_of(path: Path) -> list[Path]:
    """The files of the recording at ``path``: those that a WFDB header names, and those of its segments.

    The file itself for recordings of other formats. Raises OSError.
    """
    if path.suffix.casefold() != ".hea":
        return [path]
    try:
        header = read_header(path)
    except ValueError:
        return [path]  # refused when it is opened
    names = [each.file for each in header.signals if each.file != NO_FILE]
    segments = [path.parent / f"{name}.hea" for name, _ in header.segments if name != NO_FILE]
    files = [path.parent / name for name in dict.fromkeys(names)]
    return [path, *files, *(file for segment in dict.fromkeys(segments) for file in files_of(segment))]


def _opened(path: Path, record: _Single | _Parts, given: Format) -> Record:
    rate = record.header.rate or DEFAULT_RATE
    channels = [
        Channel(each.name, rate * each.size, each.unit, "" if is_voltage(each.unit) else "no voltage")
        for each in record.signals
    ]
    chosen, notes = choose(channels, given, str(path))
    if not record.header.rate:
        notes.append(f"the header has no rate; it is {DEFAULT_RATE:g} Hz by the format's definition")
    if bare := [i for i in chosen if not record.signals[i].calibrated]:
        quoted = shown([each.name for each in record.signals])
        names = listed(quoted[i] for i in bare)
        notes.append(
            f"{names}: the header has no gain; it is {DEFAULT_GAIN:g} per mV by the format's definition"
        )
    size = record.signals[chosen[0]].size
    units = [record.signals[i].unit for i in chosen]
    signal = SignalSpec([record.signals[i].name for i in chosen], rate * size, units, str(path))

    def read(start: int, stop: int) -> Values:
        first, last = start // size, -(-stop // size)
        values = record.read(first, last, chosen)
        return values[start - first * size : stop - first * size]

    gaps = [(a * size, b * size) for a, b in record.gaps]
    return Record(signal, record.length * size, read, gaps=gaps, notes=notes)


class _Single:
    """A record whose signals lie in files of frames. ``length`` is in frames."""

    gaps: Sequence[tuple[int, int]] = ()

    def __init__(self, path: Path, header: Header) -> None:
        self.header, self.signals = header, header.signals
        self._skews = [each.skew for each in self.signals]
        self._files: dict[str, tuple[FrameFile | Differences, list[int]]] = {}
        for name in dict.fromkeys(each.file for each in self.signals if each.file != NO_FILE):
            those = [i for i, each in enumerate(self.signals) if each.file == name]
            first = self.signals[those[0]]
            if first.encoding not in ENCODINGS:
                raise NeedsLibrary(f"format {first.encoding}")
            if any(self.signals[i].encoding != first.encoding for i in those) or len(Path(name).parts) != 1:
                raise Damaged("a file of signals that is not in one format and in the folder of the header")
            sizes = [self.signals[i].size for i in those]
            file = FrameFile(path.parent / name, first.encoding, first.start, sizes)
            if not file.path.is_file():
                raise Damaged("a file of signals that the header names is missing")
            initial = [self.signals[i].initial for i in those]
            self._files[name] = Differences(file, initial) if first.encoding == "8" else file, those
        known = [file.length() for file, _ in self._files.values()]
        self.length = header.length or (min(known) if known else 0)

    def read(self, first: int, stop: int, chosen: Sequence[int]) -> Values:
        """The samples of signals of one rate in the frames from ``first`` to ``stop``."""
        size = self.signals[chosen[0]].size
        out = np.full(((stop - first) * size, len(chosen)), np.nan)
        for file, those in self._files.values():
            columns = [k for k, i in enumerate(chosen) if i in those]
            if not columns:
                continue
            # A signal with a skew lies so many frames later in the file.
            for skew in {self._skews[chosen[k]] for k in columns}:
                group = [k for k in columns if self._skews[chosen[k]] == skew]
                end = min(stop + skew, file.length(), self.length) if skew else stop
                if end <= first + skew:
                    continue
                values = file.read(first + skew, end, [those.index(chosen[k]) for k in group])
                values -= one_or_each([self.signals[chosen[k]].baseline for k in group])
                values /= one_or_each([self.signals[chosen[k]].gain for k in group])
                if values.shape == out.shape:
                    return values
                out[: len(values), group] = values
        return out


class _Parts:
    """A record in segments. Those of a variable layout have some of the signals that a first, empty segment
    names, in any order."""  # fmt: skip

    def __init__(self, path: Path, header: Header) -> None:
        self.header, self._folder = header, path.parent
        layout = header.segments[0][1] == 0 and header.segments[0][0] != NO_FILE
        named = [name for name, length in header.segments if name != NO_FILE and (length or layout)]
        if not named:
            raise Damaged("a record without segments")
        self._variable = layout
        if layout:
            self.signals = read_header(self._path(named[0], ".hea")).signals
        else:
            self.signals = self._segment(named[0]).signals
        self._segments = header.segments[layout:]
        ends = np.cumsum([length for _, length in self._segments])
        self._starts = [int(end) - length for end, (_, length) in zip(ends, self._segments, strict=True)]
        self.length = int(ends[-1]) if len(ends) else 0
        self.gaps = [
            (start, start + length)
            for start, (name, length) in zip(self._starts, self._segments, strict=True)
            if name == NO_FILE and length
        ]

    def _path(self, name: str, suffix: str = "") -> Path:
        if len(Path(name).parts) != 1:
            raise Damaged("a segment in another folder")
        return self._folder / f"{name}{suffix}"

    def _segment(self, name: str) -> _Single:
        return _segment(self._path(name))

    def read(self, first: int, stop: int, chosen: Sequence[int]) -> Values:
        size = self.signals[chosen[0]].size
        out = np.full(((stop - first) * size, len(chosen)), np.nan)
        for number in range(max(0, bisect_right(self._starts, first) - 1), len(self._segments)):
            name, length = self._segments[number]
            start = self._starts[number]
            a, b = max(first, start), min(stop, start + length)
            if start >= stop:
                break
            if name == NO_FILE or a >= b:
                continue
            part = self._segment(name)
            for k, i in enumerate(chosen):
                at = self._place(part, i)
                if at is None:
                    continue
                each = part.signals[at]
                if each.size != size:
                    raise Damaged("a segment with another number of samples in a frame")
                factor = volts_per(each.unit) / volts_per(self.signals[i].unit)
                values = part.read(a - start, b - start, [at])[:, 0]
                out[(a - first) * size : (b - first) * size, k] = values * factor
        return out

    def _place(self, part: _Single, signal: int) -> int | None:
        """The number of a signal in a segment."""
        if not self._variable:
            return signal if signal < len(part.signals) else None
        name = self.signals[signal].name
        return next((i for i, each in enumerate(part.signals) if each.name == name), None)


@lru_cache(maxsize=_HEADERS_KEPT)
def _segment(path: Path) -> _Single:
    return _Single(path, read_header(Path(f"{path}.hea")))
