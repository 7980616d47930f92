"""Many lines of plain numbers at once. All other lines are read one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.ecg.sources.text.head import Layout

# A cell of its own between two lines, which no line has.
_END = b"\0"
# Quotes, comments, and "1_000", which float() reads.
_NOT_PLAIN = (_END, b'"', b"#", b"%", b"//", b"_")
_MARK_AT_END = re.compile(rb",(?!\d)")


class Block:
    """Reads the numbers of lines of CSV, as ``layout`` says where they are."""

    def __init__(self, layout: Layout) -> None:
        self._delimiter, self._count = layout.delimiter, layout.count
        self._comma = layout.decimal == b","
        self._columns = list(layout.leads if layout.time is None else (layout.time, *layout.leads))
        # Between blanks, a date or a name in a column that is not read can be several cells.
        each = len(set(self._columns)) == self._count or self._delimiter is not None
        self.possible = not layout.json and each and not (self._comma and self._delimiter == b",")

    def read(self, lines: Sequence[bytes], longest: int) -> NDArray[np.float64] | None:
        """The numbers (lines, columns): the time if there is one, then the leads.

        None if a line may be anything but plain numbers in the expected number of cells, or if the lines have
        ``longest`` bytes or more. Otherwise the numbers are those that each line has alone.
        """
        text = b"".join(lines)
        if len(text) >= longest or any(mark in text for mark in _NOT_PLAIN):
            return None
        if self._comma and (b"." in text or _MARK_AT_END.search(text)):
            return None
        blank = b" " if self._delimiter is None else self._delimiter
        text = (blank + _END + blank).join(lines)
        cells = (text.replace(b",", b".") if self._comma else text).split(self._delimiter)
        width = cells.index(_END) if len(lines) > 1 else len(cells)
        try:
            return self._numbers(cells, len(lines), width) if self._fits(cells, len(lines), width) else None
        except ValueError:
            return None

    def _fits(self, cells: list[bytes], lines: int, width: int) -> bool:
        """Whether each line has ``width`` cells, and those that are too many are blank."""
        period = width + 1
        even = len(cells) == lines * period - 1 and cells[width::period].count(_END) == lines - 1
        extra = range(self._count, width)
        return even and width >= self._count and not any(b"".join(cells[i::period]).strip() for i in extra)

    def _numbers(self, cells: list[bytes], lines: int, width: int) -> NDArray[np.float64]:
        period = width + 1
        if self._columns == list(range(width)):
            del cells[width::period]
            numbers = np.fromiter(map(float, cells), np.float64, len(cells))
            return numbers.reshape(lines, width)
        return np.array([list(map(float, cells[i::period])) for i in self._columns]).T
