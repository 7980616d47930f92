"""A stream that starts in the middle of a record makes the decisions of one that has run all along."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.base.errors import InputError, StateError
from multires_edge.export import export_bundle
from multires_edge.format.pooling import parse_pooling
from multires_edge.runtime import Bundle, EcgStream, open_bundle
from multires_edge.runtime.ecg.carry import MOST_BYTES
from multires_edge.runtime.ecg.conditioning import Spikes
from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.replay import replay_steps
from multires_edge.runtime.ecg.settings import Pool
from tests.conftest import random_net, save_published, variant
from tests.runtime.conftest import CARD, beats

FILTERS: list[dict[str, Any] | None] = [
    None,
    {"kind": "butterworth", "corner": 3.0, "order": 1},
    {"kind": "butterworth", "corner": 5.0, "order": 2},
    {"kind": "linear-phase", "corner": 0.5, "delay": 0.5},
]
NETWORKS = [
    variant(),
    variant(kernel_size=3, depth=4, n_layers=3),
    variant(tree_select="uniform", memory_size=5),
]
RECORD = beats(60, 500)
CHUNKS = st.sampled_from([97, 700, 4000])
Open = Callable[[int, int], Bundle]


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """A bundle by the numbers of its network and of its filter."""

    @cache
    def of(network: int, high_pass: int) -> Bundle:
        folder = tmp_path_factory.mktemp("replay")
        preprocessing = CARD["preprocessing"] | {"high_pass": FILTERS[high_pass]}
        if FILTERS[high_pass] is None:
            del preprocessing["high_pass"]
        (folder / "card.json").write_text(json.dumps(CARD | {"preprocessing": preprocessing}))
        checkpoint = save_published(random_net(NETWORKS[network], seed=network), folder)
        return open_bundle(export_bundle(checkpoint, folder / "a.bundle", card=folder / "card.json").path)

    return of


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, float]]:
    """Kinds, starts and lengths in seconds of what is wrong with a record."""
    kinds = st.sampled_from(["off", "one_off", "lost", "level", "spikes", "flat"])
    return draw(st.lists(st.tuples(kinds, st.floats(0, 57), st.floats(0.05, 9)), max_size=6))


def damaged(rate: float, faults: list[tuple[str, float, float]]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A record (samples, leads), and which of its samples arrive."""
    x = RECORD[np.round(np.arange(0, len(RECORD) - 1, 500 / rate)).astype(int)].copy()
    came = np.ones(len(x), bool)
    for kind, start, length in faults:
        part = slice(round(start * rate), round((start + length) * rate))
        lead = int(start * 10) % 2
        if kind == "off":
            x[part] = np.nan
        elif kind == "one_off":
            x[part, lead] = np.nan
        elif kind == "lost":
            came[part] = False
        elif kind == "level":
            x[part, lead] += 40 if length > 4 else 0.7
        elif kind == "spikes":
            x[part][::3] = -32.768
        else:
            x[part, lead] = 0.1
    return x, came


def fed(
    stream: EcgStream, x: NDArray[Any], came: NDArray[np.bool_], first: int, chunk: int
) -> list[Decision]:
    """The decisions on the samples from number ``first`` on."""
    decisions = []
    for start in range(first, len(x), chunk):
        arrived = came[start : start + chunk]
        cuts = [0, *(np.flatnonzero(np.diff(arrived)) + 1).tolist(), len(arrived)]
        for a, b in pairwise(cuts):
            decisions += stream.feed(x[start + a : start + b]) if arrived[a] else stream.missing(b - a)
    return decisions + stream.finish()


@cache
def often_crossed(bundle: Bundle) -> list[str]:
    """Thresholds of labels A and B in the middle of their probabilities."""
    decisions = EcgStream(bundle, leads=["I", "II"], every=0.1, pool="window:1s").feed(RECORD)
    a, b = (np.median([d.probabilities[label] for d in decisions if d.probabilities]) for label in "AB")
    return [f"A={a:.6f}:{a - 1e-4:.6f}", f"B={b:.6f}"]


def shown(decisions: list[Decision], after: float) -> list[Any]:
    return [
        (d.to_json(), d.logits.tolist(), d.carry, d.replay_from) for d in decisions if d.time > after + 1e-9
    ]


def alarms(events: list[Event], after: float) -> list[Any]:
    kinds = ("onset", "offset", "lost", "silent")
    return [e.to_json() for e in events if e.kind in kinds and e.time > after + 1e-9]


CASES = st.fixed_dictionaries(
    {
        "network": st.integers(0, len(NETWORKS) - 1),
        "high_pass": st.integers(0, len(FILTERS) - 1),
        "rate": st.sampled_from([50, 100, 128, 257, 360, 499.97, 500]),
        "pool": st.sampled_from(["window:1s", "window:2.3s", "window:100ms", "reset:1.7s"]),
        "every": st.sampled_from(["100ms", "500ms", "1.3s"]),
        "gap": st.sampled_from(["hold", "zero", "restart:0.7s", "restart:3s"]),
        "alarm_after": st.sampled_from([None, "0s", "4s"]),
        "alarm_decisions": st.integers(1, 3),
    }
)


