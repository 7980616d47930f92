"""Bytes are cut into lines, and a line that has no end takes no memory."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from multires_edge.runtime.ecg.sources.text.lines import Lines
from multires_edge.runtime.ecg.sources.text.parser import LONGEST_LINE


@given(st.lists(st.binary(max_size=5), max_size=20), st.lists(st.integers(0, 100), max_size=8))
def test_cuts_make_no_difference(parts: list[bytes], cuts: list[int]) -> None:
    data, lines, out = b"\n".join(parts), Lines(), []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        out += lines.add(data[start:end])
    out += lines.finish()
    expected = data.split(b"\n")
    assert out == (expected if expected[-1] else expected[:-1])


def test_a_line_without_an_end() -> None:
    lines = Lines()
    for _ in range(40):
        assert lines.add(b"x" * (LONGEST_LINE // 10)) == []
    assert len(lines._rest) == LONGEST_LINE
    (line, last) = lines.add(b"\nnext\n")
    assert len(line) == LONGEST_LINE and last == b"next"
