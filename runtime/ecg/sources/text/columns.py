"""What the columns of a table are: times, numbers of rows, text, or samples of a lead."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from multires_edge.runtime.ecg.lead_names import split_unit
from multires_edge.runtime.ecg.resample import FASTEST, SLOWEST
from multires_edge.runtime.ecg.sources.text import cells

_TIME = re.compile(
    r"t|ts|s|secs?|seconds?|ms|us|ns|millis|micros|(?:milli|micro|nano)seconds?|elapsed.*|date.*|clock|epoch.*|"
    r"unix.*|utc.*|time.*|.*time|.*timestamp.*|.*uhrzeit|.*zeit|zeit.*|datum|temps.*|heure|"
    r"date et heure|horodatage|tiempo.*|hora|fecha.*|tempo.*|ora|data e ora|tijd|"
    r"channeltitle=|recorded.*|h{1,2}:mm(?::ss)?.*"
)
_INDEX = re.compile(
    r"|#|idx|index|id|no\.?|nr\.?|num(?:ber)?|row.*|samples?|"
    r"sample ?(?:#|index|no\.?|number|count(?:er)?|id)|n?seq|sequence.*|packet.*|frame.*|"
    r"counter|unnamed: ?\d+|datapoint|point"
)
_UNIT_OF_TIME = re.compile(
    r"[\s_,(\[{/]*(s|secs?|seconds?|m(?:illi)?s(?:ec|econds?)?|[u\u00b5\u03bc]s|ns)[)\]}\s]*$"
)
# Seconds of a unit of time. The steps of times at the rate of an ECG fit one unit only.
_UNITS = (1.0, 1e-3, 1e-6, 1e-9)
# The rates of recorders; a measured rate that is so close to one of them is meant to be it.
_RATES = (
    50, 60, 64, 75, 80, 90, 100, 120, 125, 128, 130, 133, 150, 160, 180, 200, 220, 225, 240, 250, 256, 257,
    300, 320, 333, 350, 360, 375, 400, 450, 480, 500, 512, 600, 640, 700, 720, 750, 800, 900, 960, 977, 1000,
    1024, 1200, 1250, 1500, 1600, 1800, 2000,
)  # fmt: skip
_CLOSE = 0.01
_FEWEST = 5


def is_time(name: str) -> bool:
    """Whether a column of this name has times."""
    return _TIME.fullmatch(_bare(name)) is not None


def is_index(name: str) -> bool:
    """Whether a column of this name counts rows."""
    return _INDEX.fullmatch(name.strip().casefold().replace("_", " ")) is not None


def _bare(name: str) -> str:
    """A name without quotes and unit of time."""
    text = re.sub(r"[\s_]+", " ", split_unit(name)[0].casefold()).strip(" '\"[]()")
    shorter = _UNIT_OF_TIME.sub("", text).strip()
    return shorter or text


@dataclass(frozen=True)
class Clock:
    """The column of times; ``rate`` in Hz as they show it, or None; ``seconds`` that they last, and how
    ``uneven`` they are, in samples."""  # fmt: skip

    column: int
    rate: float | None
    seconds: float
    uneven: float


def find_clock(columns: Sequence[int], rows: Sequence[Sequence[bytes]], decimal: bytes = b"") -> Clock | None:
    """The column whose times are most even, or None if no column has times."""
    clocks = [clock for column in columns if (clock := _clock(column, rows, decimal)) is not None]
    return min(clocks, key=lambda clock: (clock.rate is None, round(clock.uneven, 2)), default=None)


def _clock(column: int, rows: Sequence[Sequence[bytes]], decimal: bytes) -> Clock | None:
    times, dated = list[float](), False
    for row in rows:
        try:
            time = cells.time(row[column], decimal)
        except (ValueError, IndexError, OverflowError):
            continue
        if not math.isnan(time):
            times.append(time)
            dated = dated or cells.is_clock(row[column])
    if not times or 2 * len(times) < len(rows):
        return None
    steps = [b - a for a, b in pairwise(times)]
    forward = [step for step in steps if step > 0]
    if len(times) < _FEWEST or not forward:
        return Clock(column, None, 0.0, 0.0)
    # Steps of clocks that count roughly differ; a hole is none of them.
    even = 3 * statistics.median(forward)
    first = next(i for i, step in enumerate(steps) if step > 0)
    last = len(steps) - next(i for i, step in enumerate(reversed(steps)) if step > 0)
    counted = [step for step in steps[first:last] if 0 <= step <= even]
    step = sum(counted[1:]) / max(1, len(counted) - 1) if len(counted) > 1 else forward[0]
    units = [1.0] if dated else [u for u in _UNITS if SLOWEST <= 1 / (step * u) <= FASTEST] if step else []
    if not units:
        return Clock(column, None, 0.0, 0.0)
    seconds = step * units[0]
    rate = 1 / seconds if seconds else None
    uneven = sum(abs(each - step) for each in counted) / len(counted) / step if step else 0.0
    if rate is None or not SLOWEST <= rate <= FASTEST:
        return Clock(column, None, 0.0, uneven)
    return Clock(column, _usual(rate), seconds * len(counted), uneven)


def _usual(rate: float) -> float:
    nearest = min(_RATES, key=lambda each: abs(each - rate))
    return float(nearest) if abs(nearest - rate) <= _CLOSE * rate else float(f"{rate:.4g}")
