"""Lines that are read together give what they give one by one: pieces, events and states."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Piece, Samples
from multires_edge.runtime.ecg.sources.text.file import TextFileSource
from multires_edge.runtime.ecg.sources.text.head import Head
from multires_edge.runtime.ecg.sources.text.parser import LineParser

RATE = 250
# The separator and the mark in front of fractions.
NOTATIONS = [(",", "."), (";", "."), (";", ","), ("\t", "."), ("|", ","), (" ", ".")]
# What columns have: leads alone; a time or a number in front; a text that is not read.
TABLES = ["leads", "time", "index", "label", "time+label"]
EVENTS = ["cell", "gap", "line", "clock", "twice", "none"]
CELLS = [
    "NA",
    "",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e3",
    "+5",
    " 7 ",
    "1_000",
    "1 000",
    "1'000",
    "1.234,5",
    "1,234",
]
CELLS += [
    "1.234.567",
    ".5",
    "5.",
    "5,",
    ",5",
    "\u22121.5",
    '"2.5"',
    '"2',
    "x",
    "0x1",
    "-",
    "1e",
    "1e-320",
    "\0",
    "1\r",
]
CELLS += ["123456789012345678901234567890", "0.1000000000000000055511151231257827"]
LINES = [
    "",
    " ",
    "# a comment",
    "% 1,2,3",
    "// 1;2;3",
    "#N/A",
    "oops",
    "header",
    "1",
    "{}",
    "\0",
    "\x85",
    "short",
    "long",
]
LINES += ["trailing", "blank cells", "quoted", "2024-01-01 10:00:00"]


def lines_of(
    chance: random.Random, table: str, notation: tuple[str, str], count: int, rare: float
) -> list[bytes]:
    """Lines of a file, its header first: plain ones, and with the probability ``rare`` odd ones."""
    separator, mark = notation
    leads = ["I", "II", "III"][: chance.randint(1, 3)] if table != "leads" else ["I", "II"]
    label, timed = "label" in table, "time" in table
    names = ["time"] * timed + ["index"] * (table == "index") + leads + ["mood"] * label
    out = [separator.join(names)]
    time, step = chance.choice([0.0, 1.7e9]), 1 / RATE
    jitter, digits = chance.choice([0.0, 0.0005]), chance.choice([1, 2, 3, 6])
    if jitter or digits < 3:
        step *= chance.choice([1.0, 1.0008])
    for i in range(count):
        time += step
        odd = chance.choice(EVENTS) if i > 60 and chance.random() < rare else "none"
        cells = [f"{chance.gauss(0, 1):.{chance.randint(0, 6)}f}" for _ in leads]
        if odd == "gap":
            time += chance.choice([0.01, 0.3, 2.0, 4000.0, -1.0, -7.0])
        shown = time + chance.gauss(0, jitter) + (5.0 if odd == "clock" else 0.0)
        front = [f"{shown:.{digits}f}"] * timed + [str(i)] * (table == "index")
        cells = [*front, *cells, *["calm"] * label]
        cells = [cell.replace(".", mark) for cell in cells]
        if odd == "cell":
            cells[chance.randrange(len(cells))] = chance.choice(CELLS)
        line = separator.join(cells)
        if odd == "line":
            line = _odd_line(chance, line, cells, separator, out[0])
        out += [line] * (2 if odd == "twice" else 1)
    end = chance.choice(["\n", "\r\n"])
    return [(line + end).encode() for line in out]


def _odd_line(chance: random.Random, line: str, cells: list[str], separator: str, header: str) -> str:
    kind = chance.choice(LINES)
    made = {
        "header": header,
        "short": separator.join(cells[:-1]),
        "long": line + separator + "1",
        "trailing": line + separator,
        "blank cells": line + separator + "  " + separator,
        "quoted": separator.join(f'"{cell}"' for cell in cells),
    }
    return made.get(kind, kind)


def parser_of(lines: list[bytes]) -> tuple[LineParser, list[bytes]]:
    head = Head("x", Format(RATE, "mV"))
    for line in lines:
        if head.add(line):
            break
    parser = LineParser(head)
    return parser, lines[parser.layout.lines :]


def comparable(pieces: list[Piece]) -> list[Any]:
    return [
        ("samples", piece.values.tobytes(), piece.values.shape, piece.arrived)
        if isinstance(piece, Samples)
        else piece
        for piece in pieces
    ]


def results(lines: list[bytes], batches: list[int], *, together: bool) -> list[Any]:
    """What batches of lines give, each at a time of its own."""
    parser, rest = parser_of(lines)
    out: list[Any] = []
    at = 0
    for number, size in enumerate(batches):
        batch, at = rest[at : at + size], at + size
        taken = 0
        try:
            while taken < len(batch):
                if together:
                    taken += parser.add_first(batch, taken, float(number))
                else:
                    parser.add(batch[taken], float(number))
                    taken += 1
        except DataError as error:
            return [*out, str(error)]
        out += [comparable(parser.take()), repr(parser.save())]
    return [*out, comparable(parser.finish()), repr(parser.save())]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(TABLES), st.sampled_from(NOTATIONS))
def test_together_is_one_by_one(seed: int, table: str, notation: tuple[str, str]) -> None:
    chance = random.Random(seed)
    count, rare = chance.choice([40, 300, 1500]), chance.choice([0.0, 0.003, 0.02, 0.3])
    lines = lines_of(chance, table, notation, count, rare)
    batches, left = list[int](), len(lines)
    while left > 0:
        batches.append(chance.choice([1, 7, 8, 100, 511, 512, 2000]))
        left -= batches[-1]
    assert results(lines, batches, together=True) == results(lines, batches, together=False)


@pytest.mark.parametrize("notation", NOTATIONS, ids=repr)
def test_one_odd_cell_among_plain_lines(notation: tuple[str, str]) -> None:
    lines = lines_of(random.Random(3), "time", notation, 100, 0.0)
    separator = notation[0].encode()
    for odd in CELLS:
        for column in (0, 1):
            cells = lines[90].split(separator)
            cells[column] = odd.encode() + cells[column][len(cells[column].rstrip()) :]
            changed = [*lines[:90], separator.join(cells), *lines[91:]]
            batches = [70, 40]
            one_by_one = results(changed, batches, together=False)
            assert results(changed, batches, together=True) == one_by_one, (odd, column)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("notation", NOTATIONS, ids=repr)
def test_plain_lines_are_read_together(
    table: str, notation: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the other test compares nothing."""
    parser, rest = parser_of(lines_of(random.Random(1), table, notation, 2000, 0.0))
    singly, add = list[bytes](), LineParser.add

    def counted(parser: LineParser, line: bytes, arrived: float | None = None) -> None:
        singly.append(line)
        add(parser, line, arrived)

    monkeypatch.setattr(LineParser, "add", counted)
    samples = parser.parse(rest)
    assert sum(piece.count for piece in samples) > 1900
    # A column that is not read may have several cells between blanks.
    together = notation[0] != " " or table in ("leads", "time")
    assert (len(singly) < 200) == together


@pytest.mark.parametrize("seed", range(6))
def test_a_file_gives_the_same_in_reads_of_any_size(seed: int, tmp_path: Path) -> None:
    """A read ends with the sample that completes it, and a state saved there goes on with the next one."""
    chance = random.Random(seed)
    lines = lines_of(chance, chance.choice(TABLES), NOTATIONS[seed], 1200, 0.01)
    path = tmp_path / "a.csv"
    path.write_bytes(b"".join(lines))
    given = Format(RATE, "mV")

    def read(sizes: list[int]) -> list[Any]:
        source, out = TextFileSource(path, given), list[Any]()
        while not source.ended:
            for piece in source.read(chance.choice(sizes)):
                if isinstance(piece, Samples):
                    out += [row.tobytes() for row in piece.values]
                elif isinstance(piece, Missing) and out and isinstance(out[-1], Missing):
                    out[-1] = Missing(out[-1].count + piece.count)
                else:
                    out.append(piece)
            if chance.random() < 0.02:
                position = source.save()
                source.close()
                source = TextFileSource(path, given)
                source.load(position)
        source.close()
        return out

    assert read([1, 3]) == read([5000])
