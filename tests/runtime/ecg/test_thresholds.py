"""Thresholds with hysteresis."""

from __future__ import annotations

import pytest

from multires_edge.base.errors import InputError
from multires_edge.runtime.ecg.thresholds import Alarms, Threshold


def test_on_from_the_upper_off_below_the_lower() -> None:
    alarms = Alarms([Threshold.parse("MI=0.8:0.6")], ["MI", "NORM"])
    seen = [alarms.update({"MI": p, "NORM": 1.0}) for p in (0.7, 0.8, 0.79, 0.61, 0.6, 0.59, 0.7, 0.9)]
    on, off = [("onset", "MI")], [("offset", "MI")]
    assert seen == [[], on, [], [], [], off, [], on]


def test_one_number_is_both() -> None:
    assert Threshold.parse("a=b=0.5") == Threshold("a=b", 0.5, 0.5)


def test_a_state_goes_on() -> None:
    alarms = Alarms([Threshold.parse("A=0.5")], ["A"])
    alarms.update({"A": 0.9})
    other = Alarms([Threshold.parse("A=0.5")], ["A"])
    other.load(alarms.save())
    assert other.update({"A": 0.9}) == []
    assert other.update({"A": 0.1}) == [("offset", "A")]


@pytest.mark.parametrize("text", ["", "MI", "=0.5", "MI=", "MI=x", "MI=0.5:0.6", "MI=1.1", "MI=0", "MI=nan"])
def test_thresholds_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="expected LABEL=ON"):
        Threshold.parse(text)


def test_of_a_label_that_is_not_there() -> None:
    with pytest.raises(InputError, match="'XX', but the labels are MI, NORM"):
        Alarms([Threshold.parse("XX=0.5")], ["MI", "NORM"])
