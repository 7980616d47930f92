"""A recording in pieces: each is decided on by a stream of its own, with the bits of a single run.

A piece has the decisions of its part of the recording. Its stream starts ``replay_samples`` before, in the
same segment: between two samples with which a stream starts over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from multires_edge.format.fields import read_fields
from multires_edge.runtime.archive.survey import Scout, Survey, make_survey, pieces_of
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.decision import Decision
from multires_edge.runtime.ecg.gaps import GapPolicy
from multires_edge.runtime.ecg.settings import StreamOptions, parse_duration, whole_steps
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Samples, SignalSpec, Source
from multires_edge.runtime.ecg.stream import EcgStream
from multires_edge.runtime.ecg.streams import preprocessing_of


@dataclass(frozen=True)
class Piece:
    """The decisions after sample ``after`` up to sample ``until`` of a recording; None is its end.

    The stream starts with sample ``start``, and the recording started over with ``origin`` before that.
    """

    start: int
    origin: int
    after: int
    until: int | None


@dataclass(frozen=True)
class Reader:
    """How recordings are read and decided on; the same for all of them."""

    bundle: Bundle
    options: StreamOptions

    def open(self, path: Path) -> Source:
        """Open a recording; of several rates, that of most leads that are wanted. Raises DataError."""
        channels = preprocessing_of(self.bundle).channels
        return open_source(str(path), Format(wanted=(*channels, *self.options.rename.values())))

    def stream(self, signal: SignalSpec, start: int = 0, origin: int = 0) -> EcgStream:
        """A stream of a signal. Raises DataError or InputError if its leads, unit or rate do not fit."""
        return EcgStream(
            self.bundle, leads=signal.leads, rate=signal.rate, unit=signal.unit, name=signal.name,
            options=self.options, start=start, origin=origin,
        )  # fmt: skip

    def survey(self, path: Path) -> Survey:
        """What has to be known of a recording to cut it. Raises DataError."""
        options, preprocessing = self.options, preprocessing_of(self.bundle)
        rate = preprocessing.sampling_rate
        every = whole_steps(parse_duration(options.every, "every"), rate, "every")
        source = self.open(path)
        try:
            replay = self.stream(source.signal).replay_samples
            scout = Scout(
                source.signal, preprocessing, every=every, gap=GapPolicy.parse(options.gap),
                allow_missing=options.allow_missing, rename=options.rename,
            )  # fmt: skip
            return make_survey(source, scout, replay, every)
        finally:
            source.close()


def cut(survey: Survey, seconds: float) -> list[Piece]:
    """The pieces of a recording, each of so many seconds."""
    length = max(1, round(seconds * survey.rate))
    count = 1 if survey.replay is None else max(1, math.ceil(survey.length / length))
    ends = [None if i + 1 == count else (i + 1) * length for i in range(count)]
    return [_piece(survey, i * length, until) for i, until in enumerate(ends)]


def _piece(survey: Survey, after: int, until: int | None) -> Piece:
    """The piece after a sample, with a stream that starts late enough in the segment of that sample."""
    i = max(i for i, segment in enumerate(survey.segments) if segment.origin <= after)
    segment = survey.segments[i]
    at = after if segment.stop is None else min(after, segment.stop)
    # The first decision of a segment names the faults since the one before, which is of an earlier segment.
    while i and at < segment.origin + survey.first_decision:
        i -= 1
        segment = survey.segments[i]
        at = after if segment.stop is None else min(after, segment.stop)
    # A stream that starts in the middle of a gap would stop later than one that has run all along.
    before = at if survey.replay is None else max(survey.replay, survey.longest_gap)
    return Piece(max(segment.origin, at - before), segment.origin, after, until)


def decide(reader: Reader, path: Path, survey: Survey, piece: Piece) -> Iterator[Decision]:
    """The decisions of a piece, in order. Raises DataError if the recording is damaged."""
    # Later samples cannot change these decisions.
    last = math.inf if piece.until is None else piece.until + survey.first_decision
    source = reader.open(path)
    try:
        stream = reader.stream(source.signal, start=piece.start, origin=piece.origin)
        at = _go_to(source, survey, piece.start)
        for part in pieces_of(source):
            skipped = min(part.count, max(0, piece.start - at))
            at += part.count
            if isinstance(part, Samples):
                decisions = stream.feed(part.values[skipped:])
            else:
                decisions = stream.missing(part.count - skipped)
            yield from (each for each in decisions if _is_in(each, piece, survey.rate))
            if at > last:
                return
        yield from (each for each in stream.finish() if _is_in(each, piece, survey.rate))
    finally:
        source.close()


def _go_to(source: Source, survey: Survey, sample: int) -> int:
    """Let a source read from ``sample`` on, or from a place before it; returns where."""
    if source.gaps is not None:
        source.seek(sample)
        return sample
    at, position = max((place for place in survey.places if place[0] <= sample), key=lambda place: place[0])
    source.load(read_fields(source.Position, position))
    return at


def _is_in(decision: Decision, piece: Piece, rate: float) -> bool:
    at = decision.time * rate  # rounded: decisions are at least a sample apart
    return piece.after + 1e-3 < at and (piece.until is None or at <= piece.until + 1e-3)
