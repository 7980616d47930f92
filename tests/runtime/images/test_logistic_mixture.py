"""The likelihood against its definition, and draws against the likelihood."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multires_edge.base.errors import ConfigError
from multires_edge.runtime.images.logistic_mixture import LogisticMixture, mixture_count

ALL_LEVELS = np.arange(256)


def random_params(channels: int, mixtures: int = 10, seed: int = 0, spread: float = 1.5) -> np.ndarray:
    """One pixel's outputs, like a trained network's: scales of a few levels, means over the whole range."""
    random = np.random.default_rng(seed)
    params = random.standard_normal(mixtures * (10 if channels == 3 else 3)) * spread
    by_channel = params[mixtures:].reshape(channels, -1, mixtures)
    by_channel[:, 0] = random.uniform(-1.1, 1.1, (channels, mixtures))
    by_channel[:, 1] = random.uniform(-5, -1, (channels, mixtures))
    return params.astype(np.float32)


def definition(params: np.ndarray, levels: np.ndarray) -> float:
    """Probability of one pixel, term by term from the paper's equations, in Python's floats."""
    channels = len(levels)
    mixtures = len(params) // (10 if channels == 3 else 3)

    def sigmoid(z: float) -> float:
        return 0.5 * (1 + math.tanh(z / 2))

    x = [level / 127.5 - 1 for level in levels]
    weights = np.exp(params[:mixtures].astype(np.float64))
    total = 0.0
    for i in range(mixtures):
        p = float(weights[i] / weights.sum())
        for c in range(channels):
            block = params[mixtures:].reshape(channels, -1, mixtures)[c, :, i]
            all_blocks = params[mixtures:].reshape(channels, -1, mixtures)[:, :, i]
            mean, scale = float(block[0]), math.exp(max(float(block[1]), -7.0))
            if c == 1:
                mean += math.tanh(all_blocks[0, 2]) * x[0]
            if c == 2:
                mean += math.tanh(all_blocks[1, 2]) * x[0] + math.tanh(all_blocks[2, 2]) * x[1]
            upper = 1.0 if levels[c] == 255 else sigmoid((x[c] + 1 / 255 - mean) / scale)
            lower = 0.0 if levels[c] == 0 else sigmoid((x[c] - 1 / 255 - mean) / scale)
            p *= upper - lower
        total += p
    return total


def log_likelihoods(params: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Of many pixels (n, channels) under one mixture, (n,)."""
    levels = levels.astype(np.uint8)
    return LogisticMixture.from_params(params[None], levels.shape[-1]).log_likelihood(levels)


def with_last_channel(first: np.ndarray) -> np.ndarray:
    """All pixels (256, channels) that begin with the given levels."""
    return np.column_stack([np.tile(first, (256, 1)), ALL_LEVELS]).astype(np.uint8)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
extreme = st.one_of(st.floats(-20, 20, width=32), finite)