class TestAgainstAStreamThatHasRunAllAlong:
    @settings(max_examples=30)
    @given(CASES, damages(), st.floats(0, 1), CHUNKS, CHUNKS)
    def test_after_any_decision_the_rest_is_the_same(
        self, bundle_of: Open, case: dict[str, Any], faults: Any, at: float, chunk: int, other_chunk: int
    ) -> None:
        options = {"leads": ["I", "II"]} | case
        bundle = bundle_of(options.pop("network"), options.pop("high_pass"))
        options["thresholds"] = often_crossed(bundle)
        x, came = damaged(options["rate"], faults)
        whole = EcgStream(bundle, **options)
        decisions = fed(whole, x, came, 0, chunk)
        if not decisions:
            return
        decision = decisions[int(at * (len(decisions) - 1))]
        first = decision.replay_from
        later = EcgStream(bundle, start=first, carry=decision.carry, **options)
        got = fed(later, x, came, first, other_chunk)
        assert shown(got, 0) == shown(decisions, decision.time)
        assert alarms(later.events, 0) == alarms(whole.events, decision.time)
        assert len(decision.carry) <= MOST_BYTES

    @settings(max_examples=30)
    @given(CASES, damages(), st.floats(0, 25), CHUNKS)
    def test_without_a_carry_decisions_are_the_same_from_replay_samples_on(
        self, bundle_of: Open, case: dict[str, Any], faults: Any, at: float, chunk: int
    ) -> None:
        """Unless the record starts over: a carry tells where it did."""
        options = {"leads": ["I", "II"]} | case | {"gap": "hold"}
        bundle = bundle_of(options.pop("network"), options.pop("high_pass"))
        x, _ = damaged(options["rate"], faults)
        came = np.ones(len(x), bool)
        decisions = fed(EcgStream(bundle, **options), x, came, 0, 4000)
        first = round(at * options["rate"])
        later = EcgStream(bundle, start=first, **options)
        assert later.replay_samples is not None and later.replay_samples < 40 * options["rate"]
        until = (first + later.replay_samples) / options["rate"] if first else 0
        expected = [d for d in decisions if d.time >= until]
        got = fed(later, x, came, first, chunk)
        assert [(d.to_json(), d.logits.tolist()) for d in got] == [
            (d.to_json(), d.logits.tolist()) for d in expected
        ]

    def louder(self, bundle: Bundle, gain: float) -> tuple[float, float, str, Any]:
        """By how much a label's probability is higher while the record has a gain, and a threshold for it."""
        x = RECORD.copy()
        x[2000:5000] *= gain
        decisions = EcgStream(bundle, **OPTIONS).feed(x)
        p = np.array([list((d.probabilities or {}).values()) for d in decisions])
        margins = p[:22].max(0) - p[26:].max(0)
        best = int(margins.argmax())
        return float(margins[best]), float(p[:22, best].max() - margins[best] / 2), "ABC"[best], x

    def test_an_alarm_of_long_ago_is_still_on(self, bundle_of: Open) -> None:
        """No sample of the replay tells it: only the carry."""
        bundle = bundle_of(0, 1)
        margin, on, label, x = max(self.louder(bundle, gain) for gain in (-5.0, 0.3, 3.0, 9.0))
        assert margin > 1e-4
        options = OPTIONS | {"thresholds": [f"{label}={on:.9f}:0.000001"]}
        decisions = EcgStream(bundle, **options).feed(x)
        decision = decisions[-20]
        later = EcgStream(bundle, start=decision.replay_from, carry=decision.carry, **options)
        assert decision.replay_from > 5000
        assert shown(later.feed(x[decision.replay_from :]), 0) == shown(decisions[-19:], 0)

    def test_a_saved_state_of_a_replay_goes_on(self, bundle_of: Open) -> None:
        bundle, options = bundle_of(0, 1), OPTIONS
        decisions = EcgStream(bundle, **options).feed(RECORD)
        decision = decisions[-20]
        arguments: dict[str, Any] = {"start": decision.replay_from, "carry": decision.carry} | options
        first, second = EcgStream(bundle, **arguments), EcgStream(bundle, **arguments)
        middle = decision.replay_from + 1000
        assert not first.feed(RECORD[decision.replay_from : middle])
        second.load(first.save())
        assert shown(second.feed(RECORD[middle:]), 0) == shown(decisions[-19:], 0)

    def test_a_pool_of_all_samples_replays_all_of_them(self, bundle_of: Open) -> None:
        bundle = bundle_of(0, 0)
        options: dict[str, Any] = {"leads": ["I", "II"], "pool": "cumulative"}
        stream = EcgStream(bundle, **options)
        decision = stream.feed(RECORD[:10_000])[3]
        assert stream.replay_samples is None and decision.replay_from == 0
        later = EcgStream(bundle, start=0, carry=decision.carry, **options)
        assert later.feed(RECORD[:10_000])[0].time == 2.5
        with pytest.raises(InputError, match="a pool without an end depends on all samples from 0 on"):
            EcgStream(bundle, start=1, **options)


