"""Pieces of a recording have the decisions of a single run, to the bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import DataError
from multires_edge.runtime import Bundle
from multires_edge.runtime.archive.pieces import Piece, Reader, cut, decide
from multires_edge.runtime.archive.survey import pieces_of
from multires_edge.runtime.ecg.decision import Decision
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.ecg.sources.protocol import Samples, SignalSpec, Source
from multires_edge.runtime.ecg.sources.recordings.record import Record, RecordSource
from tests.runtime.conftest import beats

RATE, SECONDS = 100, 150
RECORD = beats(SECONDS, RATE)


class InOrder(RecordSource):
    """A recording whose gaps and length are not known before its end, and which cannot seek."""

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self.gaps = None

    def seek(self, sample: int) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class FromMemory(Reader):
    """Reads a recording that was made here."""

    record: Record | None = None
    kind: type[RecordSource] = RecordSource

    def open(self, path: Path) -> Source:
        assert self.record is not None
        return self.kind(self.record)


def recorded(x: Any, gaps: Any) -> Record:
    return Record(SignalSpec(["I", "II"], RATE, "mV", "a"), len(x), lambda a, b: x[a:b], gaps=gaps)


def alone(reader: Reader) -> list[Decision]:
    """The decisions of one run."""
    source = reader.open(Path())
    stream, decisions = reader.stream(source.signal), []
    for part in pieces_of(source):
        decisions += stream.feed(part.values) if isinstance(part, Samples) else stream.missing(part.count)
    return decisions + stream.finish()


def shown(decisions: list[Decision]) -> list[Any]:
    return [(d.to_json(), d.logits.tolist()) for d in decisions]


@st.composite
def recordings(draw: st.DrawFn) -> Record:
    """With samples that have no value, and with others that never arrived."""
    x, gaps, at = RECORD.copy(), [], 0
    for before, length, lost in draw(
        st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 1500), st.booleans()), max_size=7)
    ):
        start = at + before
        at = min(start + length, len(x))
        if start >= at:
            break
        if lost:
            gaps.append((start, at))
        else:
            x[start:at] = np.nan
    return recorded(x, gaps)


@settings(max_examples=40)
@given(
    recordings(),
    st.sampled_from([RecordSource, InOrder]),
    st.sampled_from(["hold", "zero", "restart:0.5s", "restart:6s"]),
    st.sampled_from(["window:1s", "window:3.3s", "reset:2s", "cumulative"]),
    st.sampled_from(["0.5s", "0.3s", "4s"]),
    st.floats(3, 60),
)
def test_pieces_are_a_run(
    opened: Bundle, record: Record, kind: type[RecordSource], gap: str, pool: str, every: str, seconds: float
) -> None:
    reader = FromMemory(opened, StreamOptions(gap=gap, pool=pool, every=every), record, kind)
    survey = reader.survey(Path())
    pieces = cut(survey, seconds)
    assert len(pieces) == (1 if pool == "cumulative" else -(-SECONDS * RATE // round(seconds * RATE)))
    got = [d for piece in pieces for d in decide(reader, Path(), survey, piece)]
    assert shown(got) == shown(alone(reader))


def test_a_piece_reads_its_part_alone(opened: Bundle) -> None:
    read = []

    def reading(start: int, stop: int) -> Any:
        read.append((start, stop))
        return np.zeros((stop - start, 2))

    long = Record(SignalSpec(["I", "II"], RATE, "mV", "a"), 100 * 3600 * RATE, reading)
    reader = FromMemory(opened, StreamOptions(), long)
    survey = reader.survey(Path())
    assert not read
    (piece,) = [piece for piece in cut(survey, 3600) if piece.after == 50 * 3600 * RATE]
    assert survey.replay is not None
    assert piece == Piece(piece.after - survey.replay, 0, piece.after, 51 * 3600 * RATE)
    next(decide(reader, Path(), survey, replace(piece, until=piece.after + 10 * RATE)))
    assert min(start for start, _ in read) == piece.start
    assert max(stop for _, stop in read) < piece.after + 3600 * RATE


@pytest.mark.parametrize("kind", [RecordSource, InOrder])
def test_damage_is_one_line(opened: Bundle, kind: type[RecordSource]) -> None:
    def reading(start: int, stop: int) -> Any:
        if stop > 9000:
            raise OSError(5, "Input/output error")
        return RECORD[start:stop]

    record = Record(SignalSpec(["I", "II"], RATE, "mV", "a"), len(RECORD), reading)
    reader = FromMemory(opened, StreamOptions(), record, kind)
    with pytest.raises(DataError, match=r"^a: truncated \(of 15000 samples, 9000 can be read"):
        survey = reader.survey(Path())
        for piece in cut(survey, 30):
            list(decide(reader, Path(), survey, piece))
    with pytest.raises(DataError, match="a: has no samples"):
        replace(reader, record=recorded(RECORD[:0], [])).survey(Path())
