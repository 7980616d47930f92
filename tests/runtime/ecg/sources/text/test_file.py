"""Text files: read to their end, continued, and followed while they grow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import DataError, InputError, StateError
from multires_edge.format import fields
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Piece, Samples, Source
from multires_edge.runtime.ecg.sources.text.parser import LONGEST_LINE
from tests.runtime.ecg.sources.text.test_parser import plain

GIVEN = Format(500, "mV")
FOLLOWED = Format(500, "mV", follow=True)


def values(pieces: list[Piece]) -> list[float]:
    """The first lead of all samples."""
    return [v for piece in pieces if isinstance(piece, Samples) for v in piece.values[:, 0].tolist()]


def events(pieces: list[Piece]) -> list[str]:
    return [piece[0] for piece in plain(pieces) if isinstance(piece, tuple)]


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def continued(path: Path, given: Format, saved: Any) -> Source:
    """A new source that continues from a position as a state file has it."""
    source = open_source(str(path), given)
    source.load(fields.read_fields(source.Position, json.loads(json.dumps(fields.plain(saved)))))
    return source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("I,II\n" + "".join(f"{i},{-i}\n" for i in range(50)))
    return path


def test_from_start_to_end_and_from_a_saved_place(path: Path) -> None:
    source, other = open_source(str(path), GIVEN), open_source(str(path), GIVEN)
    head = source.read(20)
    saved = json.loads(json.dumps(fields.plain(source.save())))
    other.load(fields.read_fields(source.Position, saved))
    for one in (source, other):
        rest = one.read(20) + one.read(20)
        assert one.ended
        assert values(head + rest) == list(range(50))
        one.close()


def test_that_was_cut_since_it_was_read(path: Path) -> None:
    source = open_source(str(path), GIVEN)
    source.read(40)
    saved = source.save()
    path.write_bytes(path.read_bytes()[:60])
    other = open_source(str(path), GIVEN)
    with pytest.raises(StateError, match="not all of it, of which"):
        other.load(saved)
    source.close()
    other.close()


@pytest.mark.parametrize("header", ["I,II\n", "", '{"leads": ["I", "II"]}\n'])
def test_with_a_byte_order_mark(tmp_path: Path, header: str) -> None:
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
    tmp_path: Path, lines: list[str], last: tuple[str, Any]
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
        (b"1\t2\n", Format(500, "mV", ["I", "II", "III"]), "without names of leads"),
    ],
)
def test_that_say_too_little(tmp_path: Path, content: bytes, given: Format, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "a.csv"), given)


def test_a_read_gives_no_more_samples_than_it_is_asked_for(tmp_path: Path) -> None:
    """Lines may have many samples each; and lines without samples count as well."""
    path = tmp_path / "a.jsonl"
    packet = json.dumps({"samples": [[i, 0] for i in range(100)]})
    path.write_text('{"leads": ["I", "II"], "rate": 500, "unit": "mV"}\n' + f"{packet}\n" * 50)
    source = open_source(str(path))
    assert len(values(source.read(250))) == 300 and len(values(source.read(1))) == 100
    source.close()


def test_the_rest_of_a_line_that_is_too_long_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("I,II\n1,2\n" + "x" * LONGEST_LINE + "3,4\n5,6\n")
    source = open_source(str(path), GIVEN)
    pieces = source.read(100)
    assert values(pieces) == [1, 5] and events(pieces) == ["bad_line"] and source.ended
    source.close()


def test_that_is_no_file_is_refused_and_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="is not a file"):
        open_source(str(tmp_path / "pipe.csv"), GIVEN)


class TestGrown:
    """A file that was read to its end, and has grown since."""

    @pytest.fixture
    def read(self, path: Path) -> Any:
        source = open_source(str(path), GIVEN)
        source.read(100)
        assert source.ended
        source.close()
        return source.save()

    def test_continues_with_the_new_lines(self, path: Path, read: Any) -> None:
        append(path, "50,-50\n51,-51\n")
        source = continued(path, GIVEN, read)
        assert values(source.read(100)) == [50, 51] and source.ended
        source.close()

    def test_stays_at_its_end_without_any(self, path: Path, read: Any) -> None:
        source = continued(path, GIVEN, read)
        assert source.ended and source.read(100) == []
        source.close()

    @pytest.mark.parametrize(("more", "kinds"), [("\n60,-60\n", []), ("9,1\n60,-60\n", ["bad_line"])])
    def test_the_rest_of_a_line_that_was_read_is_no_line(
        self, path: Path, more: str, kinds: list[str]
    ) -> None:
        append(path, "50,-50")
        source = open_source(str(path), GIVEN)
        assert values(source.read(100))[-1] == 50
        saved = source.save()
        source.close()
        append(path, more)
        source = continued(path, GIVEN, saved)
        pieces = source.read(100)
        assert (values(pieces), events(pieces)) == ([60], kinds)
        source.close()

    def test_with_another_beginning_is_refused(self, path: Path, read: Any) -> None:
        path.write_text(path.read_text().replace("49,-49", "49,-48") + "50,-50\n")
        with pytest.raises(StateError, match="restore the file, or move the state away"):
            continued(path, GIVEN, read)


class TestFollowed:
    @pytest.fixture
    def source(self, path: Path) -> Iterator[Source]:
        source = open_source(str(path), FOLLOWED)
        yield source
        source.close()

    def test_waits_for_lines_and_for_their_ends(self, path: Path, source: Source) -> None:
        assert values(source.read(30)) == list(range(30))
        assert values(source.read(30)) == list(range(30, 50))
        for more, expected in (("", []), ("5", []), ("0,-5", []), ("0\n51", [50]), (",1\n52,1\n", [51, 52])):
            append(path, more)
            assert values(source.read(30)) == expected
            assert not source.ended

    def test_from_a_state_goes_on_where_it_was(self, path: Path, source: Source) -> None:
        source.read(40)
        append(path, "50,-50\n5")
        other = continued(path, FOLLOWED, source.save())
        append(path, "1,-51\n")
        assert values(other.read(100)) == list(range(40, 52))
        other.close()

    def test_moved_away_is_read_to_its_end_before_the_new_one(self, path: Path, source: Source) -> None:
        source.read(100)
        with path.open("a") as writer:
            path.rename(path.with_suffix(".1"))
            writer.write("50,-50\n")
            writer.flush()
            assert values(source.read(100)) == [50]  # while there is no new one
            path.write_text("I,")
            writer.write("51,-51")
        assert values(source.read(100)) == []
        pieces = source.read(100)
        assert values(pieces) == [51] and events(pieces) == ["replaced"]
        append(path, "II\n0,0\n")
        pieces = source.read(100)
        assert values(pieces) == [0] and events(pieces) == []

    @pytest.mark.parametrize("more", ["", "7,7\n" * 100])
    def test_cut_is_noticed(self, path: Path, source: Source, more: str) -> None:
        """Also if it is as long as before when it is looked at."""
        source.read(100)
        path.write_text("")
        pieces = [] if more else source.read(100)
        path.write_text(f"I,II\n{more}8,8\n")
        pieces += source.read(1000) + source.read(1000)
        assert values(pieces) == [7.0] * more.count("\n") + [8] and events(pieces) == ["replaced"]

    def test_replaced_since_its_state_was_saved(self, path: Path, source: Source) -> None:
        source.read(100)
        path.write_text("I,II\n1,1\n")
        other = continued(path, FOLLOWED, source.save())
        pieces = other.read(100) + other.read(100)
        assert values(pieces) == [1] and events(pieces) == ["replaced"]
        other.close()

    @pytest.mark.parametrize("header", ["I,III\n", "x;y\n"])
    def test_replaced_by_another_kind_of_file_is_lost(self, path: Path, source: Source, header: str) -> None:
        source.read(100)
        path.write_text(header)
        pieces = source.read(100) + source.read(100)
        assert events(pieces) == ["replaced", "lost"] and source.ended

    def test_recordings_cannot_be(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be followed"):
            open_source(str(tmp_path / "a.npz"), FOLLOWED)
