"""Lines of text: what they say, and what is done with those that say nothing."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Piece, Samples
from multires_edge.runtime.ecg.sources.text.head import Head
from multires_edge.runtime.ecg.sources.text.parser import LineParser

GIVEN = Format(500, "mV")
HEADER = b'{"leads": ["I", "II"], "rate": 250, "unit": "uV"}'


def parser_of(first: bytes, given: Format = GIVEN) -> LineParser:
    head = Head("x", given)
    head.add(first)
    return LineParser(head)


def parse(first: str, *lines: str, given: Format = GIVEN) -> list[Any]:
    """Pieces in a form that is easily compared."""
    parser = parser_of(first.encode(), given)
    return plain(parser.parse([line.encode() for line in lines]) + parser.finish())


def plain(pieces: list[Piece]) -> list[Any]:
    out: list[Any] = []
    for piece in pieces:
        if isinstance(piece, Samples):
            out.append([[None if math.isnan(v) else v for v in row] for row in piece.values.tolist()])
        else:
            out.append(piece.count if isinstance(piece, Missing) else (piece.kind, piece.details))
    return out


class TestCsv:
    def test_samples(self) -> None:
        assert parse("I, II\n", "1,2\n", " 3 , 4e-1\r\n", "\n", "5,\n") == [[[1, 2], [3, 0.4], [5, None]]]

    def test_a_bad_line_is_an_event_and_a_missing_sample(self) -> None:
        pieces = parse("I,II", "1,2", "1,x", "1,2,3", "\x00", "3,4")
        assert [p if isinstance(p, list | int) else p[0] for p in pieces] == [
            [[1, 2]], "bad_line", 3, "bad_lines", [[3, 4]],
        ]  # fmt: skip
        assert pieces[1][1] == {"line": 3, "message": "field 2 is no number"}
        assert pieces[3][1] == {"lines": 3, "until": 5}

    def test_times_show_what_is_missing(self) -> None:
        times = [*range(100), *range(160, 200)]
        first, *rest = parse("time,I", *(f"{t / 500:.3f},{t}" for t in times))
        assert first == [[t] for t in range(100)]
        assert rest == [("gap", {"seconds": 0.12}), 60, [[t] for t in range(160, 200)]]

    @pytest.mark.parametrize("name", ["time", "timestamp", "Time (s)", "time_ms", "T", "seconds"])
    def test_the_column_of_times_has_several_names(self, name: str) -> None:
        parser = parser_of(f"{name},I".encode())
        assert parser.timed and parser.signal.leads == ["I"]

    @pytest.mark.parametrize("line", ["oops", "nan,2", "inf,2", "1e308,2", "-1e308,2", "5e18,2"])
    def test_with_times_a_bad_line_is_an_event_alone(self, line: str) -> None:
        lines = [f"{t / 500:.3f},{t}" for t in range(100)]
        lines[80] = line
        pieces = parse("time,I", *lines)
        assert [p[0] for p in pieces if isinstance(p, tuple)] == ["bad_line"]
        assert sum(len(p) for p in pieces if isinstance(p, list)) == 99

    @pytest.mark.parametrize("line", ["1_0,2", "1,2,3", "1;2", "ERROR,NONE", "0x1,2"])
    def test_lines_that_only_look_like_samples(self, line: str) -> None:
        first, note, *rest = parse("I,II", "1,2", line, "3,4")
        assert (first, note[0], rest) == ([[1, 2]], "bad_line", [1, [[3, 4]]])

    def test_no_header_where_the_leads_are_given(self) -> None:
        parser = parser_of(b"1,2", Format(500, "mV", ["I", "II"]))
        assert parser.layout.lines == 0


class TestJson:
    def test_samples(self) -> None:
        header = HEADER.decode()
        pieces = parse(header, "[1, null]", '{"samples": [[1, 2], [3, 4]], "time": 7}', given=Format())
        assert [row for piece in pieces for row in piece] == [[1, None], [1, 2], [3, 4]]
        spec = parser_of(HEADER, Format()).signal
        assert (spec.leads, spec.rate, spec.unit) == (["I", "II"], 250, "uV")

    def test_times(self) -> None:
        starts = [*range(0, 100, 20), 60, *range(100, 200, 20), *range(300, 400, 20)]
        lines = [{"time": t / 250, "samples": [[t + i, 0] for i in range(20)]} for t in starts]
        pieces = parse(HEADER.decode(), *map(json.dumps, lines))
        values = [p for p in pieces if isinstance(p, list)]
        assert [row[0] for p in values for row in p] == [*range(200), *range(300, 400)]
        assert [p for p in pieces if not isinstance(p, list)] == [
            ("late", {"samples": 20}), ("gap", {"seconds": 0.4}), 100,
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "line",
        [
            "{", '{"samples": 3}', "[1]", '["a", 1]', '{"samples": [[1, 2]], "time": "x"}', "[" * 99999,
            f"[1{'0' * 400}, 1]", f'{{"samples": [[1, 2]], "time": 1{"0" * 400}}}',
            '{"samples": [[1, 2]], "time": 1e308}', '["1", 2]', "[true, 1]", '{"samples": []}',
            '{"samples": [[1, 2]], "time": true}',
        ],
    )  # fmt: skip
    def test_bad_lines(self, line: str) -> None:
        pieces = parse(HEADER.decode(), line)
        assert pieces[0][0] == "bad_line" and pieces[1:] == [1]


class TestTheHeaderAgain:
    """As a device sends it that was started anew behind a converter, or files that were joined."""

    @pytest.mark.parametrize(
        ("header", "line"), [("time,I,II", "0.5,1,2"), (HEADER.decode(), "[1, 2]")], ids=["csv", "json"]
    )
    def test_the_same_is_no_fault(self, header: str, line: str) -> None:
        pieces = parse(header, line, header, line, f" {header}\r\n", line)
        assert [len(piece) for piece in pieces if isinstance(piece, list)] == [3] and len(pieces) == 1

    @pytest.mark.parametrize(
        ("header", "other"),
        [
            ("I,II", "II,I"), ("I,II", "V1,V2"), ("I,II", "time,I,II"), ("I,II", "II"),
            (HEADER.decode(), '{"leads": ["II", "I"], "rate": 250, "unit": "uV"}'),
            (HEADER.decode(), '{"leads": ["I", "II"], "rate": 500, "unit": "uV"}'),
            (HEADER.decode(), '{"leads": ["I", "II"], "rate": 5000, "unit": "uV"}'),
        ],
    )  # fmt: skip
    def test_another_one_ends_the_source(self, header: str, other: str) -> None:
        with pytest.raises(DataError, match=r"another header came|the rate is 5000"):
            parse(header, other)

    def test_after_a_new_connection_any_names_are_a_header(self) -> None:
        parser = parser_of(b"I,II")
        parser.parse([b"1,2", b"pleth,resp"])  # a damaged line
        parser.reconnected()
        with pytest.raises(DataError, match="another header came"):
            parser.parse([b"pleth,resp"])


@pytest.mark.parametrize("timed", [False, True])
def test_samples_that_are_lost_are_one_gap_and_times_count_on(timed: bool) -> None:
    """The lines of a program that was killed; those that waited for the next line are lost with them."""
    lines = [f"{t / 500:.3f},{t}" if timed else f"{t}" for t in range(2000)]
    parser = parser_of(b"time,I" if timed else b"I")
    before = plain(parser.parse(line.encode() for line in lines[:1000]))
    skipped = plain(parser.skip(1.0))
    after = plain(parser.parse(line.encode() for line in lines[1500:]) + parser.finish())
    assert [row for piece in before for row in piece] == [[t] for t in range(1000)]
    assert skipped == [("gap", {"seconds": 1.0}), 500]
    assert [row for piece in after for row in piece] == [[t] for t in range(1500, 2000)]
