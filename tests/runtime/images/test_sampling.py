"""Drawing images: from the right parameters, reproducibly, refusing what cannot be drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import ConfigError, InputError, MultiresError
from multires_edge.runtime import Bundle, PixelSampler, open_bundle, sample
from multires_edge.runtime.images.logistic_mixture import LogisticMixture
from multires_edge.runtime.images.pixels import scale_levels, to_sequence
from tests.conftest import variant, within_limit
from tests.runtime.images.test_logistic_mixture import ALL_LEVELS, assert_distributed, log_likelihoods

SIZE = (6, 7)


@pytest.fixture(params=["drawing", "drawing_grey"])
def opened(request: pytest.FixtureRequest) -> Bundle:
    return open_bundle(request.getfixturevalue(request.param))


@pytest.fixture
def coloured(drawing: Path) -> Bundle:
    return open_bundle(drawing)


def shifted(x: np.ndarray) -> np.ndarray:
    """What the steps are fed that predict x (n, channels, time)."""
    return np.concatenate([np.zeros_like(x[..., :1]), x[..., :-1]], axis=-1)


def uniforms_of(seed: int, count: int, time: int, channels: int) -> np.ndarray:
    """The numbers that ``count`` images draw from, (count, time, 1 + channels)."""
    children = np.random.SeedSequence(seed).spawn(count)
    return np.stack([np.random.default_rng(child).random((time, 1 + channels)) for child in children])


def draw_from(params: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Pixels (n, time, channels) from params (n, d_output, time)."""
    channels = uniforms.shape[-1] - 1
    return LogisticMixture.from_params(np.moveaxis(params, 1, -1), channels).sample(uniforms)


class TestParameters:
    """An image is a function of its random numbers and of the params that it gets for itself."""

    def test_are_those_of_the_image_itself(self, opened: Bundle) -> None:
        images = sample(opened, 3, SIZE, seed=4)
        x = scale_levels(to_sequence(images))
        params = opened.stream(3).run(shifted(x))
        uniforms = uniforms_of(4, 3, x.shape[-1], x.shape[1])
        assert np.array_equal(draw_from(params, uniforms).reshape(images.shape), images)

    @pytest.mark.parametrize("backend", ["native", "onnxruntime"])
    def test_are_those_of_the_full_graph(self, opened: Bundle, backend: str) -> None:
        images = sample(opened, 2, SIZE, backend=backend)
        x = scale_levels(to_sequence(images))
        stream = opened.stream(2, backend=backend)
        by_step = [stream.step(np.ascontiguousarray(before)) for before in np.moveaxis(shifted(x), -1, 0)]
        assert within_limit(np.stack(by_step, -1), opened.full(backend="onnxruntime")(x))

    def test_lead_to_the_same_levels_by_every_backend(self, opened: Bundle) -> None:
        """Given the same past; a draw on the border of two levels may fall to either side."""
        images = sample(opened, 4, SIZE, seed=1, backend="native")
        x = scale_levels(to_sequence(images))
        params = opened.stream(4, backend="onnxruntime").run(shifted(x))
        drawn = draw_from(params, uniforms_of(1, 4, x.shape[-1], x.shape[1])).reshape(images.shape)
        difference = np.abs(drawn.astype(int) - images)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01

    def test_first_pixels_are_distributed_as_the_network_says(self, drawing_grey: Path) -> None:
        bundle = open_bundle(drawing_grey)
        params = bundle.stream().step(np.zeros((1, 1), np.float32))[0]
        p = np.exp(log_likelihoods(params, ALL_LEVELS[:, None]))
        assert_distributed(sample(bundle, 4000, (1, 1), seed=2).reshape(-1), p)


