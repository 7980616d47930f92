"""Resampling a stream: what the whole recording would give, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import resample_poly

from multires_edge.base.errors import InputError, StateError
from multires_edge.runtime.ecg.resample import Resampler

X = np.random.default_rng(0).standard_normal((3000, 2)) + 1.5


def streamed(resampler: Resampler, cuts: list[int], x: np.ndarray = X) -> np.ndarray:
    parts = [resampler.process(part) for part in np.split(x, sorted(cuts))]
    return np.concatenate([*parts, resampler.finish()])


@pytest.mark.parametrize("rate", [50, 100, 128, 250, 257, 360, 499.97, 500, 1000, 2000])
def test_is_the_whole_recordings(rate: float) -> None:
    resampler = Resampler(rate, 100, 2)
    expected = resample_poly(X, resampler.up, resampler.down, axis=0, padtype="edge")
    y = streamed(resampler, [700, 701, 1500])
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() < 1e-12


@given(st.lists(st.integers(0, 3000), max_size=30), st.sampled_from([50, 128, 360, 500]))
def test_chunks_make_no_difference(cuts: list[int], rate: float) -> None:
    assert np.array_equal(streamed(Resampler(rate, 100, 2), cuts), streamed(Resampler(rate, 100, 2), []))


@pytest.mark.parametrize("rate", [50, 257, 360, 1000])
def test_delay_and_needs_are_as_stated(rate: float) -> None:
    resampler = Resampler(rate, 100, 1)
    for outputs in (1, 2, 77):
        resampler.reset()
        needed = resampler.needed(outputs)
        assert len(resampler.process(X[: needed - 1, :1])) < outputs
        resampler.process(X[needed - 1 : needed, :1])
        assert resampler.produced >= outputs
        time = (outputs - 1) * resampler.down / resampler.up / rate  # of the output
        newest = (needed - 1) / rate  # of the input that it waited for
        assert newest - 1 / rate <= time + resampler.lookahead < newest + 1 / rate


def test_a_state_goes_on_where_it_was_saved() -> None:
    resampler = Resampler(360, 100, 2)
    head = resampler.process(X[:1234])
    saved = resampler.save()
    resampler.process(X[:50])
    other = Resampler(360, 100, 2)
    other.load(saved)
    y = np.concatenate([head, other.process(X[1234:]), other.finish()])
    assert np.array_equal(y, streamed(Resampler(360, 100, 2), []))
    with pytest.raises(StateError, match="another rate"):
        Resampler(500, 100, 2).load(saved)


def test_far_along_the_phase_is_exact() -> None:
    """A stream that has run for centuries computes what it did at first."""
    far, near = Resampler(360, 100, 2), Resampler(360, 100, 2)
    far.process(X[:1800])
    near.process(X[:1800])
    far.received += 18 * 10**15
    far.produced += 5 * 10**15
    assert np.array_equal(far.process(X[1800:]), near.process(X[1800:]))


@pytest.mark.parametrize("rate", [49.9, 2000.5, -1, float("nan")])
def test_rates_that_are_refused(rate: float) -> None:
    with pytest.raises(InputError, match="expected 50 to 2000 Hz"):
        Resampler(rate, 100, 1)
