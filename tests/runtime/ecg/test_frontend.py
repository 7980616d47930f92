"""Gaps of seconds and of hours: bounded work, no decision on time that was not seen, and right times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.runtime import Bundle, EcgStream
from multires_edge.runtime.ecg.decision import Decision
from multires_edge.runtime.ecg.frontend import FrontEnd
from tests.runtime.conftest import beats

RATE = 250
X = beats(30, RATE)
HOUR = 3600 * RATE

# A recording in parts: samples, or a number of samples that never arrived.
Part = NDArray[np.float64] | int


def run(
    bundle: Bundle, parts: list[Part], *, save_at: int = -1, prepare_every: int = 0, **options: Any
) -> tuple[list[Any], list[Any]]:
    """Decisions as JSON with their logits, and events; with look-ahead after some of the parts."""
    arguments: dict[str, Any] = {"leads": ["I", "II"], "rate": RATE} | options
    stream, decisions, events = EcgStream(bundle, **arguments), [], []
    for i, part in enumerate(parts):
        if i == save_at:
            saved = stream.save()
            events += stream.events
            stream = EcgStream(bundle, **arguments)
            stream.load(saved)
        decisions += stream.missing(part) if isinstance(part, int) else stream.feed(part)
        if prepare_every and i % prepare_every == 0:
            stream.prepare()
    decisions += stream.finish()
    return [_shown(d) for d in decisions], [e.to_json() for e in events + stream.events]


def _shown(decision: Decision) -> tuple[Any, ...]:
    return decision.time, decision.seen, decision.quality, decision.probabilities, decision.logits.tolist()


class TestAGapOfAnHour:
    def test_nothing_is_decided_on_time_that_was_not_seen(self, opened: Bundle) -> None:
        decisions, events = run(opened, [X[:5000], HOUR, X])
        fresh, _ = run(opened, [X])
        after = [d for d in decisions if d[0] > 3600]
        assert [d[0] - 3620 for d in after] == pytest.approx([d[0] for d in fresh])
        assert [d[1:2] + d[3:] for d in after] == [d[1:2] + d[3:] for d in fresh]
        assert after[0][2] == {"I": ("gap",), "II": ("gap",)} and after[1][2] == {}
        before = [d for d in decisions if d[0] < 3600]
        assert before[-1][0] == 20 and all(d[3] for d in before)
        assert before[:39] == run(opened, [X[:5000]])[0][:39]
        assert [(e["event"], e["time"]) for e in events] == [("silent", 20.1), ("restart", 3620.0)]

    def test_a_running_alarm_ends_as_lost(self, opened: Bundle) -> None:
        _, events = run(opened, [X[:5000], HOUR, X], thresholds=["A=0.01:0.005"])
        assert [(e["event"], e["time"]) for e in events if "label" in e] == [
            ("onset", 10.0), ("lost", 20.1), ("onset", 3630.0),
        ]  # fmt: skip

    def test_its_work_is_that_of_seconds(self, opened: Bundle) -> None:
        stream = EcgStream(opened, leads=["I", "II"], rate=RATE)
        steps = 0
        network, plain = stream._streams._networks, stream._streams._networks.run

        def counted(runs: Any, finished: Any) -> Any:
            nonlocal steps
            steps += sum(block.length for blocks in runs.values() for block in blocks)
            return plain(runs, finished)

        network.run = counted  # type: ignore[method-assign]
        for _ in range(50):
            stream.feed(X[:1])
            stream.missing(HOUR)
        assert steps < 50 * 100
        assert stream.feed(X)[0].time == pytest.approx(50 * 3600.004 + 0.5)

    def test_many_of_them_are_few_events(self, opened: Bundle) -> None:
        stream = EcgStream(opened, leads=["I", "II"], rate=RATE)
        for _ in range(50):
            stream.feed(X[:25])
            stream.missing(HOUR)
        stream.feed(X[:5000])  # there is room again
        stream.missing(HOUR)
        stream.feed(X)
        kinds = [event.kind for event in stream.events]
        told = [kind for kind in kinds if kind != "dropped_events"]
        assert "dropped_events" in kinds and len(kinds) < 40 and kinds[-2:] == ["silent", "restart"]
        assert told == ["silent", "restart"] * (len(told) // 2)

    def test_a_gap_of_seconds_is_filled(self, opened: Bundle) -> None:
        held = X.copy()
        held[2000:3000] = np.nan
        decisions, events = run(opened, [X[:2000], 1000, X[3000:]])
        assert [d[4] for d in decisions] == [d[4] for d in run(opened, [held])[0]] and not events

    def test_the_next_value_starts_over_not_the_next_sample(self, opened: Bundle) -> None:
        off = np.full((1000, 2), np.nan)
        decisions, events = run(opened, [X[:2500], 10 * RATE, off, X])
        assert [(e["event"], e["time"]) for e in events] == [("silent", 10.1), ("restart", 24.0)]
        assert not [d for d in decisions if 10 < d[0] < 24]


PARTS = st.lists(
    st.one_of(st.integers(1, 900), st.tuples(st.sampled_from(["feed", "off"]), st.integers(1, 900))),
    min_size=3, max_size=8,
)  # fmt: skip


@settings(max_examples=40)
@given(
    PARTS,
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
    st.integers(0, 20),
    st.integers(0, 3),
    st.sampled_from(["hold", "zero", "restart:0.7s"]),
    st.sampled_from(["bundle", "window:1s", "reset:0.7s"]),
    st.sampled_from(["0.01s", "0.5s", "20s"]),
    st.sampled_from([RATE, 77, 360]),
)
def test_chunks_saved_states_and_look_ahead_give_the_same_bits(
    opened: Bundle,
    parts: list[Any],
    sizes: list[int],
    save_at: int,
    prepare_every: int,
    gap: str,
    pool: str,
    every: str,
    rate: int,
) -> None:
    """Samples that never arrived come in chunks too, as those of lost packets do."""
    record: list[Part] = []
    for part in parts:
        if isinstance(part, int):
            record.append(5 * part)
        else:
            kind, length = part
            record.append(X[:length] if kind == "feed" else np.full((length, 2), np.nan))
    cut: list[Part] = []
    for number, piece in enumerate(record):
        size = sizes[number % len(sizes)]
        if isinstance(piece, int):
            cut += [size] * (piece // size) + [piece % size]
        else:
            cut += [piece[i : i + size] for i in range(0, len(piece), size)]
    options: dict[str, Any] = {
        "gap": gap, "pool": pool, "every": every, "rate": rate, "thresholds": ["A=0.405:0.402"],
    }  # fmt: skip
    again = run(opened, cut, save_at=save_at, prepare_every=prepare_every, **options)
    assert run(opened, record, **options) == again


def test_long_blocks_are_cut_and_decide_as_before(opened: Bundle) -> None:
    decisions, _ = run(opened, [X], every="15s")
    often, _ = run(opened, [X], every="5s")
    assert [d[4] for d in decisions] == [d[4] for d in often[2::3]]
    preprocessing = opened.preprocessing
    assert preprocessing is not None
    front = FrontEnd(
        EcgStream(opened, leads=["I", "II"], rate=RATE)._signal, preprocessing, every=1500, longest=1000
    )
    front.add_mapped(X)
    assert [(block.length, block.decide) for block in front.ready] == [
        (1000, False),
        (500, True),
        (500, False),
    ]
