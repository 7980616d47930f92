"""Recordings under field conditions: the same from any sample on, in any unit, and what they shall be."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.protocol import Missing, Samples, SignalSpec
from multires_edge.runtime.evaluation.field_conditions import FieldCondition, field_conditions
from multires_edge.runtime.evaluation.pieces import Recording

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF"]
LENGTH, RATE = 1500, 250.0
Array = NDArray[np.float64]


def limb_leads(seed: int) -> Array:
    """(time, 6) in millivolt, as three electrodes give them."""
    arms = np.random.default_rng(seed).normal(0, 0.3, (LENGTH, 3))
    right, left, leg = arms.T
    middle = arms.mean(1)
    return np.stack([left - right, leg - right, leg - left, *(1.5 * (arms - middle[:, None]).T)], 1)


def recording(values: Array, unit: str = "mV", cuts: tuple[int, ...] = ()) -> Recording:
    def parts(start: int = 0) -> Iterator[Samples]:
        yield from (Samples(part) for part in np.split(values[start:], cuts))

    signal = SignalSpec(LEADS[: values.shape[1]], RATE, unit, "r")
    return Recording(signal, parts, len(values))


def under(name: str, *recordings: Recording) -> FieldCondition:
    return next(each for each in field_conditions(recordings) if each.name == name)


def read(recording: Recording, start: int = 0) -> Array:
    parts = recording.parts(start)
    return np.concatenate([part.values for part in parts if isinstance(part, Samples)])


NAMES = [each.name for each in field_conditions([recording(limb_leads(0))])]
named = pytest.mark.parametrize("name", NAMES)


@named
@given(start=st.integers(0, LENGTH - 1), cuts=st.lists(st.integers(1, 1400), max_size=3).map(sorted))
def test_a_reader_may_begin_anywhere(name: str, start: int, cuts: list[int]) -> None:
    whole = read(under(name, recording(limb_leads(0)), recording(limb_leads(1))).recordings[1])
    cut = recording(limb_leads(1), cuts=tuple(cuts))
    found = read(under(name, recording(limb_leads(0)), cut).recordings[1], start)
    np.testing.assert_allclose(found, whole[start:], rtol=0, atol=1e-12)


@named
def test_amplitudes_are_in_millivolt(name: str) -> None:
    values = limb_leads(0)
    in_millivolt = read(under(name, recording(values)).recordings[0])
    in_microvolt = read(under(name, recording(1000 * values, "uV")).recordings[0])
    np.testing.assert_allclose(in_microvolt, 1000 * in_millivolt, rtol=0, atol=1e-9)
    assert (name == "clean") == np.array_equal(in_millivolt, values)


def test_what_each_does() -> None:
    values = limb_leads(0)
    others = [recording(limb_leads(seed)) for seed in range(1, 30)]

    def added(name: str) -> Array:
        every = under(name, recording(values), *others).recordings
        return np.stack([read(each) for each in every]) - np.stack([values, *map(read, others)])

    offsets = added("offsets")
    assert np.ptp(offsets, axis=1).max() < 1e-12 and 0.9 < np.abs(offsets).max() <= 1
    wander = np.abs(added("wander")).max(1)
    assert wander.max() <= 0.6 and (wander > 0.19).mean() > 0.9  # six seconds have most of a period
    inside = np.abs(added("motion")).max(2) > 0
    assert inside.sum(1).min() > 0.8 * 4 * RATE and inside.sum(1).max() <= 4 * RATE
    steps = np.abs(np.diff(added("electrode moves"), axis=1)).max(2) > 1e-6
    assert (steps.sum(1) == 1).all()
    assert np.abs(added("mains")).max() == pytest.approx(0.1, rel=1e-3)
    assert added("noise").std() == pytest.approx(0.05, rel=0.01)
    gains = read(under("gain", recording(values), *others).recordings[0]) / values
    assert np.ptp(gains) < 1e-9 and 0.8 <= gains.mean() <= 1.25


def test_swapped_arms_are_those_of_the_electrodes() -> None:
    one, two, three, right, left, foot = read(under("arms swapped", recording(limb_leads(0))).recordings[0]).T
    first, second, third, avr, avl, avf = limb_leads(0).T
    for found, expected in (
        (one, -first),
        (two, third),
        (three, second),
        (right, avl),
        (left, avr),
        (foot, avf),
    ):
        assert np.array_equal(found, expected)
    np.testing.assert_allclose(three, two - one, atol=1e-12)
    alone = field_conditions([recording(limb_leads(0)[:, :2])])
    assert "arms swapped" not in [each.name for each in alone]


def test_gaps_stay_and_shift_nothing() -> None:
    def parts(values: Array, start: int = 0) -> Iterator[Samples | Missing]:
        yield from (Samples(values[:100]), Missing(400), Samples(values[500:]))

    values = limb_leads(0)
    gap = Recording(SignalSpec(LEADS, RATE), partial(parts, values), LENGTH)
    found = list(under("wander", gap).recordings[0].parts())
    whole = read(under("wander", recording(values)).recordings[0])
    assert isinstance(found[1], Missing) and isinstance(found[2], Samples)
    np.testing.assert_allclose(found[2].values, whole[500:], atol=1e-12)


def test_needs_a_voltage() -> None:
    with pytest.raises(DataError, match="the unit is 'mmHg', expected uV, mV or V"):
        field_conditions([recording(limb_leads(0), "mmHg")])
