"""Offsets, wander, and leads that are misnamed, scaled or swapped."""

from __future__ import annotations

import numpy as np
import pytest
import wfdb
from numpy.typing import NDArray

from multires_edge.runtime.ecg.quality import Quality
from tests.conftest import DEMO
from tests.runtime.conftest import LUDB, beats

LIMBS = ["I", "II", "III", "aVR", "aVL", "aVF"]


@pytest.fixture(scope="module")
def records() -> tuple[NDArray[np.float64], list[str]]:
    """Twelve-lead records of PTB-XL in mV: (n, 1000, 12) at 100 Hz, and the leads."""
    data = np.load(DEMO / "records.npz")
    return np.moveaxis(data["x_uv"] / 1000.0, 1, 2), [str(lead) for lead in data["leads"]]


def flags(
    x: NDArray[np.float64], leads: list[str], rate: float = 100, *, levels: bool = True
) -> dict[str, tuple[str, ...]]:
    quality = Quality(rate, leads, [], 1e-3, levels=levels)
    quality.inspect(x, np.zeros(len(x), bool))
    return quality.take().flags


def test_good_records_have_none(records: tuple[NDArray[np.float64], list[str]]) -> None:
    x, leads = records
    found = {flag for record in x for given in flags(record, leads).values() for flag in given}
    assert not found & {"no_beat", "offset", "contradiction", "arms_swapped", "implausible"}


def test_any_lead_alone_shows_a_beat(records: tuple[NDArray[np.float64], list[str]]) -> None:
    x, leads = records
    for i, lead in enumerate(leads):
        assert not any("no_beat" in flags(record[:, [i]], [lead]).get(lead, ()) for record in x)


def test_no_beat_in_three_seconds_and_the_first_one_after_them() -> None:
    x = beats(9, 250)
    x[500:1250] = np.random.default_rng(0).normal(0, 0.006, (750, 2))
    quality = Quality(250, ["V1", "V2"], [], 1e-3, levels=False)
    found = [
        verdict.flags.get("V1", ())
        for verdict in quality.inspect(x, np.zeros(len(x), bool), range(250, len(x) + 1, 250))
    ]
    assert found == [()] * 4 + [("no_beat",)] + [()] * 4


@pytest.mark.parametrize("by", [1.0, -0.4, 300.0])
def test_an_offset(by: float) -> None:
    x = beats(10, 500)
    x[:, 1] += by
    assert flags(x, ["I", "II"], 500) == {"II": ("offset",)}
    assert flags(x, ["I", "II"], 500, levels=False) == {}


def test_wander() -> None:
    x = beats(10, 500)
    x[:, 0] += 0.6 * np.sin(2 * np.pi * 0.2 * np.arange(5000) / 500)
    assert "wander" in flags(x, ["V1", "V2"], 500)["V1"]
    assert "V2" not in flags(x, ["V1", "V2"], 500)


def test_more_than_a_heart() -> None:
    assert flags(9 * beats(10, 500), ["V1", "V2"], 500, levels=False)["V1"][-1] == "implausible"


@pytest.mark.parametrize("swap", [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (0, 3)])
def test_misnamed_limb_leads(records: tuple[NDArray[np.float64], list[str]], swap: tuple[int, int]) -> None:
    x, leads = records
    order = np.arange(12)
    order[list(swap)] = order[list(swap[::-1])]
    flagged = ["contradiction" in str(flags(record[:, order], leads)) for record in x]
    assert np.mean(flagged) >= 0.9


@pytest.mark.parametrize(("lead", "gain"), [(1, -1), (0, 3), (3, 0.1), (5, -1)])
def test_scaled_limb_leads(records: tuple[NDArray[np.float64], list[str]], lead: int, gain: float) -> None:
    x, leads = records
    scaled = x.copy()
    scaled[:, :, lead] *= gain
    assert np.mean(["contradiction" in str(flags(record, leads)) for record in scaled]) >= 0.7


def test_swapped_arm_electrodes(records: tuple[NDArray[np.float64], list[str]]) -> None:
    """Einthoven's law holds for them; lead I against V6 tells."""
    x, leads = records
    order = [0, 2, 1, 4, 3, 5, *range(6, 12)]
    swapped = x[:, :, order] * np.where(np.arange(12) == 0, -1, 1)
    found = [flags(record, leads) for record in swapped]
    assert np.mean(["arms_swapped" in given.get("I", ()) for given in found]) > 0.5
    assert not any("contradiction" in str(given) for given in found)


def test_derived_leads_prove_nothing() -> None:
    x = np.random.default_rng(0).normal(0, 0.3, (1000, 3))
    quality = Quality(100, LIMBS[:3], [], 1e-3, derived=["III"], levels=False)
    quality.inspect(x, np.zeros(1000, bool))
    assert "contradiction" not in str(quality.take().flags)


def test_a_record_with_separately_scaled_leads() -> None:
    """LUDB's limb leads contradict each other a little: III = -1.4 I + 0.98 II in this record."""
    record = wfdb.rdrecord(str(LUDB))
    assert flags(record.p_signal, record.sig_name, 500) == {}


@pytest.mark.parametrize("rate", [50, 100, 128, 250, 360, 500, 1000])
@pytest.mark.parametrize("leads", [1, 9])
def test_the_smallest_beat_is_found_wherever_it_is(rate: int, leads: int) -> None:
    """A beat is looked for at some samples first. Seconds of pulses at any place, just below and above it."""
    hum, beat, smallest = max(1, round(rate / 50)), max(1, round(rate / 10)), 0.05 if leads < 8 else 0.2
    names = [f"V{i + 1}" for i in range(leads)]
    chance = np.random.default_rng(rate)
    for _ in range(20):
        second = chance.normal(0, 0.003, (rate, leads))
        start = chance.integers(0, rate - 2)
        second[start : start + chance.integers(1, 4), chance.integers(leads)] += 1
        summed = np.cumsum(second, axis=0)
        level = (summed[hum:] - summed[:-hum]) / hum
        largest = np.abs(level[beat:] - level[:-beat]).max()
        for factor in (0.999, 1.001):
            quality = Quality(rate, names, [], 1e-3, levels=False)
            verdicts = quality.inspect(
                np.tile(second * (factor * smallest / largest), (3, 1)), np.zeros(3 * rate, bool), [3 * rate]
            )
            assert ("no_beat" in verdicts[0].flags.get("V1", ())) == (factor < 1)
