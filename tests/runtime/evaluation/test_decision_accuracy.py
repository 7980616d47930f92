"""Figures of decisions: what they count, on recordings whose decisions are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import DataError, InputError
from multires_edge.runtime import Bundle, EcgStream
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.ecg.sources.protocol import Samples, SignalSpec
from multires_edge.runtime.evaluation.decision_accuracy import assess, choose_thresholds
from multires_edge.runtime.evaluation.diagnostic import diagnostic_rates
from multires_edge.runtime.evaluation.pieces import Recording
from multires_edge.runtime.evaluation.recordings import LabelledRecordings, load_recordings
from tests.conftest import DEMO
from tests.runtime.conftest import beats

LEADS = ["I", "II"]


def recording(seed: int, seconds: float = 4, rate: float = 250, gain: float = 1) -> Recording:
    parts = np.split(gain * beats(seconds, rate, seed=seed), [10, 300])
    signal = SignalSpec(LEADS, rate, "mV", f"r{seed}")
    return Recording(signal, lambda: iter([Samples(part) for part in parts]), sum(map(len, parts)))


def samples(recording: Recording) -> np.ndarray:
    return np.concatenate([part.values for part in recording.parts() if isinstance(part, Samples)])


def decide(bundle: Bundle, parts: list[np.ndarray], **options: Any) -> tuple[np.ndarray, np.ndarray, float]:
    stream = EcgStream(bundle, leads=LEADS, rate=250, **options)
    decisions = [d for part in parts for d in stream.feed(part)] + stream.finish()
    chances = np.array([list((d.probabilities or {}).values()) for d in decisions])
    return chances, np.array([d.time for d in decisions]), stream.delay


def labelled(recordings: list[Recording], positive: np.ndarray) -> LabelledRecordings:
    return LabelledRecordings(Path("data"), list("ABC"), recordings, positive)


@pytest.fixture(scope="module")
def data() -> LabelledRecordings:
    """Two kinds of recordings, which the labels tell apart: the third by no recording."""
    gains = [1, 1, 6, 1, 6, 6]
    recordings = [recording(seed, gain=gain) for seed, gain in enumerate(gains)]
    strong = np.array(gains) > 1
    return LabelledRecordings(
        Path("data"), list("ABC"), recordings, np.stack([strong, ~strong, strong & False], 1)
    )


def test_figures_are_those_of_the_streams_decisions(opened: Bundle, data: LabelledRecordings) -> None:
    last = np.array([decide(opened, [samples(r)])[0][-1] for r in data.recordings])
    limits = dict(zip("ABC", np.median(last, 0).tolist(), strict=True))
    result = assess(opened, data, limits)
    for i, figures in enumerate(result.by_class.values()):
        expected = diagnostic_rates(last[:, i] >= figures.threshold, data.positive[:, i])
        assert expected == (
            figures.sensitivity,
            figures.specificity,
            figures.positive_predictive_value,
            figures.negative_predictive_value,
        )
    assert result.by_class["C"].auroc is None and result.by_class["C"].auroc_interval is None  # nobody has it
    assert result.by_class["C"].sensitivity.value is None
    assert result.first_decision == pytest.approx(0.5 + decide(opened, [samples(data.recordings[0])])[2])


def test_thresholds_are_chosen_where_the_classes_part(opened: Bundle, data: LabelledRecordings) -> None:
    two = LabelledRecordings(data.path, data.labels, data.recordings, data.positive[:, [0, 1, 0]])
    limits = choose_thresholds(opened, two)
    last = np.array([decide(opened, [samples(r)])[0][-1] for r in data.recordings])
    decided = last >= np.array(list(limits.values()))
    best = [max(_index(last[:, i] >= t, two.positive[:, i]) for t in last[:, i]) for i in range(3)]
    assert [_index(decided[:, i], two.positive[:, i]) for i in range(3)] == pytest.approx(best)
    with pytest.raises(DataError, match="data: C: all 6 records have the same label"):
        choose_thresholds(opened, data)


def _index(decided: np.ndarray, truth: np.ndarray) -> float:
    return float(decided[truth].mean() - decided[~truth].mean())


def test_delays_run_from_the_change(opened: Bundle) -> None:
    weak, strong = recording(1), recording(2, gain=6)
    data = LabelledRecordings(
        Path("data"), list("ABC"), [weak, strong], np.array([[0, 1, 0], [1, 0, 0]], bool)
    )
    order = np.random.default_rng(0).permutation(2).tolist()
    parts = [samples(data.recordings[i]) for i in order]
    chances, times, delay = decide(opened, parts, pool="window:2s")
    after = np.flatnonzero(times > 4)
    now = data.positive[order[1]]
    # Half-way between what the first recording settles at and the second does.
    limits = (chances[after[0] - 1] + chances[-1]) / 2
    result = assess(
        opened, data, dict(zip("ABC", limits.tolist(), strict=True)), StreamOptions(pool="window:2s")
    )
    figures = list(result.by_class.values())
    for c in range(2):
        found = figures[c].onset_delay if now[c] else figures[c].offset_delay
        right = (chances[after, c] >= limits[c]) == now[c]
        assert found.total == 1
        assert (figures[c].offset_delay if now[c] else figures[c].onset_delay).total == 0
        if right[-1]:
            first = len(right) - int(np.argmin(right[::-1])) if not right.all() else 0
            assert found.count == 1
            assert found.median == found.p95 == pytest.approx(times[after[first]] - 4 + delay)
        else:
            assert (found.count, found.median) == (0, None)
    assert figures[2].onset_delay.total == figures[2].offset_delay.total == 0
    assert sum(f.onset_delay.count + f.offset_delay.count for f in figures) > 0


def test_recordings_of_other_devices_do_not_follow_each_other(opened: Bundle) -> None:
    mixed = [recording(1), recording(2, rate=360)]
    data = labelled(mixed, np.array([[0, 1, 0], [1, 0, 0]], bool))
    result = assess(opened, data, dict.fromkeys("ABC", 0.5))
    assert all(f.onset_delay.total + f.offset_delay.total == 0 for f in result.by_class.values())


def test_precisions_are_compared_with_the_first(twelve_leads: Bundle) -> None:
    data = load_recordings(DEMO / "records.npz", twelve_leads)
    few = LabelledRecordings(data.path, data.labels, data.recordings[:3], data.positive[:3])
    labels = twelve_leads.labels or []
    result = assess(twelve_leads, few, dict.fromkeys(labels, 0.5), precisions=["fp32", "fp32"])
    (same,) = result.agreement.values()
    assert (same.decisions.count, same.decisions.total, same.largest_difference) == (15, 15, 0.0)
    assert same.decisions.value == 1
    steady = result.steady_decision
    assert steady.median is not None and steady.p95 is not None
    assert 0.5 <= steady.median <= steady.p95 <= 10


def test_what_does_not_fit_is_refused(opened: Bundle) -> None:
    short = labelled([recording(1, 0.3)], np.zeros((1, 3), bool))
    with pytest.raises(DataError, match="r1: no decision: too short"):
        assess(opened, short, dict.fromkeys("ABC", 0.5))
    with pytest.raises(InputError, match="thresholds are for A, the labels are A, B, C"):
        assess(opened, short, {"A": 0.5})
