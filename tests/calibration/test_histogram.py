"""Histograms of magnitudes: exact, and the same however the values come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from multires_edge.base.errors import OverflowedError
from multires_edge.calibration import histogram as module
from multires_edge.calibration.histogram import BINS, MagnitudeHistogram

values = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 40)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def same(a: MagnitudeHistogram, b: MagnitudeHistogram) -> bool:
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (a.counts, b.counts),
        (a.largest, b.largest),
        (a.exponents, b.exponents),
    ]
    return all(np.array_equal(x, y) for x, y in pairs)


def of(*chunks: NDArray[np.float32]) -> MagnitudeHistogram:
    histogram = MagnitudeHistogram(len(chunks[0]))
    for chunk in chunks:
        histogram.add(chunk)
    return histogram


@given(values, st.integers(1, 41))
@settings(max_examples=200)
def test_any_order_and_any_chunks(x: NDArray[np.float32], size: int) -> None:
    shuffled = x[:, np.random.default_rng(size).permutation(x.shape[1])]
    chunks = [shuffled[:, i : i + size] for i in range(0, x.shape[1], size)]
    assert same(of(x), of(*chunks))


@given(values)
@settings(max_examples=200)
def test_counts_are_those_of_equal_bins(x: NDArray[np.float32]) -> None:
    histogram = of(x)
    assert np.array_equal(histogram.largest, np.abs(x).max(1))
    for row, counts, width in zip(
        np.abs(x).astype(np.float64), histogram.counts, histogram.widths, strict=True
    ):
        assert row.max() < BINS * width
        assert row.max() >= BINS * width / 2 or width * BINS == 2.0**module.SMALLEST_EXPONENT
        assert np.array_equal(counts, np.bincount((row // width).astype(int), minlength=BINS))


def test_long_records_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((3, 1000), dtype=np.float32)
    whole = of(x)
    monkeypatch.setattr(module, "_PIECE", 100)
    assert same(whole, of(x))


def test_a_channel_of_zeros_does_not_widen_the_pooled_range() -> None:
    small = np.full((1, 5), 1e-3, np.float32)
    pooled = of(np.concatenate([small, np.zeros_like(small)])).pooled()
    assert pooled.counts[0, 0] == 5 and pooled.total == 10
    assert pooled.widths[0] == of(small).widths[0]


@given(values)
def test_pooled_is_the_histogram_of_all_channels(x: NDArray[np.float32]) -> None:
    assert same(of(x).pooled(), of(x.reshape(1, -1)))


def test_coarse_keeps_every_value() -> None:
    x = np.array([[0.1, 0.9, 3.99], [0, 0, 0.5]], np.float32)
    end, counts = of(x).coarse(4)
    assert end == 4.0
    assert counts.tolist() == [5, 0, 0, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_and_not_counted(bad: float) -> None:
    histogram = of(np.ones((2, 3), np.float32))
    with pytest.raises(OverflowedError, match="NaN or infinite"):
        histogram.add(np.array([[1, 2], [3, bad]], np.float32))
    assert same(histogram, of(np.ones((2, 3), np.float32)))
