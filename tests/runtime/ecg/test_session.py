"""Runs over sources that are killed, fed rubbish and left alone, and go on all the same."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import StateError
from multires_edge.runtime import Bundle, EcgStream
from multires_edge.runtime.ecg.checkpoint import Checkpoint, Checkpointer
from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.output_file import OutputFile
from multires_edge.runtime.ecg.session import Session
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import (
    Format,
    Missing,
    Note,
    Piece,
    Samples,
    SignalSpec,
    Source,
)
from multires_edge.runtime.ecg.state_file import StateFile
from multires_edge.runtime.ecg.streams import EcgStreams
from tests.hostile import put
from tests.runtime.conftest import beats


class Crash(BaseException):
    """The process is killed."""


class CrashingOutput(OutputFile):
    """Is killed in the middle of its n-th write, part of which is on the disk."""

    writes = 10**9

    def write(self, lines: list[str]) -> None:
        self.writes -= 1
        if self.writes < 0:
            text = "\n".join(lines)
            super().write([text[: len(text) // 2]])
            os.truncate(self.path, self.path.stat().st_size - 1)
            raise Crash
        super().write(lines)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("recordings")
    x = beats(65, 250)
    x[4000:4700] = np.nan
    np.savez(folder / "a.npz", samples=x, leads=["I", "II"], rate=250, unit="mV")
    rows = [f"{i / 128:.6f},{a:.4f},{b:.4f}" for i, (a, b) in enumerate(beats(45, 128, seed=1))]
    rows[1000] = "rubbish"
    del rows[2000:2200]
    (folder / "b.csv").write_text("\n".join(["time,II,I", *rows]) + "\n")
    return [str(folder / "a.npz"), str(folder / "b.csv")]


def run(
    bundle: Bundle, recordings: list[str], folder: Path, *, crash_at: int = 10**9, **options: Any
) -> tuple[bool, Session]:
    """One life of a run that keeps its state at every round."""
    sources = [open_source(path, Format(128, "mV")) for path in recordings]
    arguments: dict[str, Any] = {"gap": "restart:1s", "thresholds": ["A=0.405:0.402"], "pool": "window:2s"}
    streams = EcgStreams(bundle, [source.signal for source in sources], **(arguments | options))
    session = Session(streams, sources)
    file = StateFile(folder / "state")
    tree, _ = file.read()
    saved = None if tree is None else Checkpoint.from_tree(tree)
    if saved is not None:
        session.load(saved.session)
    output = CrashingOutput(folder / "out", None if saved is None else saved.output)
    output.writes = crash_at
    checkpointer = Checkpointer(session, output, file, {}, seconds=0, timing=True, say=lambda _: None)
    try:
        if saved is None:
            checkpointer.checkpoint(must=True)
        return checkpointer.run(), session
    finally:
        output.close()
        for source in sources:
            source.close()


@pytest.fixture(scope="module")
def uninterrupted(opened: Bundle, recordings: list[str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("uninterrupted")
    fine, session = run(opened, recordings, folder)
    assert fine and session.done
    return (folder / "out").read_bytes()


def test_what_a_run_gives(uninterrupted: bytes) -> None:
    entries = [json.loads(line) for line in uninterrupted.splitlines()]
    decisions = [e for e in entries if e["type"] == "decision"]
    for name, seconds in (("a.npz", 65), ("b.csv", 45)):
        times = [e["time"] for e in decisions if e["source"].endswith(name)]
        assert times == sorted(set(times)) and seconds - 1 < times[-1] <= seconds
    kinds = [e["event"] for e in entries if e["type"] == "event"]
    assert kinds.count("silent") == kinds.count("restart") == 2
    assert {"bad_line", "gap", "onset", "offset"} <= set(kinds)
    assert all("timing" not in e for e in entries)


@settings(max_examples=8)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_killed_at_any_round_the_union_is_the_same(
    opened: Bundle,
    recordings: list[str],
    uninterrupted: bytes,
    tmp_path_factory: pytest.TempPathFactory,
    crashes: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    for crash_at in [*crashes, 10**9]:
        try:
            run(opened, recordings, folder, crash_at=crash_at)
        except Crash:
            continue
        break
    assert (folder / "out").read_bytes() == uninterrupted
    # And one that had ended has nothing to add.
    run(opened, recordings, folder)
    assert (folder / "out").read_bytes() == uninterrupted


def test_a_state_of_other_sources_or_options_is_refused(
    opened: Bundle, recordings: list[str], tmp_path: Path
) -> None:
    run(opened, recordings, tmp_path)
    with pytest.raises(StateError, match=r"of other sources: .*a\.npz .*these are .*b\.csv"):
        run(opened, recordings[::-1], tmp_path)
    tree, _ = StateFile(tmp_path / "state").read()
    saved = replace(Checkpoint.from_tree(tree), options={"pool": "1"})
    with pytest.raises(StateError, match=r"pool '1', this run has '2'"):
        saved.check_options({"pool": "2"})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("session.finished", [True], "the state is not of 2 sources"),
        ("session.streams.ended", [False], "the state has 2 sources, expected 2|1 sources"),
        ("session.streams.fronts.0.counts.0", 7, "counts of samples contradict each other"),
        ("session.streams.fronts.0.counts.0", -1, r"counts\[0\] is -1, expected 0 to"),
        ("session.streams.fronts.0.waiting", np.zeros((3, 5)), "samples are not of 2 channels"),
        (
            "session.streams.fronts.0.conversion.ahead",
            np.zeros((2, 3)),
            "expected a finite float32 array with 2 axes",
        ),
        ("session.streams.fronts.0.quality.judged", np.full(2, -1), "quality is not of 2 channels"),
        (
            "session.streams.fronts.0.conversion.chain.hold.last",
            np.zeros(9),
            "the state has 9 channels, expected 2",
        ),
        (
            "session.streams.fronts.0.conversion.chain.resampler.received",
            10**9,
            "counts of samples contradict each other",
        ),
        (
            "session.streams.fronts.0.conversion.chain.resampler.past",
            np.zeros((1, 2)),
            "another rate, or damaged",
        ),
        ("session.streams.networks.networks", [], "the state has 0 networks, expected 1"),
        ("session.positions.0", {"position": -3, "ended": False}, "position is -3"),
        ("output", 1.5, "output is 1.5, expected an object or null"),
        ("output.size", -1, "output.size is -1, expected 0 to"),
        ("options", 7, "options is 7, expected an object"),
    ],
)
@pytest.mark.slow
def test_a_hostile_state(
    opened: Bundle, recordings: list[str], tmp_path: Path, path: str, value: Any, message: str
) -> None:
    file = StateFile(tmp_path / "state")
    with pytest.raises(Crash):
        run(opened, recordings, tmp_path, crash_at=2)
    tree, _ = file.read()
    file.write(put(tree, path, value))
    with pytest.raises(StateError, match=message) as caught:
        run(opened, recordings, tmp_path)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Nowhere:
    """The position of a source that cannot be read again."""


class Scripted(Source):
    """A live source that does what it is told, one list of pieces a read."""

    Position = Nowhere
    live = True

    def __init__(self, name: str, script: list[list[Piece]]) -> None:
        self.signal = SignalSpec(["I", "II"], 250, "mV", name)
        self._script = script

    def read(self, count: int) -> list[Piece]:
        pieces = self._script.pop(0)
        self.ended = not self._script
        return pieces

    def save(self) -> Nowhere:
        return Nowhere()

    def load(self, saved: Nowhere) -> None:
        pass


def test_a_source_that_stalls_and_one_that_dies_leave_the_others_alone(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def clock() -> float:
        return now

    monkeypatch.setattr("multires_edge.runtime.ecg.session.time.monotonic", clock)
    x = np.split(beats(20, 250), 20)
    steady = Scripted("steady", [[Samples(part, 0.0)] for part in x])
    stalls = Scripted("stalls", [[Samples(part, 0.0)] if not 5 <= i < 12 else [] for i, part in enumerate(x)])
    dies = Scripted(
        "dies", [[Samples(x[0], 0.0), Missing(100)], [Note("lost", {"message": "x"}, fault=True)]]
    )
    sources = [steady, stalls, dies]
    session = Session(EcgStreams(opened, [s.signal for s in sources], lockstep=False), sources)
    seen = []
    for round_, items in enumerate(session.run()):
        seen += [(round_, item.to_json()) for item in items]
        now += 1.0
    decisions = {
        name: [e for _, e in seen if e["source"] == name and e["type"] == "decision"]
        for name in ("steady", "stalls", "dies")
    }
    assert [len(d) for d in decisions.values()] == [40, 26, 2]
    # It does not wait for the others.
    assert max(r - e["time"] for r, e in seen if e["source"] == "steady" and e["type"] == "decision") < 1
    events = [(r, e["source"], e["event"]) for r, e in seen if e["type"] == "event"]
    assert (7, "stalls", "stalled") in events and (12, "stalls", "resumed") in events
    assert [name for _, name, kind in events if kind == "lost"] == ["dies"]
    assert session.faults == ["dies: lost: x"]


class Restarted(Scripted):
    """A live source of which some samples are lost, because a program was killed after it wrote decisions."""

    live = waits = True

    def skip(self, seconds: float) -> list[Piece]:
        return [Note("gap", {"seconds": seconds}), Missing(round(seconds * self.signal.rate))]


@pytest.mark.parametrize("reached", [None, 7.5, 9000.0])
def test_a_live_source_starts_over_after_the_decisions_that_it_has(
    opened: Bundle, reached: float | None
) -> None:
    first = Restarted("a", [[Samples(beats(5.05, 250), 0.0)], []])
    session = Session(EcgStreams(opened, [first.signal], lockstep=False), [first])
    before = [item for items in itertools.islice(session.run(), 1) for item in items]
    assert [item.time for item in before] == np.arange(0.5, 5.1, 0.5).tolist()[:9]
    source = Restarted("a", [[Samples(beats(2, 250), 0.0)], []])
    continued = Session(EcgStreams(opened, [source.signal], lockstep=False), [source])
    continued.load(session.save())
    continued.resume({} if reached is None else {"a": reached, "another": 99.0})
    after = [item for items in continued.run() for item in items]
    decisions = [item for item in after if isinstance(item, Decision)]
    kinds = [item.kind for item in after if isinstance(item, Event)]
    if reached is None:
        assert [d.time for d in decisions] == [5, 5.5, 6, 6.5, 7] and kinds == []
    else:
        assert [d.time for d in decisions] == [reached + t for t in (0.5, 1, 1.5, 2)]
        assert kinds == ["gap", "restart"]
        assert [d.seen for d in decisions] == [0.5, 1, 1.5, 2]


def test_recordings_at_their_own_speed(
    opened: Bundle, recordings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("multires_edge.runtime.ecg.session.time.monotonic", lambda: now)
    source = open_source(recordings[0])
    streams = EcgStreams(opened, [source.signal])
    session = Session(streams, [source], realtime=True)
    monkeypatch.setattr(session._arrival, "wait", sleep)
    for items in session.run():
        for item in items:
            # The resampler's delay, and what a round of the loop takes: no tick on top.
            assert item.time < now + 1e-9 or session.done
            assert now - item.time < streams.fronts[0].delay + 1 / 250 + 0.002
        now += 0.001
        if now > 20:
            session.stop()
    assert now == pytest.approx(20, abs=0.1)


class TestNothingReadable:
    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("a.csv", "I,II\n", "no sample could be read"),
            (
                "a.csv",
                "time,I,II\n" + "x,1,2\n" * 500,
                r"\(line 2: has a time that cannot be read",
            ),
            ("a.csv", "I,II\n" + "1,2,3\n" * 500, r"\(line 2: has 3 fields, expected 2\)"),
            ("a.jsonl", '{"leads": ["I", "II"], "rate": 250, "unit": "mV"}\n[1]\n', "rows of 2 numbers"),
        ],
    )
    def test_text(self, opened: Bundle, tmp_path: Path, name: str, content: str, reason: str) -> None:
        (tmp_path / name).write_text(content)
        self.is_said(opened, open_source(str(tmp_path / name), Format(250, "mV")), reason)

    def test_a_recording_of_no_length(self, opened: Bundle, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", samples=np.zeros((0, 2)), leads=["I", "II"], rate=250, unit="mV")
        self.is_said(opened, open_source(str(tmp_path / "a.npz")), "no sample could be read")

    def test_a_device(self, opened: Bundle) -> None:
        self.is_said(opened, Scripted("x", [[Missing(5)], []]), "no sample could be read")

    def is_said(self, bundle: Bundle, source: Source, reason: str) -> None:
        session = Session(EcgStreams(bundle, [source.signal], lockstep=not source.live), [source])
        items = [item for items in session.run() for item in items]
        (fault,) = session.faults
        assert re.search(reason, fault)
        assert [item.kind for item in items if isinstance(item, Event)][-1] == "unreadable"
        assert not any(item.probabilities for item in items if isinstance(item, Decision))

    def test_a_recording_without_a_value_is_readable(self, opened: Bundle, tmp_path: Path) -> None:
        x = np.full((1000, 2), np.nan)
        np.savez(tmp_path / "a.npz", samples=x, leads=["I", "II"], rate=250, unit="mV")
        session = Session(
            EcgStreams(opened, [(source := open_source(str(tmp_path / "a.npz"))).signal]), [source]
        )
        decisions = [item.to_json() for items in session.run() for item in items]
        assert len(decisions) == 8 and all(each["no_signal"] for each in decisions) and not session.faults


def test_a_device_that_sends_packets_of_seconds_does_not_stall(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("multires_edge.runtime.ecg.session.time.monotonic", lambda: now)
    packet: list[Piece] = [Samples(beats(4, 250), 0.0)]
    source = Scripted("x", [packet if i % 4 == 0 else [] for i in range(80)])
    session = Session(EcgStreams(opened, [source.signal], lockstep=False), [source])
    events = []
    for items in session.run():
        events += [item.kind for item in items if isinstance(item, Event)]
        now += 1.0
    assert events == ["stalled", "resumed"]  # until its interval is known


def test_events_of_a_silent_source_do_not_wait_for_a_decision(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("multires_edge.runtime.ecg.session.time.monotonic", lambda: now)
    lost: list[Piece] = [Note("lost", {"message": "power"})]
    source = Scripted("x", [[Samples(beats(1.1, 250), 0.0)], lost, [], [], [], []])
    session = Session(EcgStreams(opened, [source.signal], lockstep=False), [source])
    seen: dict[str, int] = {}
    for round_, items in enumerate(session.run()):
        seen |= {item.kind: round_ for item in items if isinstance(item, Event)}
        now += 1.0
    assert seen == {"stalled": 3, "lost": 3}


def test_a_session_works_ahead_while_no_samples_wait(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waited(Scripted):
        waits = True

        def expect(self, count: int, wake: Callable[[], None]) -> None:
            """The next packet comes after the wait."""

    x = beats(4, 250)
    source = Waited("x", [[Samples(x[i : i + 25], 0.0)] for i in range(0, len(x), 25)])
    streams = EcgStreams(opened, [source.signal], lockstep=False, pool="window:1s")
    session = Session(streams, [source])
    monkeypatch.setattr(session._arrival, "wait", lambda seconds: None)
    waiting, decisions = [], []
    for items in session.run():
        waiting.append(len(streams.fronts[0].save().waiting))
        decisions += [item for item in items if isinstance(item, Decision)]
    # A decision every 125 samples: without look-ahead, so many wait.
    assert max(waiting) < 2 * 25
    stream = EcgStream(opened, leads=["I", "II"], rate=250, pool="window:1s", name="x")
    expected = stream.feed(x) + stream.finish()
    assert [d.time for d in decisions] == [d.time for d in expected] and len(expected) == 8
    assert all(np.array_equal(a.logits, b.logits) for a, b in zip(decisions, expected, strict=True))


@pytest.mark.slow
def test_a_source_that_takes_too_long_waits_for_the_others(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("multires_edge.runtime.ecg.session.time.monotonic", lambda: now)

    class Greedy(Scripted):
        def read(self, count: int) -> list[Piece]:
            nonlocal now
            now += 0.1
            return super().read(count)

    packet: list[Piece] = [Samples(beats(1, 250), 0.0)]
    greedy, steady = Greedy("greedy", [packet] * 1000), Scripted("steady", [packet] * 1000)
    others = [Scripted(str(i), [packet] * 1000) for i in range(8)]
    sources = [greedy, steady, *others]
    session = Session(EcgStreams(opened, [s.signal for s in sources], lockstep=False), sources)
    for round_, _ in enumerate(session.run()):
        now += 0.01
        if round_ == 500:
            session.stop()
    read = {source.signal.name: 1000 - len(source._script) for source in sources}
    assert read["steady"] == 501
    # A tenth of the time, and what it may be ahead.
    assert read["greedy"] * 0.1 < 0.1 * now + 0.25 + 0.1