class TestLikelihood:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("seed", range(5))
    def test_is_the_definition(self, channels: int, seed: int) -> None:
        params = random_params(channels, seed=seed)
        levels = np.random.default_rng(seed).integers(0, 256, (60, channels))
        levels[:2] = [[0], [255]]
        expected = [definition(params, pixel) for pixel in levels]
        assert np.allclose(np.exp(log_likelihoods(params, levels)), expected, rtol=1e-7, atol=1e-12)

    @pytest.mark.parametrize("seed", range(5))
    def test_of_a_grey_pixel_sums_to_one(self, seed: int) -> None:
        assert np.isclose(np.exp(log_likelihoods(random_params(1, seed=seed), ALL_LEVELS[:, None])).sum(), 1)

    @pytest.mark.parametrize("seed", range(3))
    def test_of_a_coloured_pixel_sums_to_one(self, seed: int) -> None:
        """Over all levels of red, of green given red, and of blue given both, one after the other."""
        params = random_params(3, mixtures=2, seed=seed)
        mixture = LogisticMixture.from_params(params[None], 3)
        first = np.random.default_rng(seed).integers(0, 256, 2)
        for channel in range(3):
            levels = np.zeros((256, 3), np.uint8)
            levels[:, :channel] = first[:channel]
            levels[:, channel] = ALL_LEVELS
            sums = np.exp(mixture.component_log_likelihood(levels)[:, channel]).sum(0)
            assert np.allclose(sums, 1)

    @settings(max_examples=200)
    @given(st.sampled_from([1, 3]), st.integers(1, 4), st.data())
    def test_is_a_distribution_whatever_the_network_says(
        self, channels: int, mixtures: int, data: st.DataObject
    ) -> None:
        d_output = mixtures * (10 if channels == 3 else 3)
        params = data.draw(arrays(np.float32, d_output, elements=extreme))
        first = data.draw(arrays(np.uint8, channels - 1))
        mixture = LogisticMixture.from_params(params[None], channels)
        by_component = mixture.component_log_likelihood(with_last_channel(first))[:, -1]
        assert (by_component <= 0).all()
        assert np.allclose(np.exp(by_component).sum(0), 1)
        log_p = mixture.log_likelihood(with_last_channel(first))
        assert np.isfinite(log_p).all() and (log_p <= 1e-9).all()

    @pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
    def test_keeps_its_digits_where_probabilities_vanish(self, level: int) -> None:
        """Far in a tail of the narrowest scale, log p falls by the distance over the scale."""
        for sign in (-1.0, 1.0):
            near, far = (
                log_likelihoods(np.array([0, sign * mean, -7], np.float32), np.array([[level]]))[0]
                for mean in (10.0, 11.0)
            )
            tail = level == (0 if sign < 0 else 255)
            expected = 0.0 if tail else -math.exp(7)
            assert np.isclose(far - near, expected, rtol=1e-9)

    def test_scales_below_the_trained_ones_are_the_least(self) -> None:
        narrow, narrower = (np.array([0, 0.1, log_scale], np.float32) for log_scale in (-7, -30))
        levels = ALL_LEVELS[:, None]
        assert np.array_equal(log_likelihoods(narrow, levels), log_likelihoods(narrower, levels))

    def test_any_leading_shape(self) -> None:
        params = np.stack([random_params(3, seed=i) for i in range(6)]).reshape(2, 3, 100)
        levels = np.random.default_rng(0).integers(0, 256, (2, 3, 3)).astype(np.uint8)
        together = LogisticMixture.from_params(params, 3).log_likelihood(levels)
        for i, j in np.ndindex(2, 3):
            assert np.isclose(together[i, j], log_likelihoods(params[i, j], levels[i, j][None])[0])


def draws(params: np.ndarray, channels: int, count: int = 40_000, **options: Any) -> np.ndarray:
    uniforms = np.random.default_rng(11).random((count, 1 + channels))
    many = np.broadcast_to(params, (count, len(params)))
    return LogisticMixture.from_params(many, channels).sample(uniforms, **options)


def assert_distributed(levels: np.ndarray, p: np.ndarray) -> None:
    """Pearson's chi-square: levels (n,) against probabilities (256,), rare levels taken together.

    The bound is the mean of the statistic plus five of its deviations: a right sampler fails it once
    in millions of seeds, and the seed is fixed.
    """
    assert np.isclose(p.sum(), 1)
    expected, observed = p * len(levels), np.bincount(levels, minlength=256)
    order = np.argsort(expected)
    rare = order[np.cumsum(expected[order]) < 10]
    common = np.setdiff1d(ALL_LEVELS, rare)
    cells = [(observed[common], expected[common])]
    if len(rare) and expected[rare].sum() > 1:
        cells.append((observed[rare].sum(keepdims=True), expected[rare].sum(keepdims=True)))
    statistic = sum(float(((seen - wanted) ** 2 / wanted).sum()) for seen, wanted in cells)
    freedom = max(1, sum(len(wanted) for _, wanted in cells) - 1)
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


