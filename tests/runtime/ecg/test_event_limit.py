"""A limit of events: the first are reported, the others counted, and the count is reported once."""

from __future__ import annotations

import json
from typing import Any

from multires_edge.format.fields import plain, read_fields
from multires_edge.runtime.ecg.event_limit import EventLimit, EventLimitState

EVENT: tuple[str, dict[str, Any]] = ("bad_line", {"line": 3})


def test_few_events_are_all_reported() -> None:
    limit = EventLimit(100)
    for _ in range(50):
        limit.came(100)
        assert limit.admit(*EVENT) == [EVENT]
    assert limit.finish() == []


def test_many_events_are_counted() -> None:
    limit, out = EventLimit(100), []
    for _ in range(1000):
        limit.came(1)
        out += limit.admit(*EVENT)
    out += limit.finish()
    left_out = [details["events"] for kind, details in out if kind == "dropped_events"]
    assert out.count(EVENT) + sum(left_out) == 1000
    assert len(out) <= 20 + 10 + 1  # ten seconds of samples


def test_without_samples_there_is_room_for_the_first_ones_only() -> None:
    limit = EventLimit(100)
    assert sum(len(limit.admit(*EVENT)) for _ in range(10**4)) == 20
    assert limit.finish() == [("dropped_events", {"events": 10**4 - 20})]


def test_the_end_of_a_source_is_always_reported() -> None:
    limit = EventLimit(100)
    for _ in range(30):
        limit.admit(*EVENT)
    lost: dict[str, Any] = {"message": "power"}
    assert limit.admit("lost", lost, always=True) == [("dropped_events", {"events": 10}), ("lost", lost)]


def test_a_saved_state_goes_on() -> None:
    limit = EventLimit(100)
    for _ in range(30):
        limit.admit(*EVENT)
    other = EventLimit(100)
    other.load(read_fields(EventLimitState, json.loads(json.dumps(plain(limit.save())))))
    for each in (limit, other):
        each.came(250)
        assert each.admit(*EVENT) == [("dropped_events", {"events": 10}), EVENT]