class TestSeed:
    @pytest.mark.parametrize("backend", ["native", "onnxruntime"])
    def test_same_seed_same_images(self, opened: Bundle, backend: str) -> None:
        first, second, other = (sample(opened, 2, SIZE, seed=seed, backend=backend) for seed in (3, 3, 5))
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)

    def test_whatever_the_number_of_images(self, opened: Bundle) -> None:
        """The native engine computes a row alike, to the last bit, whatever rows are beside it."""
        five = sample(opened, 5, SIZE, seed=3, backend="native")
        for count in (1, 2, 4):
            assert np.array_equal(sample(opened, count, SIZE, seed=3, backend="native"), five[:count])

    def test_images_of_one_seed_differ(self, opened: Bundle) -> None:
        images = sample(opened, 4, SIZE)
        assert len({image.tobytes() for image in images}) == 4

    def test_a_taller_image_begins_like_a_lower_one(self, opened: Bundle) -> None:
        assert np.array_equal(sample(opened, 1, (9, 7))[:, :6], sample(opened, 1, (6, 7)))


class TestPrime:
    def test_keeps_the_rows_given(self, opened: Bundle) -> None:
        channels = opened.manifest.model.channels
        given = np.random.default_rng(0).integers(0, 256, (2, 3, 7, channels)).astype(np.uint8)
        images = sample(opened, 2, SIZE, prime=given)
        assert images.shape == (2, *SIZE, channels)
        assert np.array_equal(images[:, :3], given)
        assert np.array_equal(sample(opened, 2, (3, 7), prime=given), given)

    @pytest.mark.parametrize("time", [1, 2, 20])
    def test_goes_on_from_what_was_given(self, opened: Bundle, time: int) -> None:
        channels = opened.manifest.model.channels
        pixels = np.random.default_rng(1).integers(0, 256, (2, channels, time)).astype(np.uint8)
        sampler = PixelSampler(opened, 2, seed=8, backend="native")
        sampler.follow(pixels[..., :1])
        sampler.follow(pixels[..., 1:])
        unknown = np.zeros((2, channels, 1), np.float32)
        params = opened.full(backend="native")(np.concatenate([scale_levels(pixels), unknown], -1))
        expected = draw_from(params[..., -1:], uniforms_of(8, 2, 1, channels))[:, 0]
        assert np.array_equal(sampler.draw(), expected)


def test_no_temperature_leaves_one_image(coloured: Bundle) -> None:
    cold = sample(coloured, 8, SIZE, temperature=1e-9)
    assert len({image.tobytes() for image in cold}) == 1
    assert len({image.tobytes() for image in sample(coloured, 8, SIZE)}) == 8


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"temperature": 0.0}, "temperature is 0.0, expected a number above 0"),
            ({"temperature": float("nan")}, "temperature is nan"),
            ({"temperature": float("inf")}, "temperature is inf"),
            ({"temperature": "1"}, "temperature is '1'"),
            ({"seed": -1}, "seed is -1"),
            ({"seed": 0.5}, "seed is 0.5"),
            ({"count": 0}, "batch is 0"),
            ({"size": (0, 3)}, "size is 0x3"),
            ({"backend": "abacus"}, "backend 'abacus'"),
            ({"prime": np.zeros((1, 2, 3, 3), np.uint8)}, r"expected \(1, rows, 32, 3\)"),
            ({"prime": np.zeros((1, 33, 32, 3), np.uint8)}, "prime has 33 rows, expected at most 32"),
            ({"prime": np.zeros((1, 2, 32, 3), np.float32)}, "prime has dtype float32"),
        ],
    )
    def test_of_bad_arguments(self, coloured: Bundle, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(MultiresError, match=message):
            sample(coloured, **arguments)

    def test_of_images_that_fit_no_memory(self, coloured: Bundle) -> None:
        with pytest.raises(InputError, match="do not fit in memory"):
            sample(coloured, 1, (1 << 40, 1 << 40))

    def test_of_other_tasks(self, exported: Path, token_predictor: Path) -> None:
        with pytest.raises(ConfigError, match="its task is classification; sampling needs an autoregressive"):
            sample(open_bundle(exported))
        with pytest.raises(ConfigError, match="takes tokens"):
            sample(open_bundle(token_predictor))

    def test_of_other_outputs(self, coloured: Bundle) -> None:
        model = variant(d_input=3, d_output=99, task="autoregressive")
        with pytest.raises(ConfigError, match="has 99 outputs per step"):
            sample(Bundle(coloured.path, replace(coloured.manifest, network=model)))
