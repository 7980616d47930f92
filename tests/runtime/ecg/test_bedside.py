"""Decisions only on what was seen: offsets, electrodes that are off, short records, spikes, alarms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.base.errors import InputError
from multires_edge.export import export_bundle
from multires_edge.runtime import Bundle, EcgStream, open_bundle
from multires_edge.runtime.ecg.conditioning import Spikes
from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.sources.protocol import SignalSpec
from multires_edge.runtime.ecg.streams import EcgStreams
from tests.conftest import DEMO, SMALL, random_net, save_published
from tests.runtime.conftest import CARD, beats

FILTERS = [
    {"kind": "butterworth", "order": 1, "corner": 0.25},
    {"kind": "linear-phase", "corner": 0.5, "delay": 1.0},
]
ALWAYS = ["A=0.01:0.005"]  # on whatever the network says


@pytest.fixture(scope="module", params=FILTERS, ids=lambda given: given["kind"])
def behind_a_filter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small bundle of leads I and II whose card has a high-pass filter."""
    folder = tmp_path_factory.mktemp("filtered")
    card = CARD | {"preprocessing": CARD["preprocessing"] | {"high_pass": request.param}}
    (folder / "card.json").write_text(json.dumps(card))
    checkpoint = save_published(random_net(SMALL, seed=3), folder)
    return open_bundle(export_bundle(checkpoint, folder / "a.bundle", card=folder / "card.json").path)


def run(
    bundle: Bundle, x: NDArray[np.float64], rate: float = 250, **options: Any
) -> tuple[list[Decision], list[Event]]:
    leads = list(bundle.preprocessing.channels) if bundle.preprocessing else []
    stream = EcgStream(bundle, leads=leads, rate=rate, **options)
    return stream.feed(x) + stream.finish(), stream.events