class TestSampling:
    @pytest.mark.parametrize("seed", range(4))
    def test_grey_levels_are_distributed_as_the_likelihood_says(self, seed: int) -> None:
        params = random_params(1, seed=seed)
        assert_distributed(draws(params, 1)[:, 0], np.exp(log_likelihoods(params, ALL_LEVELS[:, None])))

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(3))
    def test_each_colour_is_distributed_as_the_likelihood_says(self, seed: int) -> None:
        """Red, and then green and blue, by the chance that the mixture gives them after those before.

        P(blue <= b | red, green) of the pixels drawn, spread over its step, is uniform if and only if
        blue follows its conditional distribution; so for green and red.
        """
        params = random_params(3, seed=seed)
        levels = draws(params, 3, 1000)
        mixture = LogisticMixture.from_params(params[None], 3)
        weights = mixture.logits - np.logaddexp.reduce(mixture.logits, axis=-1, keepdims=True)
        spread = np.random.default_rng(5).random(len(levels))
        for channel in range(3):
            every = np.repeat(levels[:, None], 256, axis=1)
            every[..., channel] = ALL_LEVELS
            by_channel = mixture.component_log_likelihood(every)[..., : channel + 1, :]
            p = np.exp(weights + by_channel.sum(-2)).sum(-1)
            p /= p.sum(1, keepdims=True)
            here = levels[:, channel].astype(int)
            rows = np.arange(len(levels))
            u = np.cumsum(p, axis=1)[rows, here] - spread * p[rows, here]
            u.sort()
            distance = np.abs(u - (rows + 0.5) / len(u)).max() + 0.5 / len(u)
            # Kolmogorov and Smirnov: exceeded by a right sampler with a chance of 2 exp(-2 2.5^2) = 7e-6.
            assert distance < 2.5 / math.sqrt(len(u))

    def test_a_channel_depends_on_those_before_it(self) -> None:
        """A coefficient of 1 from red to blue, narrow scales: blue is red."""
        params = np.zeros(10, np.float32)
        by_channel = params[1:].reshape(3, 3)
        by_channel[:, 1] = [-1, -7, -7]
        by_channel[:, 2] = [0, 20, 0]
        levels = draws(params, 3, 500).astype(int)
        assert np.abs(levels[:, 2] - levels[:, 0]).max() <= 3
        assert np.abs(levels[:, 1] - 127.5).max() < 10 < levels[:, 0].std()

    def test_temperature_is_that_of_logits_and_scales(self) -> None:
        params, t = random_params(1, seed=3), 0.6
        colder = params.copy()
        colder[:10] /= t
        colder[20:] += math.log(t)
        p = np.exp(log_likelihoods(colder, ALL_LEVELS[:, None]))
        assert_distributed(draws(params, 1, temperature=t)[:, 0], p)

    def test_no_temperature_leaves_the_likeliest_component_alone(self) -> None:
        params = random_params(1, seed=3)
        levels = draws(params, 1, 100, temperature=1e-300)
        mean = params[10:20][params[:10].argmax()]
        assert (levels == np.clip(np.rint((mean + 1) * 127.5), 0, 255)).all()

    @pytest.mark.slow
    @settings(max_examples=200)
    @given(st.sampled_from([1, 3]), st.data())
    def test_draws_something_possible_whatever_the_network_says(
        self, channels: int, data: st.DataObject
    ) -> None:
        params = data.draw(arrays(np.float32, 20 if channels == 3 else 6, elements=extreme))
        unit = st.one_of(st.sampled_from([0.0, 1 - 2**-53]), st.floats(0, 1, exclude_max=True))
        uniforms = data.draw(arrays(np.float64, (1, 1 + channels), elements=unit))
        mixture = LogisticMixture.from_params(params[None], channels)
        with np.errstate(all="raise", under="ignore"):
            levels = mixture.sample(uniforms)
            log_p = mixture.log_likelihood(levels)
        # A draw's own chance is at least that of the least uniform number that leads to it.
        assert levels.dtype == np.uint8 and log_p[0] > -250


class TestMixtureCount:
    @pytest.mark.parametrize(("d_output", "channels", "count"), [(100, 3, 10), (30, 1, 10), (10, 3, 1)])
    def test_follows_from_the_outputs(self, d_output: int, channels: int, count: int) -> None:
        assert mixture_count(d_output, channels) == count

    @pytest.mark.parametrize(("d_output", "channels"), [(99, 3), (31, 1), (100, 2), (256, 1)])
    def test_other_outputs_are_refused(self, d_output: int, channels: int) -> None:
        with pytest.raises(ConfigError, match="expected"):
            mixture_count(d_output, channels)
