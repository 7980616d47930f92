"""What has to be known of a recording before it can be cut: its length, and where a stream starts over in it.

Everything else that a decision depends on lies in the samples before it. A recording whose file says where it
has gaps is not read for this, except after long ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multires_edge.base.errors import DataError
from multires_edge.base.files import sha256_of
from multires_edge.format.fields import Name, Natural, digest_of, plain
from multires_edge.runtime.ecg.frontend import FrontEnd
from multires_edge.runtime.ecg.sources.protocol import Missing, Note, Samples, Source
from multires_edge.runtime.ecg.sources.recordings.wfdb_record import files_of

READ_AT_ONCE = 1 << 14
# Seconds between the places of a file that is read in order at which a piece can begin to read.
_PLACES_EVERY = 300.0


@dataclass(frozen=True)
class Segment:
    """The samples from a start of the stream to its stop, or to the end of the recording (None)."""

    origin: Natural
    stop: Natural | None


@dataclass(frozen=True)
class Survey:
    """Of a recording: ``length`` samples at ``rate`` Hz, and its ``segments``.

    ``replay``, ``longest_gap`` and ``first_decision`` are numbers of samples: after which a stream has
    forgotten its start (None: never), which end a segment at most, and until the first decision.
    ``places`` are numbers of samples, and the positions of the source that a piece loads to read from there;
    none if the source can seek.
    """

    rate: float
    length: Natural
    replay: Natural | None
    longest_gap: Natural
    first_decision: Natural
    segments: tuple[Segment, ...]
    places: tuple[tuple[Natural, dict[Name, Any]], ...]


class Scout(FrontEnd):
    """A front end that converts nothing: it finds where a stream stops and starts over."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.segments: list[Segment] = [Segment(0, None)]

    def needs_values(self) -> bool:
        """Whether the next samples matter, and not only their number."""
        return self._stopped or self._silence.watches

    @property
    def longest_gap(self) -> int:
        """After so many samples, a stream that starts in a gap stops where one stops that has run before."""
        return self._silence.longest + math.ceil(self._spikes.memory * self.rate)

    def count(self, samples: int) -> None:
        """Take samples whose values do not matter."""
        if samples and self._lost:
            self._fill(self._lost, None)
        self._index += samples

    def _wait(self, x: Any, came: bool, arrived: float | None) -> None:
        self._index += len(x)

    def _emit_silent(self, arrived: float | None, index: int) -> None:
        pass

    def _stop(self, arrived: float | None) -> None:
        super()._stop(arrived)
        self.ready.clear()
        self._notes.clear()

    def _pause(self) -> None:
        self.segments[-1] = Segment(self.segments[-1].origin, self._index)
        super()._pause()

    def _start_over(self) -> None:
        super()._start_over()
        self.segments.append(Segment(self._index, None))


def make_survey(source: Source, scout: Scout, replay: int | None, every: int) -> Survey:
    """Survey a recording that was opened; its decisions are ``every`` so many steps. Raises DataError."""
    places: list[tuple[int, Any]] = []
    if source.gaps is not None and source.length is not None and not scout.needs_values():
        _skip_to_gaps(source, source.gaps, scout)
        length = source.length
    else:
        places = _read(source, scout)
        length = scout.received
    if not length:
        raise DataError(f"{source.signal.name}: has no samples")
    first = math.ceil(scout.samples(every) + scout.delay * scout.rate) + 2
    places = [] if source.gaps is not None else places
    segments = tuple(scout.segments)
    return Survey(scout.rate, length, replay, scout.longest_gap, first, segments, tuple(places))


def _skip_to_gaps(source: Source, gaps: Any, scout: Scout) -> None:
    """Read what follows the gaps after which a stream starts over, and count the rest."""
    assert source.length is not None
    at = 0
    for start, stop in gaps:
        if stop <= at:
            continue
        scout.count(max(0, start - at))
        scout.add_missing(stop - max(at, start))
        at = stop
        if scout.needs_values():
            source.seek(at)
            for piece in pieces_of(source):
                if isinstance(piece, Samples):
                    scout.add_mapped(scout.leads(piece.values))
                else:
                    scout.add_missing(piece.count)
                at += piece.count
                if not scout.needs_values():
                    break
    scout.count(source.length - at)


def _read(source: Source, scout: Scout) -> list[tuple[int, Any]]:
    """Read a recording to its end. Returns places where reading can begin."""
    places: list[tuple[int, Any]] = []
    due = 0.0
    while not source.ended:
        if scout.received >= due:
            places.append((scout.received, plain(source.save())))
            due = scout.received + _PLACES_EVERY * scout.rate
        for piece in checked(source, source.read(READ_AT_ONCE)):
            if isinstance(piece, Missing):
                scout.add_missing(piece.count)
            elif scout.needs_values():
                scout.add_mapped(scout.leads(piece.values))
            else:
                scout.count(piece.count)
    return places


def pieces_of(source: Source) -> Iterator[Samples | Missing]:
    """The rest of a recording. Raises DataError if it is damaged."""
    while not source.ended:
        yield from checked(source, source.read(READ_AT_ONCE))


def checked(source: Source, pieces: Any) -> Iterator[Samples | Missing]:
    """Samples and gaps without events. Raises DataError for a fault."""
    for piece in pieces:
        if not isinstance(piece, Note):
            yield piece
        elif piece.fault:
            raise DataError(f"{source.signal.name}: {piece.kind} ({piece.details['message']})")


def digest_of_record(path: Path) -> str:
    """A digest of the content and names of a recording's files. Raises DataError."""
    try:
        return digest_of({str(i): [each.name, sha256_of(each)] for i, each in enumerate(files_of(path))})
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def stamp_of(path: Path) -> list[tuple[int, int]]:
    """Sizes and times of a recording's files, by which a change is noticed. Raises DataError."""
    try:
        return [(each.stat().st_size, each.stat().st_mtime_ns) for each in files_of(path)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
