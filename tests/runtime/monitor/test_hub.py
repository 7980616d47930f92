"""What browsers are told: everything once, the newest when they are slow, the past when they are late."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import numpy as np
import pytest

from multires_edge.runtime.monitor.hub import MOST_CLIENTS, Client, Hub, Message
from multires_edge.runtime.monitor.patient import HISTORY_SECONDS, Identity, frame_length

RATE = 100.0


def make_hub() -> Hub:
    patients = [Identity("a", "Bed 1", RATE), Identity("b", "Bed 2", RATE, missing=["V1"])]
    return Hub(patients, ["I", "V1"], {"labels": ["X"]})


def joined(hub: Hub) -> Client:
    client = hub.join()
    assert client is not None
    return client


def take(client: Client) -> list[Message]:
    return asyncio.run(client.take())


def told(messages: list[Message]) -> list[dict[str, Any]]:
    return [json.loads(message) for message in messages if isinstance(message, str)]


def event(kind: str, time: float = 1.0, **details: Any) -> str:
    return json.dumps({"type": "event", "source": "a", "time": time, "event": kind, **details})


def status(hub: Hub, source: str = "a") -> dict[str, Any]:
    """A patient's state as a browser that joins now is told it."""
    client = joined(hub)
    messages = told(take(client))
    hub.leave(client)
    return next(m for m in messages if m["type"] == "status" and m["source"] == source)


def test_a_frame_holds_samples_in_millivolt() -> None:
    hub = make_hub()
    client = joined(hub)
    take(client)
    x = np.array([[0.5, np.nan], [1.5, -2.25], [0.0, 1.0]])
    hub.samples(1, 700, x)
    frame = next(message for message in take(client) if isinstance(message, bytes))
    assert struct.unpack_from("<IId", frame) == (1, 2, 700.0)
    np.testing.assert_array_equal(np.frombuffer(frame, "<f4", offset=16).reshape(-1, 2), x)
    assert frame_length(frame) == 3


def test_lines_are_passed_on_as_they_are() -> None:
    hub = make_hub()
    client = joined(hub)
    take(client)
    line = '{"type": "decision",   "source": "b", "time": 0.5, "probabilities": {"X": 0.100000}}'
    hub.line(line)
    assert take(client) == [line]


class TestStates:
    @pytest.mark.parametrize(
        ("events", "feed"),
        [
            ([], "waiting"),
            (["stalled"], "stalled"),
            (["stalled", "resumed"], "live"),
            (["silent"], "silent"),
            (["silent", "restart"], "live"),
            (["lost"], "lost"),
            (["lost", "connected"], "live"),
            (["truncated"], "lost"),
            (["stalled", "gap", "late"], "stalled"),
        ],
    )
    def test_follow_events(self, events: list[str], feed: str) -> None:
        hub = make_hub()
        for kind in events:
            hub.line(event(kind, message="why"))
        assert status(hub)["feed"] == feed
        assert status(hub, "b")["feed"] == "waiting"

    def test_samples_make_it_live(self) -> None:
        hub = make_hub()
        client = joined(hub)
        hub.samples(0, 0, np.zeros((10, 2)))
        hub.samples(0, 10, np.zeros((10, 2)))
        assert [m["feed"] for m in told(take(client)) if m["type"] == "status"][2:] == ["live"]

    def test_what_was_lost_has_not_just_ended(self) -> None:
        hub = make_hub()
        hub.ended(1)
        hub.line(event("lost", message="connection reset"))
        hub.ended(0)
        assert status(hub, "b")["feed"] == "ended"
        assert (status(hub)["feed"], status(hub)["message"]) == ("lost", "connection reset")

    def test_alarms_last_from_onset_to_offset(self) -> None:
        hub = make_hub()
        hub.line(event("onset", 3.0, label="X", probability=0.9))
        assert status(hub)["alarms"] == {"X": 3.0}
        hub.line(event("offset", 4.0, label="X", probability=0.1))
        assert status(hub)["alarms"] == {}


