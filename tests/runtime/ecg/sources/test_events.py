"""A limit of events: the first are reported, the others counted, and the count is reported once."""

from __future__ import annotations

import json

from multires_edge.format.fields import plain, read_fields
from multires_edge.runtime.ecg.sources.events import EventLimit, EventLimitState
from multires_edge.runtime.ecg.sources.protocol import Note

NOTE = Note("bad_line")


def test_few_events_are_all_reported() -> None:
    limit = EventLimit(100)
    for _ in range(50):
        limit.came(100)
        assert limit.admit(NOTE) == [NOTE]
    assert limit.finish() == []


def test_many_events_are_counted() -> None:
    limit, out = EventLimit(100), list[Note]()
    for _ in range(1000):
        limit.came(1)
        out += limit.admit(NOTE)
    out += limit.finish()
    reported = [note for note in out if note == NOTE]
    left_out = [note.details["events"] for note in out if note.kind == "dropped_events"]
    assert len(reported) + sum(left_out) == 1000
    assert len(out) <= 20 + 10 + 1  # ten seconds of samples


def test_without_samples_there_is_room_for_the_first_ones_only() -> None:
    limit = EventLimit(100)
    assert sum(len(limit.admit(NOTE)) for _ in range(10**4)) == 20
    assert limit.finish() == [Note("dropped_events", {"events": 10**4 - 20})]


def test_a_saved_state_goes_on() -> None:
    limit = EventLimit(100)
    for _ in range(30):
        limit.admit(NOTE)
    other = EventLimit(100)
    other.load(read_fields(EventLimitState, json.loads(json.dumps(plain(limit.save())))))
    for each in (limit, other):
        each.came(250)
        assert each.admit(NOTE) == [Note("dropped_events", {"events": 10}), NOTE]
