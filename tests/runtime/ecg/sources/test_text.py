"""Lines of text: what they say, and what is done with those that say nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, StateError
from multires_edge.format import fields
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Piece, Samples
from multires_edge.runtime.ecg.sources.text import LineParser

GIVEN = Format(500, "mV")
HEADER = b'{"leads": ["I", "II"], "rate": 250, "unit": "uV"}'


def parse(first: str, *lines: str, given: Format = GIVEN) -> list[Any]:
    """Pieces in a form that is easily compared."""
    parser = LineParser("x", first.encode(), given)
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
            [[1, 2]], "bad_line", 1, 1, 1, "bad_lines", [[3, 4]],
        ]  # fmt: skip
        assert pieces[1][1]["line"] == 3 and "could not convert" in pieces[1][1]["message"]
        assert pieces[5][1] == {"lines": 3, "until": 5}

    def test_times_show_what_is_missing(self) -> None:
        times = [*range(100), *range(160, 200)]
        first, *rest = parse("time,I", *(f"{t / 500:.3f},{t}" for t in times))
        assert first == [[t] for t in range(100)]
        assert rest == [("gap", {"seconds": 0.12}), 60, [[t] for t in range(160, 200)]]

    @pytest.mark.parametrize("line", ["oops", "nan,2", "inf,2", "1e308,2", "-1e308,2", "5e18,2"])
    def test_with_times_a_bad_line_is_an_event_alone(self, line: str) -> None:
        lines = [f"{t / 500:.3f},{t}" for t in range(100)]
        lines[80] = line
        pieces = parse("time,I", *lines)
        assert [p[0] for p in pieces if isinstance(p, tuple)] == ["bad_line"]
        assert sum(len(p) for p in pieces if isinstance(p, list)) == 99

    def test_no_header_where_the_leads_are_given(self) -> None:
        parser = LineParser("x", b"1,2", Format(500, "mV", ["I", "II"]))
        assert parser.header_lines == 0


class TestJson:
    def test_samples(self) -> None:
        header = HEADER.decode()
        pieces = parse(header, "[1, null]", '{"samples": [[1, 2], [3, 4]], "time": 7}', given=Format())
        assert [row for piece in pieces for row in piece] == [[1, None], [1, 2], [3, 4]]
        spec = LineParser("x", HEADER, Format()).signal
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
            '{"samples": [[1, 2]], "time": 1e308}',
        ],
    )  # fmt: skip
    def test_bad_lines(self, line: str) -> None:
        pieces = parse(HEADER.decode(), line)
        assert pieces[0][0] == "bad_line" and pieces[1:] == [1]


class TestFiles:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "a.csv"
        path.write_text("I,II\n" + "".join(f"{i},{-i}\n" for i in range(50)))
        return path

    def test_from_start_to_end_and_from_a_saved_place(self, path: Path) -> None:
        source, other = open_source(str(path), GIVEN), open_source(str(path), GIVEN)
        head = source.read(20)
        saved = json.loads(json.dumps(fields.plain(source.save())))
        other.load(fields.read_fields(source.Position, saved))
        for one in (source, other):
            rest = one.read(20) + one.read(20)
            assert one.ended
            values: list[NDArray[np.float64]] = [p.values for p in head + rest if isinstance(p, Samples)]
            assert np.array_equal(np.concatenate(values)[:, 0], np.arange(50))
            one.close()

    def test_that_was_cut_since_it_was_read(self, path: Path) -> None:
        source = open_source(str(path), GIVEN)
        source.read(40)
        saved = source.save()
        path.write_bytes(path.read_bytes()[:60])
        other = open_source(str(path), GIVEN)
        with pytest.raises(StateError, match=r"has 60 bytes, but \d+ were read .* restore the file"):
            other.load(saved)
        source.close()
        other.close()

    @pytest.mark.parametrize("header", ["I,II\n", "", '{"leads": ["I", "II"]}\n'])
    def test_with_a_byte_order_mark(self, tmp_path: Path, header: str) -> None:
        path, rows = tmp_path / "a.csv", "[1,2]\n[3,4]\n" if header.startswith("{") else "1,2\n3,4\n"
        path.write_text(header + rows, encoding="utf-8-sig")
        source = open_source(str(path), Format(500, "mV", ["I", "II"]))
        assert plain(source.read(10)) == [[[1, 2], [3, 4]]]
        source.close()

    @pytest.mark.parametrize(
        ("lines", "last"),
        [
            (["1,1", "x", "x", "x"], ("bad_lines", {"lines": 3, "until": 5})),
            ([*(f"{t / 500},1" for t in range(200)), "90,1"], ("clock", {"message": "1 wrong time"})),
        ],
    )
    def test_what_was_wrong_at_the_end_is_said_too(
        self, tmp_path: Path, lines: list[str], last: tuple[str, Any]
    ) -> None:
        path = tmp_path / "a.csv"
        path.write_text("\n".join(["time,I", *lines]))
        source = open_source(str(path), GIVEN)
        assert plain(source.read(1000))[-1] == last and source.ended
        source.close()

    @pytest.mark.parametrize(
        ("content", "given", "message"),
        [
            (b"", GIVEN, "without names of leads"),
            (b"1,2\n", GIVEN, "without names of leads"),
            (b"{}\n", GIVEN, "without names of leads"),
            (b"{,\n", GIVEN, "is not JSON"),
            (b"I,II\n", Format(None, "mV"), "has no rate; give --rate"),
            (b"I,II\n", Format(500), "has no unit; give --unit"),
            (b'{"leads": [1], "rate": 5, "unit": "mV"}', GIVEN, "without names of leads"),
            (b'{"leads": "II", "rate": 500, "unit": "mV"}', GIVEN, "without names of leads"),
            (b'{"leads": 5, "rate": 500, "unit": "mV"}', GIVEN, "without names of leads"),
            (b'{"leads": ["I"], "rate": "x", "unit": "mV"}', GIVEN, "has no rate"),
            (b'{"leads": ["I"], "rate": NaN, "unit": "mV"}', GIVEN, "the rate is nan Hz"),
            (b'{"leads": ["I"], "rate": 1%s, "unit": "mV"}' % (b"0" * 400), GIVEN, "expected 50 to 2000 Hz"),
            (b"I;II\n1;2\n", GIVEN, "separated by ';', expected commas"),
            (b"1\t2\n", Format(500, "mV", ["I", "II"]), "separated by"),
        ],
    )
    def test_that_say_too_little(self, tmp_path: Path, content: bytes, given: Format, message: str) -> None:
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / "a.csv"), given)