class TestAcknowledging:
    """Kept by the hub, told to every browser, and over when the alarm is."""

    def seen(self, since: float = 3.0, **changes: Any) -> str:
        return json.dumps({"type": "acknowledge", "source": "a", "label": "X", "since": since} | changes)

    def test_every_browser_is_told(self) -> None:
        hub = make_hub()
        hub.line(event("onset", 3.0, label="X", probability=0.9))
        clients = [joined(hub) for _ in range(2)]
        for client in clients:
            take(client)
        assert hub.hear(self.seen())
        assert [told(take(client))[0]["acknowledged"] for client in clients] == [["X"], ["X"]]
        assert status(hub)["acknowledged"] == ["X"], "and so is who comes later"

    @pytest.mark.parametrize("end", ["offset", "lost"])
    def test_ends_with_the_alarm(self, end: str) -> None:
        hub = make_hub()
        hub.line(event("onset", 3.0, label="X", probability=0.9))
        hub.hear(self.seen())
        hub.line(event(end, 4.0, label="X", probability=0.1))
        assert status(hub)["acknowledged"] == []
        hub.line(event("onset", 5.0, label="X", probability=0.9))
        assert status(hub)["acknowledged"] == []

    @pytest.mark.parametrize("changes", [{"since": 2.0}, {"label": "Y"}, {"source": "b"}, {"source": "c"}])
    def test_another_alarm_than_the_one_that_was_seen(self, changes: dict[str, Any]) -> None:
        hub = make_hub()
        hub.line(event("onset", 3.0, label="X", probability=0.9))
        assert hub.hear(self.seen(**changes))
        assert status(hub)["acknowledged"] == []

    @pytest.mark.parametrize(
        "message",
        ["", "{", "null", "[]", "[" * 1000, "{}", '{"type": "hello"}', b"x", '{"type": "acknowledge"}',
         '{"type": "acknowledge", "source": 1, "label": "X", "since": 3}',
         '{"type": "acknowledge", "source": "a", "label": ["X"], "since": 3}'],
    )  # fmt: skip
    def test_other_messages_are_not_valid(self, message: str | bytes) -> None:
        assert not make_hub().hear(message)


class TestJoining:
    def test_the_past_comes_first_and_in_order(self) -> None:
        hub = make_hub()
        for second in range(100):
            hub.samples(0, second * 100, np.full((100, 2), second))
            hub.line(event("gap", float(second)))
        client = joined(hub)
        hub.line(event("gap", 100.0))
        messages = take(client)
        kinds = [m["type"] for m in told(messages)]
        assert kinds[0] == "hello" and kinds[-2:] == ["now", "event"]
        frames = [message for message in messages if isinstance(message, bytes)]
        firsts = [struct.unpack_from("<IId", frame)[2] for frame in frames]
        assert firsts == [100.0 * s for s in range(100 - round(HISTORY_SECONDS), 100)]
        hello = told(messages)[0]
        assert hello["channels"] == ["I", "V1"] and hello["labels"] == ["X"]
        assert [(p["name"], p["missing"]) for p in hello["patients"]] == [("Bed 1", []), ("Bed 2", ["V1"])]

    def test_history_is_bounded(self) -> None:
        hub = make_hub()
        for i in range(5000):
            hub.samples(0, i * 10, np.zeros((10, 2)))
            hub.line(event("gap", float(i)))
        assert len(take(joined(hub))) < 2000

    def test_a_run_knows_itself_again(self) -> None:
        hub, other = make_hub(), make_hub()
        runs = [told(take(joined(h)))[0]["run"] for h in (hub, hub, other)]
        assert runs[0] == runs[1] != runs[2]

    def test_not_without_end(self) -> None:
        hub = make_hub()
        clients = [joined(hub) for _ in range(MOST_CLIENTS)]
        assert hub.join() is None
        hub.leave(clients[0])
        assert hub.join() is not None


class TestSlowBrowsers:
    def test_lose_the_oldest_and_are_told(self) -> None:
        client = Client([], 1000, lambda: ["now so"])
        for i in range(10):
            client.put(bytes(100), samples=7)
            client.put(f"{i}" * 100, lines=1)
        first, *rest = take(client)
        assert json.loads(first) == {"type": "dropped", "samples": 35, "lines": 5}
        assert rest[1::2] == [f"{i}" * 100 for i in range(5, 10)]
        assert rest[-1] == "now so"
        client.put("x")
        assert take(client) == ["x"]

    def test_keep_the_newest_however_large(self) -> None:
        client = Client(["hello"], 10, list)
        client.put(bytes(100), samples=1)
        assert take(client) == ["hello", bytes(100)]

    def test_do_not_lose_the_greeting_nor_hold_up_others(self) -> None:
        hub = make_hub()
        slow, quick = joined(hub), joined(hub)
        take(quick)
        for i in range(1000):
            hub.samples(0, 100 * i, np.zeros((100, 2)))
            assert len([m for m in take(quick) if isinstance(m, bytes)]) == 1
        messages = take(slow)
        assert told(messages)[0]["type"] == "hello"
        lost = next(m for m in told(messages) if m["type"] == "dropped")
        kept = sum(frame_length(m) for m in messages if isinstance(m, bytes))
        assert lost["samples"] + kept == 100_000 and lost["samples"] > 50_000
        assert told(messages)[-2]["feed"] == "live"  # the state of "a", whatever became of the news

    def test_wait_while_there_is_nothing(self) -> None:
        async def waits() -> bool:
            client = Client([], 10, list)
            await client.take()  # the greeting, of nothing
            try:
                await asyncio.wait_for(client.take(), 0.01)
            except asyncio.TimeoutError:
                return True
            return False

        assert asyncio.run(waits())