OPTIONS: dict[str, Any] = {"leads": ["I", "II"], "thresholds": ["A=0.5"], "pool": "window:1s"}


@pytest.fixture(scope="module")
def decision(bundle_of: Open) -> Decision:
    return EcgStream(bundle_of(0, 0), **OPTIONS).feed(RECORD)[-1]


@settings(max_examples=20)
@given(st.integers(0, 2), st.sampled_from(["window:40", "window:333", "window:1000"]), st.integers(1, 4))
def test_a_network_forgets_after_as_many_steps_as_stated(
    bundle_of: Open, network: int, pool: str, blocks: int
) -> None:
    """Its streams start with the same phase; nothing else is in front of them."""
    bundle, pooling = bundle_of(network, 0), parse_pooling(pool)
    memory = replay_steps(Pool(pooling), None, bundle.manifest.model.receptive_field, 0)
    assert memory is not None
    memory -= pooling.alignment  # the worst start
    start = blocks * pooling.alignment
    x = np.random.default_rng(blocks).normal(0, 1, (1, 2, start + memory + 1500)).astype(np.float32)
    whole, later = (bundle.stream(pool=pool).run(x[:, :, first:]) for first in (0, start))
    late = memory + pooling.alignment  # a decision in any phase
    assert np.array_equal(whole[:, :, start + late :], later[:, :, late:])
    assert not np.array_equal(whole[:, :, start + pooling.alignment :], later[:, :, pooling.alignment :])


@given(st.lists(st.tuples(st.sampled_from([0.0, 40.0, -90.0, np.nan]), st.integers(1, 130)), max_size=60))
def test_a_belief_does_not_outlast_four_seconds(levels: list[tuple[float, int]]) -> None:
    """Levels that alternate could keep a belief of the start alive."""
    rate, tail = 100, [(level, 24) for level in (0.0, 40.0)] * 20
    x = np.concatenate([np.full((n, 1), level) for level, n in [*levels, *tail]])
    whole, later = Spikes(rate, 1, 1e-3), Spikes(rate, 1, 1e-3)
    start = len(x) - 24 * len(tail)
    expected = whole.remove(x)[start:]
    later.start_over(start)
    kept = round(Spikes.memory * rate)
    assert np.array_equal(expected[kept:], later.remove(x[start:])[kept:], equal_nan=True)


class TestRefusals:
    def test_a_start_that_is_too_late_or_no_sample(self, bundle_of: Open, decision: Decision) -> None:
        late = decision.replay_from + 1
        with pytest.raises(InputError, match=rf"start is {late}, expected 0 to {decision.replay_from}"):
            EcgStream(bundle_of(0, 0), start=late, carry=decision.carry, **OPTIONS)
        wrong: list[Any] = [-1, 1.5, None, 1 << 63]
        for start in wrong:
            with pytest.raises(InputError, match="expected the number of a sample"):
                EcgStream(bundle_of(0, 0), start=start, **OPTIONS)
        with pytest.raises(InputError, match="the origin is sample 9, which is after the start, 8"):
            EcgStream(bundle_of(0, 0), start=8, origin=9, **OPTIONS)

    @pytest.mark.parametrize(
        "other",
        [{"rate": 360}, {"thresholds": ["A=0.6"]}, {"thresholds": []}, {"every": 1}, {"alarm_decisions": 2}],
    )
    def test_a_carry_of_other_settings(
        self, bundle_of: Open, decision: Decision, other: dict[str, Any]
    ) -> None:
        with pytest.raises(StateError, match="of a stream with other settings"):
            EcgStream(bundle_of(0, 0), start=0, carry=decision.carry, **OPTIONS | other)

    @settings(max_examples=60)
    @given(st.data())
    def test_a_carry_that_is_damaged(self, bundle_of: Open, decision: Decision, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(decision.carry) - 1))
        bit = data.draw(st.integers(0, 7))
        kinds = [
            decision.carry[:at],
            decision.carry + b"\0",
            decision.carry[:at] + bytes([decision.carry[at] ^ 1 << bit]) + decision.carry[at + 1 :],
        ]
        for carry in kinds:
            with pytest.raises(StateError) as caught:
                EcgStream(bundle_of(0, 0), start=0, carry=carry, **OPTIONS)
            assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match="the carry is str, expected the bytes"):
            EcgStream(bundle_of(0, 0), carry="abc", **OPTIONS)  # type: ignore[arg-type]
