"""What is wrong with a lead is said, and what is right is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.runtime.ecg.quality import Quality
from tests.runtime.conftest import beats

RATE = 500


def flags(x: NDArray[np.float64], rate: float = RATE, silent: slice = slice(0)) -> tuple[str, ...]:
    quality = Quality(rate, ["I"], [], 1e-3, levels=False)
    mask = np.zeros(len(x), bool)
    mask[silent] = True
    quality.inspect(x[:, None], mask)
    return quality.take().flags.get("I", ())


def spoilt(what: str, rate: float = RATE) -> NDArray[np.float64]:
    x = beats(3, rate, 1)[:, 0]
    t = np.arange(len(x)) / rate
    second = slice(round(rate), round(2 * rate))
    if what == "nan":
        x[round(1.4 * rate)] = np.nan
    elif what == "flat":
        x[second] = 0.4
    elif what == "clipped":
        x = np.clip(4 * x, -5, 2.0)
    elif what == "noise":
        x[second] += np.random.default_rng(0).normal(0, 0.15, len(x[second]))
    elif what == "mains":
        x += 0.3 * np.sin(2 * np.pi * 50 * t)
    return x


@pytest.mark.parametrize("rate", [250, 360, 500, 1000])
class TestFlags:
    @pytest.mark.parametrize("what", ["nan", "flat", "clipped", "noise"])
    def test_each_alone(self, what: str, rate: float) -> None:
        assert flags(spoilt(what, rate), rate) == (what,)

    def test_mains_are_noise(self, rate: float) -> None:
        assert flags(spoilt("mains", rate), rate) == ("noise",)

    def test_none_of_a_good_lead(self, rate: float) -> None:
        assert flags(beats(3, rate, 1)[:, 0], rate) == ()


def test_a_gap_is_no_nan() -> None:
    x = beats(3, RATE, 1)[:, 0]
    x[100:300] = np.nan
    assert flags(x, silent=slice(100, 300)) == ("gap",)
    assert flags(x, silent=slice(100, 200)) == ("gap", "nan")


def test_real_leads_are_good(ludb: tuple[NDArray[np.float64], list[str]]) -> None:
    quality = Quality(500, ludb[1], [], 1e-3)
    quality.inspect(ludb[0], np.zeros(5000, bool))
    assert quality.take().flags == {}


def test_a_missing_lead_is_missing_and_nothing_else() -> None:
    quality = Quality(RATE, ["I", "II"], ["II"], 1e-3)
    quality.inspect(np.stack([beats(2, RATE, 1)[:, 0], np.zeros(1000)], 1), np.zeros(1000, bool))
    assert quality.take().flags == {"II": ("missing",)}


def test_flags_last_until_a_better_second_has_ended() -> None:
    quality = Quality(RATE, ["I"], [], 1e-3, levels=False)
    x = spoilt("flat")[:, None]
    seen = []
    for part in np.split(x, 6):
        quality.inspect(part, np.zeros(len(part), bool))
        seen.append(quality.take().flags.get("I", ()))
    assert seen == [(), (), (), ("flat",), ("flat",), ()]


@given(st.lists(st.integers(0, 1500), max_size=9), st.sampled_from(["nan", "flat", "clipped", "noise"]))
def test_chunks_and_restarts_make_no_difference(cuts: list[int], what: str) -> None:
    x = spoilt(what)[:, None]
    quality = Quality(RATE, ["I"], [], 1e-3, levels=False)
    for part in np.split(x, sorted(cuts)):
        quality.inspect(part, np.zeros(len(part), bool))
        saved = quality.save()
        quality = Quality(RATE, ["I"], [], 1e-3, levels=False)
        quality.load(saved)
    assert quality.take().flags == {"I": (what,)}


@given(st.lists(st.integers(0, 12 * RATE - 137), max_size=8), st.integers(0, 2**32))
def test_many_ends_at_once_are_as_one_by_one(ends: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    x = np.concatenate([spoilt(what)[:, None] for what in random.permutation(["flat", "noise", "nan", "ok"])])
    silent = np.zeros(len(x), bool)
    silent[int(random.integers(0, len(x))) :][:100] = True
    together, apart = (Quality(RATE, ["I"], [], 1e-3, levels=False) for _ in range(2))
    together.inspect(x[:137], silent[:137])
    apart.inspect(x[:137], silent[:137])
    x, silent = x[137:], silent[137:]
    ends = [0, *sorted(ends), len(x)]
    expected = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        apart.inspect(x[start:end], silent[start:end])
        expected.append(apart.take())
    assert together.inspect(x, silent, ends) == expected
    assert together.take() == apart.take()


@pytest.mark.parametrize("rate", [50, 111, 250, 361, 500])
@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_noise_is_judged_by_the_upper_median(rate: int, factor: float) -> None:
    lag = max(1, round(0.005 * rate))
    for seed in range(10):
        x = np.random.default_rng(seed).standard_normal(rate)
        bends = np.sort(np.abs(x[2 * lag :] - 2 * x[lag:-lag] + x[: -2 * lag]))
        rms = bends[len(bends) // 2] / (0.6745 * 6**0.5)
        assert ("noise" in flags(x * (factor * 0.05 / rms), rate)) == (factor > 1)
