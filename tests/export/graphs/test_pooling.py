"""Pooling of a stream: right at every step, and after any number of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.pooling import POOLING_GRAPHS
from multires_edge.export.graphs.rings import RingsInGraph
from multires_edge.export.graphs.step import StepGraph
from multires_edge.format.pooling import parse_pooling
from multires_edge.format.specs import StateSpec
from multires_edge.format.targets import TARGETS
from tests.export.graphs.harness import Steps


def pooling_alone(pool: str, d_model: int = 1) -> StepGraph:
    """A step graph that only pools its input."""
    pooling = parse_pooling(pool)
    graph = GraphBuilder("pooling", TARGETS["cpu"].form)
    features = graph.input("x", np.float32, ["batch", d_model], "")
    rings = RingsInGraph(graph, [state for state in pooling.states(d_model) if state.in_place])
    pooled = POOLING_GRAPHS[type(pooling)].step(pooling, graph, rings, features, d_model)
    graph.output(pooled, np.float32, ["batch", d_model], "")
    clock = StateSpec(input="position", output="next_position", dtype="int64", shape=("batch",))
    states = sorted([*pooling.states(d_model), clock], key=lambda state: state.input)
    for state in states:
        graph.output(state.output, state.dtype, state.shape, "")
    return StepGraph(graph.build(""), tuple(states))


def moving_mean(x: NDArray[Any], window: int) -> NDArray[np.float64]:
    total = np.cumsum(x.astype(np.float64), axis=-1)
    total[..., window:] -= total[..., :-window].copy()
    return total / np.minimum(np.arange(1, x.shape[-1] + 1), window)


class TestCumulative:
    @pytest.mark.parametrize("value", [1.0, 0.1])
    def test_never_stands_still(self, value: float) -> None:
        """A float32 sum of 2^25 ones does not grow by another; nor would an error term left to itself."""
        step = pooling_alone("cumulative")
        steps = Steps(step, 1)
        done, error = 2**27, 0.0
        # The state that so many steps leave: the sum as float32, and what it lacks.
        value = float(np.float32(value))
        total = done * value
        steps.states["position"][:] = done
        steps.states["pool_sum"][:] = total
        error = total - float(steps.states["pool_sum"][0, 0])
        steps.states["pool_sum_error"][:] = error
        y = steps.run(np.full((1, 1, 3000), value, np.float32))
        assert np.abs(y / value - 1).max() < 2e-7
        kept = float(steps.states["pool_sum"][0, 0]) + float(steps.states["pool_sum_error"][0, 0])
        assert abs(kept - (done + 3000) * value) <= 3000 * value * 2**-20

    def test_the_error_stays_an_error(self) -> None:
        """It never outgrows half a unit in the sum's last place, whatever is added."""
        steps = Steps(pooling_alone("cumulative"), 1)
        x = (10 ** np.random.default_rng(0).uniform(-4, 4, (1, 1, 5000))).astype(np.float32)
        steps.run(x)
        total = steps.states["pool_sum"][0, 0]
        assert abs(steps.states["pool_sum_error"][0, 0]) <= np.spacing(total) / 2

    def test_stays_within_rounding_over_many_steps(self) -> None:
        x = (1 + np.random.default_rng(0).random((1, 1, 20_000))).astype(np.float32)
        y = Steps(pooling_alone("cumulative"), 1).run(x)
        expected = np.cumsum(x.astype(np.float64)) / np.arange(1, x.shape[-1] + 1)
        assert np.abs(y[0, 0] - expected).max() < 2e-7 * 2


def moving_maximum(x: NDArray[Any], window: int) -> NDArray[Any]:
    return np.stack([x[..., max(0, t + 1 - window) : t + 1].max(-1) for t in range(x.shape[-1])], -1)


