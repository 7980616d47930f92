"""A follower and its sink: what is sent again, what is left out, and what is said."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from multires_edge.runtime.ecg.sinks import follower as module
from multires_edge.runtime.ecg.sinks.choice import Choice
from multires_edge.runtime.ecg.sinks.follower import Follower
from multires_edge.runtime.ecg.sinks.protocol import DeliveryError, Line, RefusedLinesError, Sink
from multires_edge.runtime.ecg.sinks.waiting import MemoryLines
from tests.runtime.ecg.sinks.receivers import decision, event, texts
from tests.waiting import until


class Told(Sink):
    """Takes lines unless ``trouble`` raises."""

    most = 4

    def __init__(self, trouble: Callable[[Sequence[Line]], None] = lambda lines: None) -> None:
        self.lines: list[Line] = []
        self.calls = 0
        self.closed = False
        self._trouble = trouble

    def send(self, lines: Sequence[Line]) -> None:
        self.calls += 1
        self._trouble(lines)
        self.lines += lines

    def close(self) -> None:
        self.closed = True

    @property
    def times(self) -> list[float]:
        return [line.entry["time"] for line in self.lines]


class Run:
    """A sink that follows lines in memory."""

    def __init__(self, sink: Sink, choice: Choice | None = None) -> None:
        self.said: list[str] = []
        self.waiting = MemoryLines()
        self.follower = Follower("pager:7", sink, choice or Choice(), self.waiting, None, self.said.append)
        self.follower.start()

    def end(self) -> None:
        self.waiting.close()
        self.follower.join(10)
        assert not self.follower.alive


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.002)
    monkeypatch.setattr(module, "_LONGEST_WAIT", 0.01)
    yield


def test_lines_come_once_in_order() -> None:
    run = Run(sink := Told())
    run.waiting.put(texts(0, 10))
    run.end()
    assert sink.times == list(range(10)) and sink.closed and not run.said
    assert (run.follower.sent, run.follower.failures, run.follower.refused) == (10, 0, 0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeliveryError("the pager is off"), "the pager is off"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_what_fails_is_sent_again_and_said_once(error: Exception, reason: str) -> None:
    """Also after a mistake in the sink of another package."""
    failures = iter([error] * 5)

    def trouble(_: Sequence[Line]) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure

    run = Run(sink := Told(trouble))
    run.waiting.put(texts(0, 3))
    run.end()
    assert sink.times == [0, 1, 2] and run.follower.failures == 5 and run.follower.failing is None
    assert run.said == [
        f"warning: pager:7: {reason}; lines wait and are sent again",
        "note: pager:7: takes lines again",
    ]


def test_lines_that_are_never_taken_are_left_out() -> None:
    def trouble(lines: Sequence[Line]) -> None:
        if any(line.entry["time"] % 3 == 1 for line in lines):
            raise RefusedLinesError("no such time")

    run = Run(sink := Told(trouble))
    run.waiting.put(texts(0, 12))
    run.end()
    assert sink.times == [0, 2, 3, 5, 6, 8, 9, 11] and run.follower.refused == 4
    # Not a line of messages for each: the 1st, 2nd, 4th.
    assert [text.rpartition("(")[2] for text in run.said] == ["1 in all)", "2 in all)", "4 in all)"]


def test_the_receiver_says_how_long_to_wait() -> None:
    answers = iter([DeliveryError("later", 0.05), DeliveryError("at once", 0.0), None])
    times: list[float] = []

    def trouble(_: Sequence[Line]) -> None:
        times.append(time.monotonic())
        if (answer := next(answers)) is not None:
            raise answer

    run = Run(Told(trouble))
    run.waiting.put(texts(0, 1))
    run.end()
    assert times[1] - times[0] >= 0.05 and times[2] - times[1] >= 0.001, "it does not ask without a pause"


def test_it_stops_although_the_receiver_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT", 60.0)

    def trouble(_: Sequence[Line]) -> None:
        raise DeliveryError("away")

    run = Run(sink := Told(trouble))
    run.waiting.put(texts(0, 3))
    until(lambda: run.follower.failing)
    run.follower.stop()
    run.follower.join(10)
    assert not run.follower.alive and sink.closed and run.waiting.left == sum(map(len, texts(0, 3)))


def test_what_is_no_line_is_left_out() -> None:
    run = Run(sink := Told())
    run.waiting.put(["{", "[1]", '"text"', "{}", '{"source": []}', *texts(0, 1)])
    run.end()
    assert sink.times == [0] and run.follower.refused == 5


def test_only_chosen_lines_are_sent() -> None:
    run = Run(sink := Told(), Choice("alarms"))
    run.waiting.put([*texts(0, 5), json.dumps(event(2, "onset", label="A")), *texts(5, 9)])
    run.end()
    assert sink.times == [2] and sink.calls == 1


def test_the_time_of_day_is_that_of_the_decision() -> None:
    """Also for an alarm of the same moment, which has none of its own, and not for a later event."""
    at = "2026-11-29T12:00:00.000Z"
    timed = decision(2.0, timing={"age": 0.1, "latency": 0.01, "at": at})
    run = Run(sink := Told())
    other = decision(2.0, source="b")
    run.waiting.put(
        [json.dumps(e) for e in (timed, event(2.0, "onset", label="A"), other, event(2.5, "gap"))]
    )
    run.end()
    assert [line.at for line in sink.lines] == [at, at, None, None]


def test_a_sink_that_hangs_is_left_behind() -> None:
    hangs = threading.Event()

    def hang(_: Sequence[Line]) -> None:
        hangs.wait(20)

    run = Run(Told(hang))
    run.waiting.put(texts(0, 1))
    run.follower.stop()
    run.follower.join(0.05)
    assert run.follower.alive
    hangs.set()
    run.follower.join(10)


def test_an_id_is_the_first_field_of_a_line() -> None:
    run = Run(sink := Told())
    run.waiting.put([json.dumps(decision(1.0, source='a"\\ü'), ensure_ascii=False)])
    run.end()
    (line,) = sink.lines
    entry = json.loads(line.with_id)
    assert entry == {"id": line.id, **line.entry} and next(iter(entry)) == "id"
