"""Queues of every type in the native engine, whatever the weights: against a slow step, and by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.base.errors import BundleError
from multires_edge.export.folding import FoldedNetwork, fold
from multires_edge.export.linear import Linear
from multires_edge.export.native_weights import native_weights
from multires_edge.export.precision.int8 import quantize
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Cumulative, Pooling, Window
from multires_edge.models.network import MultiresNet
from multires_edge.runtime.backends import _native
from tests.conftest import configs, native_model, random_inputs, random_net, variant, within_limit
from tests.runtime.backends.test_native import run
from tests.runtime.backends.test_native_precisions import models
from tests.runtime.cpp.networks import calibrated, with_queues
from tests.runtime.slow_stream import SlowStream

TYPES = ["float32", "float16", "int8"]
Tensors = dict[str, NDArray[Any]]


def network_in(precision: str, queues: str, net: MultiresNet) -> FoldedNetwork:
    """The network that the engine computes: its weights as they are stored."""
    folded = with_queues(fold(net), queues, net)
    if precision == "int8":
        return with_queues(quantize(folded, calibrated(net)), queues, net)
    if precision == "fp32":
        return folded

    def stored(linear: Any) -> Any:
        return linear and Linear(linear.weight.astype(np.float16).astype(np.float64), linear.bias)

    layers = [
        replace(layer, mixing=stored(layer.mixing), output=stored(layer.output)) for layer in folded.layers
    ]
    return replace(folded, layers=layers)


def parts_of(state: _native.State) -> list[NDArray[Any]]:
    return [part for name, part in sorted(state.parts().items()) if name.startswith("queue")]


@pytest.mark.slow
@given(
    config=configs(max_depth=6),
    pooling=st.one_of(st.just(Cumulative()), st.integers(1, 40).map(Window)),
    precision=st.sampled_from(["fp32", "fp16", "int8"]),
    dtype=st.sampled_from(["int8", "int8", "float16"]),
)
@settings(max_examples=25)
def test_each_step_is_the_slow_one(
    config: ModelConfig,
    pooling: Pooling,
    precision: str,
    dtype: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """From what the engine itself remembers, so that no level on the border of two is ever an excuse."""
    net, rows, steps = random_net(config), 2, 30
    network = network_in(precision, dtype, net)
    inputs = random_inputs(config, rows, steps, seed=4)
    weights = native_weights(network, pooling, None, precision)
    for model in models(weights, tmp_path_factory.mktemp("weights")):
        state, slow = _native.State(model, rows), SlowStream(network, pooling, rows)
        rings, position = parts_of(state), state.parts()["position"]
        outputs, expected, beyond = [], [], []
        for t in range(steps):
            if t == 11:
                state.reset(1)
                slow.reset(1)
            assert np.array_equal(position, slow.position)
            for ring, given_ring in zip(slow.rings, rings, strict=True):
                ring[...] = given_ring.reshape(ring.shape)
            outputs.append(run(state, inputs[..., t : t + 1], config.d_output))
            expected.append(slow.step(inputs[..., t])[..., None])
            beyond += check_pushes(slow, rings, exact_layers=1 if precision == "int8" else None)
        y, reference = np.concatenate(outputs, -1), np.concatenate(expected, -1)
        if precision == "int8":  # whose products have borders of their own
            assert np.abs(y - reference).mean() <= 1e-3 * max(1, np.abs(reference).max()), model.isa
            assert np.mean(beyond) <= 1e-3, model.isa
        else:
            assert within_limit(y, reference, 2e-5), model.isa


def check_pushes(
    slow: SlowStream, rings: list[NDArray[Any]], exact_layers: int | None = None
) -> list[NDArray[Any]]:
    """What stands in the rings is nearest to what was pushed, and nothing else was written.

    Layers after the first ``exact_layers`` follow int8 products, which may round an input the other way.
    Returns the errors of each scale beyond rounding.
    """
    beyond = []
    for j, (ring, exact, after) in enumerate(zip(rings, slow.pushed, slow.rings, strict=True)):
        assert ring.dtype == slow.network.queue_type
        held = ring.reshape(after.shape)
        row, slot = np.arange(len(held)), (slow.position - 1) % held.shape[1]
        level = None if slow.network.queue_scales is None else slow.network.queue_scales[j]
        worth = np.float64(1) if level is None else level.astype(np.float64)
        low: Any = -65504.0 if level is None else -128 * worth
        high: Any = 65504.0 if level is None else 127 * worth
        step = np.abs(exact) / 1024 + 1e-7 if level is None else worth
        error = np.abs(held[row, slot] * worth - np.clip(exact, low, high))
        beyond.append(np.maximum(error - step / 2, 0) / np.maximum(1, np.abs(exact)))
        assert (beyond[-1][:, :exact_layers] <= 2e-5).all()
        after[row, slot] = held[row, slot]
        assert np.array_equal(held, after)
    return beyond


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("batch", [1, 3, 33])
def test_chunks_and_neighbours_change_not_a_bit(
    precision: str, dtype: str, batch: int, tmp_path: Path
) -> None:
    net = random_net(variant(depth=6, d_model=41, kernel_size=3, task="autoregressive", d_output=5))
    inputs = random_inputs(net.config, batch, 60)
    weights = native_weights(network_in(precision, dtype, net), Cumulative(), None, precision)
    for model in models(weights, tmp_path):
        state, pieces = _native.State(model, batch), _native.State(model, batch)
        whole = run(state, inputs, 5)
        split = [run(pieces, piece, 5) for piece in np.split(inputs, [1, 2, 35, 36], axis=-1)]
        assert np.array_equal(np.concatenate(split, axis=-1), whole)
        for one, other in zip(parts_of(state), parts_of(pieces), strict=True):
            assert np.array_equal(one, other)
        alone = _native.State(model, 1)
        assert np.array_equal(run(alone, inputs[-1:], 5), whole[-1:])


@pytest.mark.parametrize("changes", [{}, {"tree_select": "uniform", "memory_size": 12, "kernel_size": 4}])
def test_what_is_far_too_large_ends_at_the_last_level_and_leaves(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """It is gone to the last bit when the receptive field has passed."""
    net = random_net(variant(task="autoregressive", depth=4, d_model=19, **changes))
    config, d_output = net.config, net.config.d_output
    reach = config.n_layers * config.layer_receptive_field
    inputs = random_inputs(config, 1, reach + 30)
    weights = native_weights(network_in("fp32", "int8", net), Cumulative())
    for model in models(weights, tmp_path):
        state, fresh = _native.State(model, 1), _native.State(model, 1)
        for huge in (1e30, -1e30, 3e38):
            run(state, np.full((1, 2, 9), huge, np.float32), d_output)
            levels = np.concatenate([part.ravel() for part in parts_of(state)])
            assert levels.min() == -128 and levels.max() == 127
        after, expected = run(state, inputs, d_output), run(fresh, inputs, d_output)
        assert np.array_equal(after[..., reach:], expected[..., reach:])


def test_int8_queues_take_a_quarter(tmp_path: Path) -> None:
    config = variant(d_model=64, d_output=64, depth=6)
    net = random_net(config)
    sizes, costs = {}, {}
    for dtype in TYPES:
        path = tmp_path / dtype
        path.write_bytes(native_weights(network_in("fp32", dtype, net), Cumulative()))
        model = native_model(path)
        sizes[dtype] = sum(part.nbytes for part in parts_of(_native.State(model, 3)))
        costs[dtype] = model.cost
    assert sizes["float32"] == 2 * sizes["float16"] == 4 * sizes["int8"]
    for bytes_of in ("tap_bytes", "push_bytes"):
        one, half, quarter = (costs[dtype][bytes_of] for dtype in TYPES)
        assert one == 2 * half == 4 * quarter
    # What a level is worth, and 1 over it, for each queue and channel.
    more = 2 * config.depth * config.n_layers * config.d_model * 4
    assert costs["int8"]["weight_bytes"] == costs["float32"]["weight_bytes"] + more


class TestFiles:
    @pytest.fixture
    def net(self) -> MultiresNet:
        return random_net(variant())

    @pytest.fixture
    def whole(self, net: MultiresNet) -> bytes:
        return native_weights(network_in("fp32", "int8", net), Cumulative())

    def load(self, folder: Path, data: bytes) -> _native.Model:
        (folder / "weights.safetensors").write_bytes(data)
        return native_model(folder / "weights.safetensors")

    def changed(self, whole: bytes, change: Callable[[Tensors], None], **metadata: str | None) -> bytes:
        tensors: Tensors = {name: array.copy() for name, array in safetensors.numpy.load(whole).items()}
        change(tensors)
        header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
        merged = header["__metadata__"] | metadata
        return safetensors.numpy.save(tensors, {k: v for k, v in merged.items() if v is not None})

    @pytest.mark.parametrize("dtype", TYPES)
    def test_say_their_queues(self, dtype: str, net: MultiresNet) -> None:
        data = native_weights(with_queues(fold(net), dtype, net), Cumulative(), None, "int8")
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        assert header["__metadata__"]["queues"] == dtype
        assert ("layers.1.queue_scales" in header) == (dtype == "int8")

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (0, "not a normal number above 0"),
            (-1, "not a normal number above 0"),
            (1e-39, "not a normal number above 0"),
            (np.inf, "NaN or infinity"),
            (np.nan, "NaN or infinity"),
            (3e38, "overflows float32"),
        ],
    )
    def test_scales(self, value: float, message: str, whole: bytes, tmp_path: Path) -> None:
        def change(tensors: Tensors) -> None:
            tensors["layers.1.highpass.2"][...] = 2
            tensors["layers.1.queue_scales"][2, 5] = value

        with pytest.raises(BundleError, match=message):
            self.load(tmp_path, self.changed(whole, change))

    def test_scales_that_are_missing_or_of_another_shape(self, whole: bytes, tmp_path: Path) -> None:
        def remove(tensors: Tensors) -> None:
            del tensors["layers.0.queue_scales"]

        def shorten(tensors: Tensors) -> None:
            tensors["layers.0.queue_scales"] = tensors["layers.0.queue_scales"][:2].copy()

        with pytest.raises(BundleError, match="queue_scales is missing"):
            self.load(tmp_path, self.changed(whole, remove))
        with pytest.raises(BundleError, match="queue_scales has shape"):
            self.load(tmp_path, self.changed(whole, shorten))

    @pytest.mark.parametrize(
        ("queues", "message"),
        [(None, "metadata queues is missing"), ("int4", "queues is 'int4', this release runs float32")],
    )
    def test_queues_that_are_missing_or_of_a_later_release(
        self, queues: str | None, message: str, whole: bytes, tmp_path: Path
    ) -> None:
        with pytest.raises(BundleError, match=message):
            self.load(tmp_path, self.changed(whole, lambda _: None, queues=queues))