class TestMaximumOfAWindow:
    @given(window=st.integers(1, 70), steps=st.integers(1, 200), seed=st.integers(0, 9))
    @settings(max_examples=15)
    def test_is_that_of_the_last_steps(self, window: int, steps: int, seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((2, 3, steps), dtype=np.float32) - 2
        y = Steps(pooling_alone(f"max:{window}", d_model=3), 2).run(x)
        assert np.array_equal(y, moving_maximum(x, window))

    @pytest.mark.parametrize("start", [10**8, 10**12 + 3])
    def test_after_many_steps(self, start: int) -> None:
        """Whatever states a long run has left, nothing of them is left two windows later."""
        random = np.random.default_rng(3)
        steps = Steps(pooling_alone("max:13"), 1)
        for name, state in steps.states.items():
            state[:] = start if name == "position" else 1000 * random.standard_normal(state.shape)
        x = random.standard_normal((1, 1, 100), dtype=np.float32)
        assert np.array_equal(steps.run(x)[..., 26:], moving_maximum(x, 13)[..., 26:])


class TestWindow:
    @pytest.mark.parametrize("window", [1, 2, 7, 64])
    def test_is_the_mean_of_the_last_steps(self, window: int) -> None:
        x = np.random.default_rng(0).standard_normal((3, 2, 400), dtype=np.float32)
        y = Steps(pooling_alone(f"window:{window}", d_model=2), 3).run(x)
        assert np.abs(y - moving_mean(x, window)).max() < 5e-7

    def test_forgets_completely(self) -> None:
        """After two windows not a bit is left of the past, however wild: so nothing can build up."""
        step = pooling_alone("window:16")
        random = np.random.default_rng(1)
        inputs = random.standard_normal((1, 1, 64), dtype=np.float32)
        calm, wild = Steps(step, 1), Steps(step, 1)
        calm.run(random.standard_normal((1, 1, 160), dtype=np.float32))
        wild.run((1e30 * random.standard_normal((1, 1, 160))).astype(np.float32))
        a, b = calm.run(inputs), wild.run(inputs)
        assert np.array_equal(a[..., 32:], b[..., 32:])

    def test_a_burst_leaves_nothing_behind_when_it_leaves_the_window(self) -> None:
        x = np.random.default_rng(2).standard_normal((1, 1, 200), dtype=np.float32)
        x[..., 40] = 1e7
        y = Steps(pooling_alone("window:16"), 1).run(x)
        assert np.abs(y - moving_mean(x, 16))[..., 56:].max() < 5e-7

    @pytest.mark.parametrize("start", [10**8, 10**8 + 5, 10**12 + 3])
    def test_after_a_hundred_million_steps(self, start: int) -> None:
        """A stream that has run for long, with whatever states that left, is exact two windows on."""
        random = np.random.default_rng(3)
        steps = Steps(pooling_alone("window:16"), 1)
        steps.states["position"][:] = start
        for name, state in steps.states.items():
            if name != "position":
                state[:] = 1000 * random.standard_normal(state.shape)
        x = random.standard_normal((1, 1, 300), dtype=np.float32)
        y = steps.run(x)
        assert np.abs(y - moving_mean(x, 16))[..., 32:].max() < 5e-7

    @pytest.mark.slow
    def test_a_large_window_of_a_constant(self) -> None:
        y = Steps(pooling_alone("window:30000"), 1).run(np.full((1, 1, 70_000), 0.1, np.float32))
        assert np.abs(y / np.float32(0.1) - 1).max() < 2e-7

    @pytest.mark.slow
    def test_long_run_with_a_drift_prone_signal(self) -> None:
        """0.1 is no float32: a sum that adds and subtracts it for ever drifts; this does not."""
        x = np.full((1, 1, 30_000), 0.1, np.float32)
        x[..., ::3] = 1e4
        y = Steps(pooling_alone("window:30"), 1).run(x)
        expected = moving_mean(x, 30)[0, 0]
        assert np.abs(y[0, 0] / expected - 1).max() < 2e-7
