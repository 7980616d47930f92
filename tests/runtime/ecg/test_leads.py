"""Leads by name, unit and derivation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import DataError, InputError
from multires_edge.format.card import Preprocessing
from multires_edge.runtime.ecg.leads import LeadMap
from multires_edge.runtime.ecg.sources.protocol import SignalSpec
from tests.conftest import DEMO

LIMBS = ["I", "II", "III", "aVR", "aVL", "aVF"]


def card(channels: list[str], unit: str = "mV") -> Preprocessing:
    return Preprocessing(100, tuple(channels), unit, 0.25, 1.0)


def lead_map(leads: list[str], unit: Any, preprocessing: Preprocessing, **options: Any) -> LeadMap:
    return LeadMap(SignalSpec(leads, 500, unit), preprocessing, **options)


def test_by_name_in_the_cards_order() -> None:
    leads = lead_map(["ECG v1", "x", "Lead II", "i"], "mV", card(["I", "II", "V1"]))
    assert leads(np.array([[3.0, 9.0, 2.0, 1.0]])).tolist() == [[1, 2, 3]]


def test_units_of_each_lead() -> None:
    leads = lead_map(["I", "II", "V1"], ["uV", "MV", "V"], card(["I", "II", "V1"]))
    assert np.allclose(leads(np.array([[500, 0.5, 5e-4]])), 0.5)
    assert np.allclose(lead_map(["I"], "mV", card(["I"], "uV"))(np.array([[2]])), 2000)


def test_derived_limb_leads_are_those_of_the_device() -> None:
    with np.load(DEMO / "records.npz") as file:
        samples = file["x_uv"][0].T
    names = [*LIMBS, "V1", "V2", "V3", "V4", "V5", "V6"]
    leads = lead_map(names[:2], "uV", card(LIMBS))
    assert leads.derived == LIMBS[2:]
    measured = lead_map(names, "uV", card(LIMBS))
    assert not measured.derived
    # The device rounds each of its leads to a microvolt or a few.
    assert np.abs(leads(samples[:, :2]) - measured(samples)).max() < 0.005


def test_a_renamed_lead_stands_for_the_one_it_is_called() -> None:
    leads = lead_map(["MLII", "V5"], "mV", card(["II", "V5"]), rename={"ii": "MLII"})
    assert leads(np.array([[1.0, 2.0]])).tolist() == [[1, 2]]
    with pytest.raises(DataError, match="no lead II; the source has MLII, V5"):
        lead_map(["MLII", "V5"], "mV", card(["II", "V5"]), rename={"II": "ML2"})


def test_a_lead_cannot_stand_for_a_channel_that_the_card_has_not() -> None:
    with pytest.raises(InputError, match="no channel Il to rename a lead to; the card has II, V5"):
        lead_map(["II", "V5"], "mV", card(["II", "V5"]), rename={"Il": "V5"})
    leads = lead_map(["a", "b"], "mV", card(["III"]), rename={"I": "a", "II": "b"})
    assert leads(np.array([[1.0, 3.0]])).tolist() == [[2]]


def test_a_name_that_two_leads_have() -> None:
    with pytest.raises(DataError, match="several leads match I: I, ECG I; give them different names"):
        lead_map(["I", "II", "ECG I"], "mV", card(["I", "II"]))
    # Of leads that the card has not, names do not matter.
    lead_map(["I", "II", "V1", "V1"], "mV", card(["I", "II"]))


def test_missing_leads() -> None:
    with pytest.raises(DataError, match="no lead V1, V2; the source has I, II"):
        lead_map(["I", "II"], "mV", card(["I", "V1", "V2"]))
    leads = lead_map(["I", "II"], "mV", card(["I", "V1"]), allow_missing=True)
    assert leads.missing == ["V1"]
    assert leads(np.array([[1.0, 2.0]])).tolist() == [[1, 0.25]]
    with pytest.raises(DataError, match="no lead is in both"):
        lead_map(["X"], "mV", card(["I", "V1"]), allow_missing=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -32768.0, 1e30])
def test_what_no_skin_has_is_no_value(value: float) -> None:
    leads = lead_map(["I", "II"], "mV", card(["I", "III"]))
    assert np.isnan(leads(np.array([[value, 1.0]]))).all()
    assert not np.isnan(lead_map(["I", "II"], "mV", card(["I"]))(np.array([[1.0, value]]))).any()


def test_units_that_are_none() -> None:
    with pytest.raises(DataError, match="the unit is 'mmHg'"):
        lead_map(["I"], "mmHg", card(["I"]))
    with pytest.raises(DataError, match="the unit is 1, expected"):
        lead_map(["I"], [1], card(["I"]))
    with pytest.raises(InputError, match="2 units for 1 leads"):
        lead_map(["I"], ["mV", "mV"], card(["I"]))