@pytest.fixture(scope="module")
def without_a_filter(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demonstration network, with a card that names no high-pass filter."""
    folder = tmp_path_factory.mktemp("unfiltered")
    card = json.loads((DEMO / "card.json").read_text())
    del card["preprocessing"]["high_pass"]
    (folder / "card.json").write_text(json.dumps(card))
    return open_bundle(
        export_bundle(DEMO / "ckpt.pth", folder / "demo.bundle", card=folder / "card.json").path
    )


class TestOffsets:
    @pytest.mark.slow
    def test_a_filter_removes_them(
        self, twelve_leads: Bundle, ludb: tuple[NDArray[np.float64], list[str]]
    ) -> None:
        offsets = np.random.default_rng(0).uniform(-5, 5, 12)
        clean, moved = (run(twelve_leads, x, 500)[0][-1] for x in (ludb[0], ludb[0] + offsets))
        assert clean.probabilities is not None and moved.probabilities is not None
        assert moved.quality == {}
        for label, p in clean.probabilities.items():
            assert moved.probabilities[label] == pytest.approx(p, abs=1e-4)

    @pytest.mark.slow
    def test_without_a_filter_they_are_no_signal(
        self, without_a_filter: Bundle, ludb: tuple[NDArray[np.float64], list[str]]
    ) -> None:
        decisions, events = run(without_a_filter, ludb[0] + 1.0, 500, thresholds=["CD=0.5"])
        assert decisions[-1].probabilities is None and not events
        assert all(flags == ("offset",) for flags in decisions[-1].quality.values())

    def test_a_lead_that_comes_back_elsewhere_makes_no_step(self, behind_a_filter: Bundle) -> None:
        bundle = behind_a_filter
        x = beats(20, 250)
        x[2000:2500, 0] = np.nan
        moved = x.copy()
        moved[2500:, 0] += 200.0
        expected, got = run(bundle, x)[0], run(bundle, moved)[0]
        later = [(a.logits, b.logits) for a, b in zip(expected, got, strict=True) if a.time > 12]
        assert later and all(np.abs(a - b).max() < 0.02 for a, b in later)

    @settings(max_examples=15)
    @given(cuts=st.lists(st.integers(0, 2500), max_size=6), saved=st.integers(0, 2500))
    def test_chunks_and_saved_states_give_the_same_bits(
        self, behind_a_filter: Bundle, cuts: list[int], saved: int
    ) -> None:
        bundle = behind_a_filter
        x = beats(10, 250) + 2
        x[700:950] = np.nan
        x[1500, 1] = 99
        whole, _ = run(bundle, x)
        stream, parts, start = EcgStream(bundle, leads=["I", "II"], rate=250), [], 0
        for cut in sorted([*cuts, saved]):
            parts += stream.feed(x[start:cut])
            start = cut
            if cut == saved:
                state, stream = stream.save(), EcgStream(bundle, leads=["I", "II"], rate=250)
                stream.load(state)
        parts += stream.feed(x[start:]) + stream.finish()
        assert [(d.time, d.quality, d.probabilities) for d in parts] == [
            (d.time, d.quality, d.probabilities) for d in whole
        ]


class TestNoSignal:
    @pytest.mark.parametrize("value", [np.nan, 0.0, 1.7])
    def test_no_electrode(self, opened: Bundle, value: float) -> None:
        decisions, events = run(opened, np.full((5000, 2), value), thresholds=ALWAYS)
        decided = [d for d in decisions if d.time > 1]  # a flat line is known after a second
        assert all(d.probabilities is None and d.to_json()["no_signal"] for d in decided)
        assert not events

    def test_electrodes_that_are_taken_off(self, opened: Bundle) -> None:
        x = beats(30, 250)
        x[4000:6000] = np.nan
        decisions, events = run(opened, x, thresholds=ALWAYS)
        assert [d.time for d in decisions if d.probabilities is None] == [
            t / 2 for t in range(33, 48)
        ]  # the resampler looks 0.1 s ahead
        kinds = [(event.kind, event.time) for event in events]
        assert kinds == [("onset", 10.0), ("lost", 16.5)]
        warming = [d.time for d in decisions if d.warming]
        assert warming[-1] == 30.0 and len(warming) == 19 + 13

    @pytest.mark.parametrize("hum", [0.0, 0.1, 1.0, 4.0])
    @pytest.mark.parametrize("mains", [50, 49.8, 60])
    @pytest.mark.parametrize("start", [0, 4000])
    def test_hum_and_noise_are_no_heart(self, opened: Bundle, hum: float, mains: float, start: int) -> None:
        """What electrodes pick up that lie on the bed, from the start or after 16 s of a patient."""
        x, t = beats(30, 250), np.arange(7500) / 250
        noise = np.random.default_rng(0).normal(0, 0.008, x.shape)
        x[start:] = (noise + hum * np.sin(2 * np.pi * mains * t + 1)[:, None])[start:]
        decisions, events = run(opened, x, thresholds=ALWAYS)
        begins = start / 250 + 4
        off = [d for d in decisions if d.time >= begins]
        assert off and all(d.probabilities is None for d in off)
        assert all("no_beat" in flags for d in off for flags in d.quality.values())
        kinds = [event.kind for event in events]
        assert kinds == (["onset", "lost"] if start else [])

    def test_values_that_stay_between_those_that_are_impossible(self, opened: Bundle) -> None:
        """A lead on a rail, with spikes: what is left of it is flat."""
        x = np.full((2500, 2), 4.0)
        x[::3] = -400.0
        assert not any(d.probabilities for d in run(opened, x)[0] if d.time > 2)

    def test_one_lead_is_enough_unless_the_card_asks_for_more(self, opened: Bundle, tmp_path: Path) -> None:
        x = beats(5, 250)
        x[:, 1] = np.nan
        assert all(d.probabilities for d in run(opened, x)[0])
        card = CARD | {"preprocessing": CARD["preprocessing"] | {"usable_channels": 2}}
        (tmp_path / "card.json").write_text(json.dumps(card))
        path = save_published(random_net(SMALL, seed=3), tmp_path)
        bundle = export_bundle(path, tmp_path / "a.bundle", card=tmp_path / "card.json").path
        assert not any(d.probabilities for d in run(open_bundle(bundle), x)[0])


class TestAlarms:
    def test_none_before_the_window_is_full(self, opened: Bundle) -> None:
        decisions, events = run(opened, beats(12, 250), thresholds=ALWAYS)
        assert [(event.kind, event.time) for event in events] == [("onset", 10.0)]
        assert [d.warming for d in decisions] == [d.time < 10 for d in decisions]

    @pytest.mark.parametrize(("after", "time"), [("3s", 3.0), (0, 0.5)])
    def test_after_another_time(self, opened: Bundle, after: Any, time: float) -> None:
        _, events = run(opened, beats(12, 250), thresholds=ALWAYS, alarm_after=after)
        assert [event.time for event in events] == [time]

    def test_after_a_restart_the_window_fills_again(self, opened: Bundle) -> None:
        x = beats(40, 250)
        x[4000:5000] = np.nan
        _, events = run(opened, x, thresholds=ALWAYS, gap="restart:1s")
        assert [(e.kind, e.time) for e in events if e.kind in ("onset", "lost")] == [
            ("onset", 10.0), ("lost", 16.5), ("onset", 30.0),
        ]  # fmt: skip

    def test_the_end_of_a_record_is_no_loss_of_signal(self, opened: Bundle) -> None:
        streams = EcgStreams(opened, [SignalSpec(["I", "II"], 250)], thresholds=ALWAYS)
        streams.feed(0, beats(12.3, 250))
        streams.note(0, "bad_line", line=3, message="at the end")
        streams.finish(0)
        events = [item.kind for item in streams.pump() if isinstance(item, Event)]
        assert events == ["onset", "bad_line"]

    def test_several_decisions_in_a_row(self, opened: Bundle) -> None:
        _, events = run(opened, beats(12, 250), thresholds=ALWAYS, alarm_decisions=3)
        assert [event.time for event in events] == [11.0]
        with pytest.raises(InputError, match="asks for 0 decisions"):
            run(opened, beats(1, 250), thresholds=ALWAYS, alarm_decisions=0)

    def test_an_onset_carries_the_quality(self, opened: Bundle) -> None:
        x = beats(12, 250)
        x[2400:2450, 1] = np.nan
        _, (onset,) = run(opened, x, thresholds=ALWAYS)
        assert onset.to_json()["quality"] == {"II": ("nan",)}


class TestSpikes:
    @pytest.mark.parametrize("first", [0, 5])
    @pytest.mark.parametrize("sentinel", [-32.768, 32.767, 500.0])
    def test_a_sentinel_is_no_value(self, opened: Bundle, first: int, sentinel: float) -> None:
        x = beats(8, 250)
        missing, spoilt = x.copy(), x.copy()
        missing[first::10] = np.nan
        spoilt[first::10] = sentinel
        expected, got = run(opened, missing)[0], run(opened, spoilt)[0]
        pairs = [(a.logits, b.logits) for a, b in zip(expected, got, strict=True)]
        assert all(np.abs(a - b).max() < 0.02 for a, b in pairs)
        assert got[-1].quality == {"I": ("nan",), "II": ("nan",)}

    def test_another_level_is_believed_after_half_a_second(self) -> None:
        spikes = Spikes(250, 1, 1e-3)
        spikes.remove(np.zeros((1000, 1)))
        found = np.isfinite(spikes.remove(np.full((500, 1), 80.0)))[:, 0]
        assert not found[:125].any() and found[126:].all()

    def test_a_new_electrode_costs_a_sample(self) -> None:
        found = np.isfinite(Spikes(250, 1, 1e-3).remove(np.full((500, 1), 300.0)))[:, 0]
        assert list(np.flatnonzero(~found)) == [0]
