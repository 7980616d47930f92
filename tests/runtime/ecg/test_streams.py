"""From electrodes to decisions: the same as on the whole record, however the samples come in."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import resample_poly

from multires_edge.base.errors import BackendError, DataError, InputError, MultiresError, StateError
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.sources.protocol import SignalSpec
from multires_edge.runtime.ecg.stream import EcgStream
from multires_edge.runtime.ecg.streams import EcgStreams
from tests.runtime.conftest import CARD, beats

LEADS = ["I", "II"]
X = beats(6, 500)


def decide(
    bundle: Bundle, x: NDArray[Any], cuts: Iterable[int] = (), **options: Any
) -> tuple[list[Decision], list[Event]]:
    stream = EcgStream(bundle, leads=LEADS, **{"rate": 500} | options)
    decisions = [d for part in np.split(x, sorted(cuts)) for d in stream.feed(part)]
    return decisions + stream.finish(), stream.events


def same(a: list[Decision], b: list[Decision]) -> bool:
    return a == b and all(np.array_equal(x.logits, y.logits) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
class TestOnARealRecord:
    def test_equals_the_full_graph_on_the_whole(
        self, twelve_leads: Bundle, ludb: tuple[NDArray[np.float64], list[str]]
    ) -> None:
        samples, names = ludb
        stream = EcgStream(twelve_leads, leads=names)
        decisions = [d for part in np.split(samples, 10) for d in stream.feed(part)] + stream.finish()
        assert [d.time for d in decisions] == [0.5 * (i + 1) for i in range(20)]
        preprocessing = twelve_leads.preprocessing
        assert preprocessing is not None and preprocessing.high_pass is not None
        order = [[n.casefold() for n in names].index(c.casefold()) for c in preprocessing.channels]
        resampled = resample_poly(samples[:, order].T, 1, 5, axis=1, padtype="edge")
        mv = preprocessing.high_pass.apply(resampled, 100)
        for decision in decisions:
            steps = round(decision.time * 100)
            expected = twelve_leads.full()(preprocessing.normalize(mv)[None, :, :steps])[0]
            assert np.abs(decision.logits - expected).max() < 1e-4
            assert np.allclose(
                list((decision.probabilities or {}).values()), 1 / (1 + np.exp(-expected)), atol=1e-4
            )
            assert decision.quality == {}

    @pytest.mark.parametrize("chunk", [1, 7, 100, 5000])
    def test_chunks_make_no_difference(
        self, twelve_leads: Bundle, ludb: tuple[NDArray[np.float64], list[str]], chunk: int
    ) -> None:
        samples = ludb[0][:2000]
        runs = []
        for n in (chunk, 2000):
            stream = EcgStream(twelve_leads, leads=ludb[1], pool="window:1s")
            runs.append([d for i in range(0, 2000, n) for d in stream.feed(samples[i : i + n])])
        assert len(runs[0]) == 5
        assert same(*runs)


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 3000), max_size=12),
    st.sampled_from(["hold", "zero", "restart:0.3s"]),
    st.sampled_from(["bundle", "window:1s", "reset:0.7s"]),
    st.sampled_from([100, 250, 257, 360, 500, 50]),
    st.integers(0, 2**32),
)
def test_damage_and_chunks_make_no_difference(
    opened: Bundle, cuts: list[int], gap: str, pool: str, rate: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    x = X.copy()
    for _ in range(3):
        start, length = random.integers(0, 2900), random.integers(1, 400)
        x[start : start + length, slice(None) if random.random() < 0.7 else 1] = np.nan
    options: dict[str, Any] = {"gap": gap, "pool": pool, "rate": rate, "thresholds": ["A=0.5:0.45"]}
    whole, events = decide(opened, x, **options)
    parts, part_events = decide(opened, x, cuts, **options)
    assert same(whole, parts) and events == part_events
    assert all(later.time > earlier.time for earlier, later in pairwise(whole))


class TestGaps:
    def gap(self, opened: Bundle, policy: str, x: NDArray[Any]) -> list[Decision]:
        return decide(opened, x, gap=policy)[0]

    def test_hold_is_a_flat_line_in_between(self, opened: Bundle) -> None:
        x, held = X.copy(), X.copy()
        x[1000:1400, 0] = np.nan
        held[1000:1400, 0] = X[999, 0]
        got = self.gap(opened, "hold", x)
        expected = self.gap(opened, "hold", held)
        assert all(np.array_equal(a.logits, b.logits) for a, b in zip(got, expected, strict=True))
        assert [d.time for d in got if "nan" in d.quality.get("I", ())] == [2.0, 2.5, 3.0]

    def test_zero_is_the_cards_mean(self, opened: Bundle) -> None:
        x, zero = X.copy(), X.copy()
        x[1000:1400] = np.nan
        zero[1000:1400] = CARD["preprocessing"]["mean"]
        got, expected = self.gap(opened, "zero", x), self.gap(opened, "zero", zero)
        assert all(np.array_equal(a.logits, b.logits) for a, b in zip(got, expected, strict=True))

    def test_restart_is_a_fresh_stream_behind_the_gap(self, opened: Bundle) -> None:
        x = X.copy()
        x[700:1700] = np.nan
        decisions, events = decide(opened, x, gap="restart:0.5s")
        fresh, _ = decide(opened, X[1700:])
        assert [d.time for d in decisions[:3]] == [0.5, 1.0, 1.5]
        after = decisions[3:]
        assert [round(d.time - 3.4, 9) for d in after] == [d.time for d in fresh]
        assert [d.seen for d in after] == [d.seen for d in fresh]
        assert all(np.array_equal(a.logits, b.logits) for a, b in zip(after, fresh, strict=True))
        assert [(event.kind, event.time) for event in events] == [("silent", 1.9), ("restart", 3.4)]

    def test_restart_with_a_lead_that_is_not_there(self, opened: Bundle) -> None:
        x = X[:, :1].copy()
        x[700:1700] = np.nan
        stream = EcgStream(opened, leads=["I"], allow_missing=True, gap="restart:0.5s")
        decisions = stream.feed(x)
        assert [event.kind for event in stream.events] == ["silent", "restart"]
        assert all(d.quality["II"] == ("missing",) for d in decisions)

    def test_restart_bears_a_shorter_gap_or_a_lead_alone(self, opened: Bundle) -> None:
        x = X.copy()
        x[700:940] = np.nan
        x[1500:2500, 1] = np.nan
        assert same(self.gap(opened, "restart:0.5s", x), self.gap(opened, "hold", x))

    def test_samples_that_never_came(self, opened: Bundle) -> None:
        stream = EcgStream(opened, leads=LEADS)
        decisions = stream.feed(X[:1000]) + stream.missing(500) + stream.feed(X[1500:]) + stream.finish()
        x = X.copy()
        x[1000:1500] = np.nan
        expected, _ = decide(opened, x)
        assert all(np.array_equal(a.logits, b.logits) for a, b in zip(decisions, expected, strict=True))
        assert [d.time for d in decisions if d.quality] == [2.0, 2.5, 3.0]
        assert {flags for d in decisions for flags in d.quality.values()} == {("gap",)}


class TestPools:
    def test_reset_is_a_record_at_a_time(self, opened: Bundle) -> None:
        decisions, _ = decide(opened, X, pool="reset:2s", every="2s")
        preprocessing = opened.preprocessing
        assert preprocessing is not None
        mv = resample_poly(X.T, 1, 5, axis=1, padtype="edge")
        pieces = np.stack(np.split(preprocessing.normalize(mv), 3, axis=1))
        assert np.abs(np.stack([d.logits for d in decisions]) - opened.full()(pieces)).max() < 1e-4
        assert [d.seen for d in decisions] == [2.0] * 3

    def test_a_window_is_that_of_a_bundle_exported_so(self, opened: Bundle, tmp_path: Any) -> None:
        from multires_edge.export import export_bundle

        home = opened.path.parent
        windowed = open_bundle(
            export_bundle(home / "ckpt.pth", tmp_path / "w", pool="window:100", card=home / "card.json").path
        )
        mine, own = decide(opened, X, pool="window:1s")[0], decide(windowed, X)[0]
        assert same(mine, own)
        assert [d.seen for d in own][:4] == [0.5, 1, 1, 1]
        graph = decide(windowed, X, pool="window:1s", backend="onnxruntime")[0]
        assert max(np.abs(a.logits - b.logits).max() for a, b in zip(graph, own, strict=True)) < 1e-4

    def test_a_graph_cannot_change_its_own(self, opened: Bundle) -> None:
        with pytest.raises(BackendError, match="export the bundle with --pool window:100"):
            EcgStream(opened, leads=LEADS, pool="window:1s", backend="onnxruntime")
        with pytest.raises(BackendError, match="pool bundle takes the graph's as it is"):
            EcgStream(opened, leads=LEADS, backend="onnxruntime")
        with pytest.raises(BackendError, match=r"expected auto or native, onnxruntime, cuda, tensorrt$"):
            EcgStream(opened, leads=LEADS, backend="trt")
        assert decide(opened, X, pool="bundle", backend="onnxruntime")[0]


class TestManySources:
    sources = (
        SignalSpec(["I", "II"], 500, "mV", "a"),
        SignalSpec(["II", "I"], 360, "uV", "b"),
        SignalSpec(["I", "II"], 128, "mV", "c"),
    )

    def signals(self) -> list[NDArray[Any]]:
        return [beats(4, 500), 1e3 * beats(6, 360, seed=1), beats(5, 128, seed=2)]

    def alone(self, bundle: Bundle, **options: Any) -> list[list[Decision]]:
        runs = []
        for source, x in zip(self.sources, self.signals(), strict=True):
            stream = EcgStream(
                bundle, leads=source.leads, rate=source.rate, unit=source.unit, name=source.name, **options
            )
            runs.append(stream.feed(x) + stream.finish())
        return runs

    @pytest.mark.parametrize("pool", ["window:1s", "reset:0.7s"])
    @pytest.mark.parametrize("lockstep", [False, True])
    def test_each_gets_what_it_would_alone(self, opened: Bundle, lockstep: bool, pool: str) -> None:
        streams = EcgStreams(opened, self.sources, lockstep=lockstep, pool=pool)
        out = []
        for start in np.arange(0, 6, 0.7):
            for row, (source, x) in enumerate(zip(self.sources, self.signals(), strict=True)):
                streams.feed(row, x[round(start * source.rate) : round((start + 0.7) * source.rate)])
                out += streams.pump()
        for row in range(3):
            streams.finish(row)
        out += streams.pump()
        for source, expected in zip(self.sources, self.alone(opened, pool=pool), strict=True):
            got = [d for d in out if isinstance(d, Decision) and d.source == source.name]
            assert got == expected

    def test_one_that_has_ended_keeps_its_state_for_what_it_has_left(self, opened: Bundle) -> None:
        """Resets that are no multiple of decisions cut blocks of several lengths; a call takes one."""
        streams = EcgStreams(opened, self.sources, pool="reset:1.3s")
        signals, out = self.signals(), []
        for row in (1, 0, 2):
            streams.feed(row, signals[row][: len(signals[row]) // 2])
            out += streams.pump()
            streams.feed(row, signals[row][len(signals[row]) // 2 :])
            streams.finish(row)
            out += streams.pump()
        for source, expected in zip(self.sources, self.alone(opened, pool="reset:1.3s"), strict=True):
            got = [d for d in out if isinstance(d, Decision) and d.source == source.name]
            assert got == expected

    @pytest.mark.parametrize("pool", ["bundle", "reset:0.7s"])
    def test_each_on_its_own_waits_for_nobody(self, opened: Bundle, pool: str) -> None:
        streams = EcgStreams(opened, self.sources, lockstep=False, gap="restart:0.2s", pool=pool)
        x = self.signals()[0]
        x[600:900] = np.nan
        streams.feed(0, x)
        streams.finish(0)
        got = [d for d in streams.pump() if isinstance(d, Decision)]
        assert same(got, decide(opened, x, gap="restart:0.2s", pool=pool, name="a")[0])
        with pytest.raises(StateError, match="the state has 1 networks, expected 3"):
            streams.load(EcgStreams(opened, self.sources).save())

    def test_in_lockstep_their_order_is_that_of_the_record(self, opened: Bundle) -> None:
        orders = []
        for chunk in (0.3, 2.1):
            streams = EcgStreams(opened, self.sources)
            out = []
            for start in np.arange(0, 6, chunk):
                for row, (source, x) in enumerate(zip(self.sources, self.signals(), strict=True)):
                    streams.feed(row, x[round(start * source.rate) : round((start + chunk) * source.rate)])
                out += streams.pump()
            for row in range(3):
                streams.finish(row)
            orders.append(out + streams.pump())
        assert orders[0] == orders[1]

    @pytest.mark.parametrize("lockstep", [False, True])
    def test_a_saved_state_goes_on(self, opened: Bundle, lockstep: bool) -> None:
        signals, expected = self.signals(), self.alone(opened)
        streams = EcgStreams(opened, self.sources, lockstep=lockstep)
        streams.feed(0, signals[0])
        streams.feed(1, signals[1][:500])
        streams.note(1, "lost", message="a cable")
        out = streams.pump()
        other = EcgStreams(opened, self.sources, lockstep=lockstep)
        other.load(streams.save())
        other.feed(1, signals[1][500:])
        other.feed(2, signals[2])
        for row in range(3):
            other.finish(row)
        out += other.pump()
        for source, alone in zip(self.sources, expected, strict=True):
            assert [d for d in out if isinstance(d, Decision) and d.source == source.name] == alone
        assert [e.details for e in out if isinstance(e, Event)] == [{"message": "a cable"}]


def test_a_source_that_was_away_has_the_same_flags_with_look_ahead(opened: Bundle) -> None:
    """Values that were missing before it went are told, whether they were worked on or not."""
    x = X.copy()
    x[297:299, 1] = np.nan
    runs = []
    for prepared in (False, True):
        streams = EcgStreams(opened, [SignalSpec(LEADS, 500, "mV")])
        streams.feed(0, x[:299])
        items = streams.pump()
        if prepared:
            streams.prepare(0)
        streams.reopen(0)
        streams.feed(0, x[299:])
        streams.finish(0)
        runs.append(items + streams.pump())
    assert runs[0] == runs[1]
    flags = [item.quality.get("II") for item in runs[0] if isinstance(item, Decision)]
    assert flags[:3] == [None, ("nan",), None]


def test_a_rate_of_numpys_is_a_number(opened: Bundle) -> None:
    stream = EcgStream(opened, leads=LEADS, rate=np.float32(500))  # type: ignore[arg-type]
    assert stream.feed(beats(2, 500)) == EcgStream(opened, leads=LEADS, rate=500).feed(beats(2, 500))


def test_what_a_monitor_draws(opened: Bundle) -> None:
    seen: list[tuple[int, int, NDArray[np.float64]]] = []
    source = SignalSpec(["II", "I"], 500, "uV")
    streams = EcgStreams(opened, [source], on_samples=lambda *call: seen.append(call))
    for part in np.split(X, [100, 300]):
        streams.feed(0, 1e3 * part[:, ::-1])
    assert [(row, first, len(x)) for row, first, x in seen] == [(0, 0, 100), (0, 100, 200), (0, 300, 2700)]
    assert np.allclose(np.concatenate([x for *_, x in seen]), X)


def test_age_and_latency_of_a_live_source(opened: Bundle) -> None:
    import time

    stream = EcgStream(opened, leads=LEADS)
    (decision,) = stream.feed(X[:300], arrived=time.monotonic() - 2)
    assert decision.timing is not None
    assert decision.timing.latency >= 2
    assert decision.timing.age == pytest.approx(decision.timing.latency + stream.delay)
    assert stream.delay == pytest.approx(0.1)
    assert "timing" in decision.to_json()
    assert "timing" not in decide(opened, X)[0][0].to_json()


def test_softmax_where_the_card_says_nothing_else(opened: Bundle, tmp_path: Any) -> None:
    import json

    from multires_edge.export import export_bundle

    (tmp_path / "card.json").write_text(json.dumps({k: v for k, v in CARD.items() if k != "output"}))
    exported = export_bundle(opened.path.parent / "ckpt.pth", tmp_path / "soft", card=tmp_path / "card.json")
    (first, *_), _ = decide(open_bundle(exported.path), X)
    assert sum((first.probabilities or {}).values()) == pytest.approx(1)


class TestRefusals:
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((5, 3)), r"shape \(5, 3\), expected \(n, 2\): I, II"),
            (np.zeros(5), r"shape \(5,\)"),
            (np.array([["1", "2"]]), "expected an array of numbers"),
            ([[1.0, 2.0]], "samples are list"),
        ],
    )
    def test_samples(self, opened: Bundle, x: Any, message: str) -> None:
        stream = EcgStream(opened, leads=LEADS)
        with pytest.raises(InputError, match=message):
            stream.feed(x)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rate": 20}, "ecg: the rate is 20 Hz, expected 50 to 2000"),
            ({"rate": float("nan")}, "ecg: the rate is nan Hz, expected 50 to 2000"),
            ({"rate": "500"}, "ecg: the rate is 500 Hz"),
            ({"unit": None}, "ecg: the unit is None, expected uV, mV or V"),
            ({"rate": float("inf")}, "ecg: the rate is inf Hz, expected 50 to 2000"),
            ({"leads": ["I", "V1"]}, "ecg: no lead II; the source has I, V1"),
            ({"every": 0.001}, "every is 0.001 s"),
            ({"unit": "bar"}, "the unit of I is unknown, expected uV, mV or V"),
            ({"thresholds": ["D=0.5"]}, "the labels are A, B, C"),
        ],
    )
    def test_arguments(self, opened: Bundle, options: dict[str, Any], message: str) -> None:
        with pytest.raises(MultiresError, match=message):
            EcgStream(opened, **{"leads": LEADS} | options)

    def test_what_cannot_be_missing(self, opened: Bundle) -> None:
        stream = EcgStream(opened, leads=LEADS)
        for count in (-1, 1.5):
            with pytest.raises(
                InputError, match=f"ecg: {count} samples are missing, expected a whole number"
            ):
                stream.missing(count)  # type: ignore[arg-type]

    def test_bundles(self, exported: Any, token_classifier: Any, drawing: Any) -> None:
        for path, message in (
            (exported, "has no card"), (drawing, "autoregressive"),
            (token_classifier, "expected a classifier of signals"),
        ):  # fmt: skip
            with pytest.raises(InputError, match=message):
                EcgStream(open_bundle(path), leads=LEADS)

    def test_after_the_end(self, opened: Bundle) -> None:
        stream = EcgStream(opened, leads=LEADS)
        stream.finish()
        with pytest.raises(StateError, match="has ended"):
            stream.feed(X)

    def test_no_sources(self, opened: Bundle) -> None:
        with pytest.raises(InputError, match="no sources"):
            EcgStreams(opened, [])
        with pytest.raises(DataError, match="b: no lead"):
            EcgStreams(opened, [SignalSpec(LEADS), SignalSpec(["X"], name="b")])
