"""The kernel, compiled for this host, over the whole model class, in every order of its threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.export.folding import fold
from multires_edge.export.native_weights import native_weights
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Cumulative, Window
from multires_edge.runtime.backends import _native
from multires_edge.runtime.backends.cuda.stepper import CudaStepper
from multires_edge.runtime.backends.protocol import Outcome
from tests.conftest import as_double, configs, random_inputs, random_net, variant, within_limit
from tests.runtime.backends.cuda.compiled import header_of, plan_of, run, stepper_on_host
from tests.runtime.backends.cuda.test_kernel import PAPER
from tests.runtime.backends.test_native_queues import check_pushes, network_in
from tests.runtime.cpp.networks import NETWORKS, expected_outputs
from tests.runtime.slow_stream import SlowStream

poolings = st.one_of(st.just(Cumulative()), st.integers(1, 60).map(Window))

pytestmark = pytest.mark.native


def case_of(
    config: ModelConfig, pooling: Any, batch: int, steps: int
) -> tuple[bytes, NDArray[Any], NDArray[Any]]:
    """The weights of a random network, inputs of its streams, and the outputs in float64."""
    net, inputs = random_net(config).double(), random_inputs(config, batch, steps)
    return native_weights(fold(net), pooling), inputs, net.stepwise(as_double(inputs), pooling).numpy()


def check_chunks(stepper: CudaStepper, inputs: NDArray[Any], expected: NDArray[Any], split: int) -> None:
    """Two chunks, and then a stream that restarts alone."""
    outputs = [run(stepper, part) for part in np.split(inputs, [split], axis=-1)]
    assert within_limit(np.concatenate(outputs, -1), expected)
    stepper.reset([len(inputs) - 1])
    assert within_limit(run(stepper, inputs)[-1:], expected[-1:])


@pytest.mark.slow
@given(
    config=configs(),
    pooling=poolings,
    batch=st.sampled_from([1, 3]),
    rows=st.sampled_from([1, 2, 4]),
    threads=st.sampled_from([0, 64, 96]),
    split=st.integers(1, 59),
    seed=st.integers(0, 9),
)
@settings(max_examples=24)
def test_equals_the_reference_on_every_prefix(
    config: ModelConfig, pooling: Any, batch: int, rows: int, threads: int, split: int, seed: int
) -> None:
    """In float32: chunks of any length, and a stream that restarts alone."""
    weights, inputs, expected = case_of(config, pooling, batch, 60)
    stepper = stepper_on_host(weights, batch, rows=rows, threads=threads, seed=seed)
    check_chunks(stepper, inputs, expected, split)


@pytest.mark.slow
@given(
    config=configs(max_depth=6),
    pooling=st.one_of(st.just(Cumulative()), st.integers(1, 40).map(Window)),
    precision=st.sampled_from(["fp32", "fp16", "int8"]),
    dtype=st.sampled_from(["int8", "float16", "float32"]),
    rows=st.sampled_from([1, 2]),
)
@settings(max_examples=14)
def test_each_step_is_the_slow_one(
    config: ModelConfig, pooling: Any, precision: str, dtype: str, rows: int
) -> None:
    """From what the kernel itself remembers, as the native engine's test does."""
    net, steps = random_net(config), 20
    folded = network_in(precision, dtype, net)
    inputs = random_inputs(config, 2, steps, seed=4)
    weights = native_weights(folded, pooling, None, precision)
    stepper, slow = stepper_on_host(weights, 2, rows=rows), SlowStream(folded, pooling, 2)
    outputs, expected = [], []
    for t in range(steps):
        if t == 11:
            stepper.reset([1])
            slow.reset(1)
        state = stepper.read_state()
        assert np.array_equal(state["position"], slow.position)
        rings = [array for name, array in sorted(state.items()) if name.startswith("queue")]
        for ring, given_ring in zip(slow.rings, rings, strict=True):
            ring[...] = given_ring.reshape(ring.shape)
        outputs.append(run(stepper, inputs[..., t : t + 1]))
        expected.append(slow.step(inputs[..., t])[..., None])
        state = stepper.read_state()
        after = [array for name, array in sorted(state.items()) if name.startswith("queue")]
        if dtype != "float32":
            check_pushes(slow, after)
    y, reference = np.concatenate(outputs, -1), np.concatenate(expected, -1)
    if precision == "int8":  # whose products have borders of their own
        assert np.abs(y - reference).mean() <= 1e-3 * max(1, np.abs(reference).max())
    else:
        assert within_limit(y, reference, 2e-5)


@pytest.mark.slow
@given(
    window=st.integers(1, 70),
    kind=st.sampled_from(["max", "max+mean", "last+max"]),
    rows=st.sampled_from([1, 2]),
    split=st.integers(1, 89),
)
@settings(max_examples=6)
def test_maxima_of_windows(window: int, kind: str, rows: int, split: int) -> None:
    """Of any length, with a stream that restarts alone."""
    config = variant(pooling=kind, d_model=5, n_layers=1)
    whole = config.pooled_by(None)
    assert whole is not None
    weights, inputs, expected = case_of(config, whole.over(window), 2, 90)
    check_chunks(stepper_on_host(weights, 2, rows=rows), inputs, expected, split)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_kind_under_sanitizers(name: str) -> None:
    network = NETWORKS[name]
    net = network.random()
    inputs = random_inputs(net.config, 3, 40, seed=6)
    weights = network.weights()
    checked = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
    stepper = stepper_on_host(weights, 3, *checked, rows=2, threads=64)
    assert within_limit(run(stepper, inputs), expected_outputs(network, inputs), network.limit)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("fp16", "float16"), ("int8", "int8")])
