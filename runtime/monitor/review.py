"""A review of a patient's last hours, from the lines of output: probabilities and events.

The lines are read from the end of the file, block by block, and never before the hours that were asked for.
A review takes a limited time and memory, whatever the size of the file, which may grow meanwhile.
"""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from multires_edge.base.descriptors import open_file, read_at
from multires_edge.runtime.ecg.whole_lines import LONGEST_LINE, end_of_lines
from multires_edge.runtime.monitor.access import Refused

MOST_HOURS = 24
INTERVALS = 360  # the highest probability of each is shown
_MOST_EVENTS = 300
_LONGEST_EVENT = 4096  # bytes
_LATEST = 1e10  # seconds
_BLOCK = 1 << 20
_SECONDS = 2.5  # to read; a request has five


@dataclass(frozen=True)
class Past:
    """A patient's ``source``, the ``labels``, the newest second of the record, the ``lines`` in memory."""

    source: str
    labels: list[str]
    end: float
    lines: list[str]


class OutOfTime(Exception):
    """The file was not read to the beginning of the review."""


def question(query: str) -> tuple[int, int]:
    """The patient's number and the hours that a query asks for. Raises Refused."""
    try:
        fields = parse_qs(query, max_num_fields=2)
        (number,), (hours,) = fields["patient"], fields["hours"]
        found = int(number), int(hours)
    except (KeyError, ValueError):
        found = (0, 0)
    if not 1 <= found[1] <= MOST_HOURS:
        raise Refused(400, f"Ask for /review?patient=0&hours=1, with 1 to {MOST_HOURS} hours.")
    return found


def review(past: Past, output: Path | None, hours: int) -> bytes:
    """The review as JSON: the ``Past`` of messages.d.ts. Without a file, it is of the lines in memory."""
    until = time.monotonic() + _SECONDS
    try:
        lines = None if output is None else lines_from_end(output, until)
        found = summary(past, lines if lines is not None else _from_memory(past), hours)
    except OSError:  # moved away or deleted: the session writes another soon
        lines, found = None, summary(past, _from_memory(past), hours)
    return json.dumps({**found, "file": lines is not None}, allow_nan=False).encode()


def summary(past: Past, lines: Iterable[bytes], hours: int) -> dict[str, Any]:
    """The review of the last ``hours`` before ``past.end``; ``lines`` come the last first, of all sources."""
    start = max(0.0, past.end - 3600 * hours)
    step = max(past.end - start, 1.0) / INTERVALS
    highest: dict[str, list[float | None]] = {label: [None] * INTERVALS for label in past.labels}
    events: list[dict[str, Any]] = []
    omitted, reached, complete = 0, past.end, True
    try:
        for entry, size in _of_source(past.source, lines):
            if entry["time"] < start:
                reached = start
                break
            if entry["time"] > past.end:
                continue
            reached = entry["time"]
            if entry["type"] == "decision":
                interval = min(INTERVALS - 1, int((reached - start) / step))
                _raise_to(highest, interval, entry.get("probabilities"))
            elif entry["type"] == "event":
                if len(events) < _MOST_EVENTS and size <= _LONGEST_EVENT:
                    events.append(entry)
                else:
                    omitted += 1
    except OutOfTime:
        complete = False
    return {
        "start": start,
        "end": past.end,
        "step": step,
        "reached": reached,
        "complete": complete,
        "highest": highest,
        "events": events,
        "omitted": omitted,
    }


def lines_from_end(path: Path, until: float) -> Iterator[bytes]:
    """The whole lines of a regular file, the last first. Raises OSError, and OutOfTime after ``until``.

    ``until`` is a time of the monotonic clock. A block and a line are in memory at a time. If the file is cut
    meanwhile, or a line is longer than a MiB, the lines end there.
    """
    file = open_file(path, os.O_RDONLY)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(f"{path} is not a regular file")
        end = end_of_lines(file, os.fstat(file).st_size)
        rest = b""
        while end and len(rest) <= LONGEST_LINE:
            start = max(0, end - _BLOCK)
            block = read_at(file, end - start, start)
            if len(block) < end - start:
                return
            rest, *lines = (block + rest).split(b"\n")
            yield from reversed(lines)
            end = start
            if time.monotonic() > until:
                raise OutOfTime
            time.sleep(0.001)  # the session's thread comes first
        if not end:
            yield rest
    finally:
        os.close(file)


def _from_memory(past: Past) -> Iterator[bytes]:
    return (line.encode() for line in reversed(past.lines))


def _of_source(source: str, lines: Iterable[bytes]) -> Iterator[tuple[dict[str, Any], int]]:
    """The entries of a source that have a time, and the lengths of their lines. Other lines are left out."""
    name = json.dumps(source, ensure_ascii=False).encode()
    for line in lines:
        if name not in line:
            continue
        try:
            entry = json.loads(line, parse_constant=_finite, parse_float=_finite)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and entry.get("source") == source and _number(entry.get("time")):
            yield {"type": None} | entry, len(line)


def _raise_to(highest: dict[str, list[float | None]], interval: int, probabilities: Any) -> None:
    if not isinstance(probabilities, dict):
        return  # no signal
    for label, curve in highest.items():
        probability: Any = probabilities.get(label)
        if _number(probability):
            curve[interval] = max(float(probability), curve[interval] or 0.0)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= _LATEST


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not JSON")
    return value
