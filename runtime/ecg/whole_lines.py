"""The whole lines of an output, which another program may be writing."""

from __future__ import annotations

from multires_edge.base.descriptors import read_at

LONGEST_LINE = 1 << 20


def end_of_lines(file: int, size: int) -> int:
    """Where the last whole line in the first ``size`` bytes of an open file ends. Raises OSError."""
    start = max(0, size - LONGEST_LINE)
    return start + read_at(file, size - start, start).rfind(b"\n") + 1