def test_orders_chunks_blocks_and_neighbours_change_not_a_bit(precision: str, dtype: str) -> None:
    net = random_net(variant(depth=6, d_model=41, kernel_size=3, task="autoregressive", d_output=5))
    weights = native_weights(network_in(precision, dtype, net), Cumulative(), None, precision)
    inputs = random_inputs(net.config, 5, 40)
    first = stepper_on_host(weights, 5, rows=1)
    whole, state = run(first, inputs), first.read_state()
    for rows, seed in ((1, 1), (2, 2), (4, 3)):
        stepper = stepper_on_host(weights, 5, rows=rows, seed=seed)
        parts = [run(stepper, part) for part in np.split(inputs, [1, 2, 35, 36], axis=-1)]
        assert np.array_equal(np.concatenate(parts, axis=-1), whole)
        for name, array in stepper.read_state().items():
            assert np.array_equal(array, state[name])
    assert np.array_equal(run(stepper_on_host(weights, 1), inputs[-1:]), whole[-1:])


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("fp16", "float16"), ("int8", "int8")])
def test_states_move_to_the_native_engine_and_back(precision: str, dtype: str) -> None:
    net = random_net(variant(depth=5, d_model=20, pooling="last+mean", encoder_kernel_size=3))
    weights = native_weights(network_in(precision, dtype, net), net.config.pooled_by(None), None, precision)
    stepper = stepper_on_host(weights, 2, rows=2, window=7)
    native = _native.State(_native.Model(weights), 2, 7)
    inputs = random_inputs(net.config, 2, 60)
    run(stepper, inputs[..., :40])
    saved = stepper.read_state()
    parts = native.parts()
    assert {name: (part.dtype, part.shape) for name, part in parts.items()} == {
        name: (array.dtype, array.shape) for name, array in saved.items()
    }
    for name, array in saved.items():
        parts[name][...] = array
    native.changed()
    stepper.reset(None)
    assert not any(array.any() for array in stepper.read_state().values())
    stepper.write_state({name: part.copy() for name, part in parts.items()})
    for name, array in stepper.read_state().items():
        assert array.tobytes() == saved[name].tobytes(), name
    y = np.empty((20, 2, net.config.d_output), np.float32)
    native.run(np.ascontiguousarray(np.moveaxis(inputs[..., 40:], -1, 0)), y)
    expected = np.moveaxis(y, 0, -1)
    error = np.abs(run(stepper, inputs[..., 40:]) - expected)
    assert error.mean() <= (1e-6 if precision == "fp32" else 1e-3) * max(1, np.abs(expected).max())


@pytest.mark.parametrize("encoder", ["linear", "token"])
def test_a_step_on_its_own_buffers(encoder: str) -> None:
    weights, inputs, expected = case_of(variant(encoder=encoder), Cumulative(), 2, 20)
    stepper = stepper_on_host(weights, 2)
    bad: list[float] = [-1, 11] if encoder == "token" else [np.nan, np.inf, -np.inf]
    for t in range(20):
        for value in bad:
            stepper.input[...] = inputs[..., t]
            stepper.input[1, ...] = value
            assert stepper.step() == Outcome.BAD_INPUT
        stepper.input[...] = inputs[..., t]
        assert stepper.step() == Outcome.DONE
        assert within_limit(stepper.output, expected[..., t])
    if encoder == "linear":
        stepper.input[...] = 3e38
        assert stepper.step() == Outcome.BAD_OUTPUT


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [PAPER, {"d_model": 300, "n_layers": 36}, {"d_output": 13000}],
)
def test_large_networks(changes: dict[str, Any]) -> None:
    """That of the paper; one whose past exceeds shared memory; one whose outputs do."""
    weights, inputs, expected = case_of(variant(**changes), Cumulative(), 3, 12)
    plan = plan_of(weights)
    assert (plan.scratch > 0) == ("d_output" in changes and changes["d_output"] > 100)
    assert ("kAhead = true" in header_of(plan)) == (changes is PAPER)
    stepper = stepper_on_host(weights, 3, "-O2", rows=2)
    assert within_limit(run(stepper, inputs), expected)


@pytest.mark.slow
def test_a_million_steps_are_as_good_as_a_thousand() -> None:
    config = variant(d_model=4, n_layers=1, depth=3)
    weights, inputs, expected = case_of(config, Cumulative(), 1, 1_000_000)
    y = run(stepper_on_host(weights, 1, "-O2", "-DMULTIRES_ALONE", threads=1), inputs)
    error = np.abs(y - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 1e-5
    assert error[..., -1000:].max() <= 2 * error[..., 1000:2000].max()
