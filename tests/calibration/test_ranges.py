"""Each method against its definition, spelled out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError, DataError
from multires_edge.calibration.histogram import MagnitudeHistogram
from multires_edge.calibration.ranges import (
    METHODS,
    Method,
    clipping_thresholds,
    divergence,
    quantization_noise,
    signal_to_quantization_noise,
)

Values = NDArray[np.float32]


def of(x: NDArray[Any]) -> MagnitudeHistogram:
    rows = np.atleast_2d(x).astype(np.float32)
    histogram = MagnitudeHistogram(len(rows))
    histogram.add(rows)
    return histogram


def draw(kind: str, n: int = 20_000, seed: int = 0) -> Values:
    random = np.random.default_rng(seed)
    samples: NDArray[Any] = random.standard_normal(n)
    if kind == "laplace":
        samples = random.laplace(size=n)
    elif kind == "heavy":
        samples = random.standard_t(3, n)
    elif kind == "uniform":
        samples = random.uniform(-1, 1, n)
    elif kind == "gelu":
        samples = 3 * samples / (1 + np.exp(-1.702 * 3 * samples))
    elif kind == "sparse":
        samples = samples * (random.random(n) < 0.01)
    return samples.astype(np.float32)


KINDS = ["normal", "laplace", "heavy", "uniform", "gelu", "sparse"]


def quantized(x: NDArray[Any], threshold: float) -> NDArray[np.float64]:
    scale = threshold / 127
    return np.clip(np.rint(x.astype(np.float64) / scale), -127, 127) * scale


def filled(histogram: MagnitudeHistogram) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = histogram.counts[0, : np.flatnonzero(histogram.counts[0])[-1] + 1]
    return counts


def test_minmax_is_the_largest_magnitude() -> None:
    x = np.array([[0.5, -3.1, 2], [0.1, 0.2, 0.1]], np.float32)
    assert np.array_equal(clipping_thresholds(Method("minmax"), of(x)), np.abs(x).max(1))


class TestPercentile:
    @given(
        st.lists(st.floats(2.0**-20, 1e6, width=32), min_size=1, max_size=300),
        st.sampled_from([0.1, 10, 50, 90, 99, 99.9, 99.99, 100]),
    )
    @settings(max_examples=200)
    def test_is_a_rank_up_to_a_bin(self, magnitudes: list[float], percentile: float) -> None:
        x = np.array(magnitudes, np.float32)
        rank = math.ceil(round(percentile * 100) * len(x) / 10_000)
        exact, largest = float(np.sort(x)[rank - 1]), float(x.max())
        found = float(clipping_thresholds(Method("percentile", percentile), of(x))[0])
        assert exact <= found <= min(exact + largest / 1024, largest)

    def test_all_of_them_is_the_largest(self) -> None:
        x = draw("heavy")
        assert clipping_thresholds(Method("percentile", 100), of(x))[0] == np.abs(x).max()

    def test_the_rank_is_that_of_the_decimal_number(self) -> None:
        """0.07 as a binary fraction is a little more than 7 %, and its rank in 100 values would be 8."""
        x = np.arange(1, 101, dtype=np.float32)
        assert float(clipping_thresholds(Method("percentile", 7), of(x))[0]) == 7 + 128 / 2048 < 8

    @pytest.mark.parametrize("percentile", [0, -1, 100.01, math.nan, math.inf])
    def test_of_nothing_that_exists(self, percentile: float) -> None:
        with pytest.raises(ConfigError, match="expected above 0 and at most 100"):
            Method("percentile", percentile)


def divergence_by_definition(counts: NDArray[np.int64], i: int) -> float:
    p = counts[:i].astype(float)
    p[-1] += counts[i:].sum()
    q = np.zeros(i)
    for level in range(128):
        bins = [b for b in range(i) if 128 * b // i == level and counts[b]]
        for b in bins:
            q[b] = sum(int(counts[c]) for c in bins) / len(bins)
    kl = 0.0
    for p_b, q_b in zip(p / p.sum(), q / max(q.sum(), 1), strict=True):
        if p_b:
            kl += p_b * math.log(p_b / q_b) if q_b else math.inf
    return kl


class TestEntropy:
    @pytest.mark.parametrize("kind", KINDS)
    def test_divergence_is_that_of_the_definition(self, kind: str) -> None:
        counts = filled(of(draw(kind, 3000)))
        found = divergence(counts)
        assert len(found) == len(counts) - 127
        tried = [*range(0, len(found), 97), len(found) - 1]
        expected = [divergence_by_definition(counts, 128 + k) for k in tried]
        assert np.allclose(found[tried], expected, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_least_divergence_wins(self, kind: str) -> None:
        histogram = of(draw(kind))
        found = divergence(filled(histogram))
        threshold = float(clipping_thresholds(Method("entropy"), histogram)[0])
        width, largest = float(histogram.widths[0]), float(histogram.largest[0])
        best = (128 + int(np.flatnonzero(found == found.min())[0]) + 0.5) * width
        assert threshold == np.float32(min(best, largest))

    def test_outliers_are_clipped(self) -> None:
        x = np.append(draw("normal"), np.float32(40))
        assert clipping_thresholds(Method("entropy"), of(x))[0] < 10


class TestMeanSquaredError:
    @pytest.mark.parametrize("kind", KINDS)
    def test_no_other_candidate_is_better_on_the_values_themselves(self, kind: str) -> None:
        x = draw(kind)
        largest = float(np.abs(x).max())

        def error(threshold: float) -> float:
            return float(((x - quantized(x, threshold)) ** 2).mean())

        best = min(error(largest * k / 128) for k in range(1, 129))
        found = float(clipping_thresholds(Method("mse"), of(x))[0])
        assert error(found) <= 1.02 * best

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_least_noise_of_the_histogram_wins(self, kind: str) -> None:
        histogram = of(draw(kind))
        largest, counts = float(histogram.largest[0]), filled(histogram)
        tried = largest * np.arange(1, 129) / 128
        noise = quantization_noise(counts, float(histogram.widths[0]), tried)
        found = float(clipping_thresholds(Method("mse"), histogram)[0])
        assert found == np.float32(tried[noise == noise.min()].max())


@pytest.mark.parametrize("part", [1, 0.6, 0.05, 0.001])
def test_noise_is_that_of_values_spread_over_their_bins(part: float) -> None:
    counts, width = np.array([5, 0, 3, 1, 0, 2]), 0.37
    threshold = part * 6 * width
    spread: NDArray[Any] = (np.arange(100_000) + 0.5) / 100_000 * width
    expected = sum(
        n * ((x - quantized(x, threshold)) ** 2).mean()
        for n, x in ((n, spread + b * width) for b, n in enumerate(counts))
    )
    noise = quantization_noise(counts, width, np.array([threshold]))[0]
    assert noise == pytest.approx(expected / counts.sum(), rel=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sparse"])
@pytest.mark.parametrize("method", METHODS)
def test_the_predicted_ratio_is_what_quantising_gives(kind: str, method: str) -> None:
    x = np.stack([draw(kind, seed=0), 100 * draw(kind, seed=1)])
    histogram = of(x)
    thresholds = clipping_thresholds(Method.of(method), histogram)
    error = x - np.stack([quantized(row, t) for row, t in zip(x, thresholds, strict=True)])
    measured = 10 * math.log10((x.astype(float) ** 2).mean() / (error**2).mean())
    assert signal_to_quantization_noise(histogram, thresholds) == pytest.approx(measured, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
    @given(seed=st.integers(0, 99), exponent=st.integers(-30, 60))
    @settings(max_examples=20)
    def test_scales_with_the_values(self, method: str, seed: int, exponent: int) -> None:
        x = draw("laplace", 2000, seed)
        threshold = clipping_thresholds(Method.of(method), of(x))
        scaled = clipping_thresholds(Method.of(method), of(np.ldexp(x, exponent)))
        assert np.array_equal(scaled, np.ldexp(threshold, exponent))

    @pytest.mark.slow
    @given(values=st.lists(st.floats(-(2.0**120), 2.0**120, width=32), min_size=1, max_size=50))
    def test_lies_above_zero_and_not_above_the_largest(self, method: str, values: list[float]) -> None:
        x = np.array(values, np.float32)
        if np.abs(x).max() >= 2.0**-64:
            assert 0 < clipping_thresholds(Method.of(method), of(x))[0] <= np.abs(x).max()

    def test_a_dead_channel_gets_a_scale_that_divides(self, method: str) -> None:
        x = draw("normal", 500)
        thresholds = clipping_thresholds(Method.of(method), of(np.stack([x, 0 * x, 1e-35 * x])))
        assert thresholds[0] > 1
        assert thresholds[1] == thresholds[2] == thresholds[0] * np.float32(2.0**-20)
        with np.errstate(all="raise"):
            assert np.float32(0) / (thresholds[1] / np.float32(127)) == 0

    @pytest.mark.parametrize("value", [0, 1e-30])
    def test_all_zeros_are_refused(self, method: str, value: float) -> None:
        with pytest.raises(DataError, match="all zeros"):
            clipping_thresholds(Method.of(method), of(np.full((3, 10), value)))


def test_methods_by_name() -> None:
    assert Method.of("percentile", 99.0) == Method("percentile", 99.0)
    assert Method.of("percentile") == Method("percentile", 99.99)
    assert Method.of("mse") == Method("mse")
    with pytest.raises(ConfigError, match="expected one of minmax, percentile, entropy, mse"):
        Method("average")
    with pytest.raises(ConfigError, match="minmax takes no percentile"):
        Method("minmax", 99.0)
    with pytest.raises(ConfigError, match="method percentile takes a percentile"):
        Method("percentile")
