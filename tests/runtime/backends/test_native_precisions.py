"""The native engine in float16 and int8, against the graphs of the same precision and the float64 network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.base.errors import BundleError, StateError
from multires_edge.export import Int8Options, export_bundle
from multires_edge.export.folding import fold
from multires_edge.export.graphs.step import build_step_graph
from multires_edge.export.native_weights import native_weights
from multires_edge.format.comparison import LIMITS
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Cumulative, Pooling, Window
from multires_edge.format.targets import TARGETS
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends import _native
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import (
    as_double,
    configs,
    native_model,
    random_inputs,
    random_net,
    save_published,
    variant,
    within_limit,
)
from tests.export.graphs.harness import Steps
from tests.runtime.backends.test_native import run
from tests.runtime.cpp.networks import quantized, with_queues
from tests.runtime.cpp.programs import ISAS

poolings = st.one_of(st.just(Cumulative()), st.integers(1, 60).map(Window))
Tensors = dict[str, NDArray[Any]]


def models(weights: bytes, folder: Path) -> Iterator[_native.Model]:
    """A model on every instruction set of this CPU."""
    path = folder / "weights.safetensors"
    path.write_bytes(weights)
    for isa in ISAS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MULTIRES_ISA", isa)
            yield native_model(path)


@pytest.mark.slow
@given(config=configs(max_depth=7), pooling=poolings, rows=st.sampled_from([1, 3, 7]))
@settings(max_examples=30)
def test_int8_is_the_step_graph(
    config: ModelConfig, pooling: Pooling, rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    network = quantized(random_net(config))
    inputs = random_inputs(config, rows, 60, seed=2)
    graph = Steps(build_step_graph(network, TARGETS["portable"].form, pooling), rows).run(inputs)
    weights = native_weights(network, pooling, precision="int8")
    for model in models(weights, tmp_path_factory.mktemp("weights")):
        y = run(_native.State(model, rows), inputs, config.d_output)
        assert np.abs(y - graph).mean() <= 1e-3 * max(1, np.abs(graph).max()), model.isa


@pytest.mark.slow
@given(config=configs(), pooling=poolings, rows=st.sampled_from([1, 3, 7]))
@settings(max_examples=30)
def test_float16_is_the_network(
    config: ModelConfig, pooling: Pooling, rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    net = random_net(config).double()
    inputs = random_inputs(config, rows, 90)
    expected = net.stepwise(as_double(inputs), pooling)
    weights = native_weights(with_queues(fold(net), "float16", net), pooling, None, "fp16")
    for model in models(weights, tmp_path_factory.mktemp("w")):
        y = run(_native.State(model, rows), inputs, config.d_output)
        assert within_limit(y, expected, LIMITS["fp16"].value), model.isa


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("batch", [1, 3, 33])
def test_chunks_and_neighbours_change_not_a_bit(precision: str, batch: int, tmp_path: Path) -> None:
    net = random_net(variant(depth=6, d_model=41, task="autoregressive", d_output=5))
    folded = quantized(net) if precision == "int8" else fold(net)
    inputs = random_inputs(net.config, batch, 101)
    for model in models(native_weights(folded, Cumulative(), precision=precision), tmp_path):
        whole = run(_native.State(model, batch), inputs, 5)
        state = _native.State(model, batch)
        pieces = [run(state, piece, 5) for piece in np.split(inputs, [1, 2, 40, 41, 90], axis=-1)]
        assert np.array_equal(np.concatenate(pieces, axis=-1), whole)
        assert np.array_equal(run(_native.State(model, 1), inputs[-1:], 5), whole[-1:])


def test_what_float16_cannot_hold_does_not_become_infinite(tmp_path: Path) -> None:
    """A weight beyond its range stays in float32, and so large a past at its end."""
    net = random_net(variant())
    folded = with_queues(fold(net), "float16", net)
    folded.layers[0].mixing.weight[0, 0] = 1e5
    weights = native_weights(folded, Cumulative(), None, "fp16")
    tensors = safetensors.numpy.load(weights)
    assert tensors["layers.0.mixing.weight"].dtype == np.float32
    assert tensors["layers.1.mixing.weight"].dtype == np.float16
    for model in models(weights, tmp_path):
        state = _native.State(model, 1)
        run(state, np.full((1, 2, 20), 1e6, np.float32), 3)
        queues = [part for name, part in state.parts().items() if name.startswith("queue")]
        assert all(queue.dtype == np.float16 and np.isfinite(queue).all() for queue in queues)
        assert max(np.abs(queue).max() for queue in queues) == np.finfo(np.float16).max


@pytest.fixture(scope="module", params=["classification", "autoregressive"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    net = random_net(variant(task=request.param, depth=4, d_model=20))
    np.savez(folder / "data.npz", x=random_inputs(net.config, 16, 100, seed=9))
    result = export_bundle(
        save_published(net, folder / "run"),
        folder / "a.bundle",
        precisions=("fp16", "int8"),
        int8=Int8Options(data=folder / "data.npz"),
    )
    names = {check.name for check in result.proof.checks}
    for precision in ("fp16", "int8"):
        assert f"{precision}: native engine, saved and loaded" in names
    return open_bundle(result.path)


@pytest.mark.slow
class TestBundles:
    def test_list_and_verify_their_weights(self, bundle: Bundle) -> None:
        files = {precision: spec.file for precision, spec in bundle.manifest.native.items()}
        assert files == {
            "fp32": "native/weights.safetensors",
            "fp16": "native/weights.fp16.safetensors",
            "int8": "native/weights.int8.safetensors",
        }
        sizes = [(bundle.path / files[name]).stat().st_size for name in ("fp32", "fp16", "int8")]
        assert sizes == sorted(sizes, reverse=True)
        checks = {check.name: check.passed for check in verify_bundle(bundle)}
        assert checks["fp16: native engine, resumed"] and checks["int8: native engine, resumed"]

    @pytest.mark.parametrize("precision", ["fp16", "int8"])
    @pytest.mark.parametrize("path", [("native", "onnxruntime"), ("onnxruntime", "native")])
    def test_states_move_between_backends(
        self, precision: str, path: tuple[str, str], bundle: Bundle
    ) -> None:
        config = variant()
        inputs = random_inputs(config, 2, 80, seed=3)
        whole = bundle.stream(2, backend=path[1], precision=precision).run(inputs)
        first = bundle.stream(2, backend=path[0], precision=precision)
        first.run(inputs[..., :50])
        saved = StreamState.from_bytes(first.save_state().to_bytes())
        queue = np.float16 if precision == "fp16" else np.float32
        assert saved.arrays["queue_00"].dtype == queue
        second = bundle.stream(2, backend=path[1], precision=precision)
        second.load_state(saved)
        y, expected = second.run(inputs[..., 50:]), whole[..., 50:]
        assert np.abs(y - expected).mean() <= 1e-3 * max(1, np.abs(expected).max())
        if precision == "fp16":
            with pytest.raises(StateError):
                bundle.stream(2, precision="fp32").load_state(saved)

    def test_states_of_other_ranges_are_refused(self, bundle: Bundle) -> None:
        files = bundle.manifest.files | {"calibration.json": "0" * 64}
        other = Bundle(bundle.path, replace(bundle.manifest, files=files))
        with pytest.raises(StateError, match="of another model"):
            other.stream(2, precision="int8").load_state(bundle.stream(2, precision="int8").save_state())
        other.stream(2, precision="fp16").load_state(bundle.stream(2, precision="fp16").save_state())

    def test_run_natively_where_no_backend_is_named(self, bundle: Bundle) -> None:
        inputs = random_inputs(variant(), 1, 30)
        for precision in ("fp16", "int8"):
            named = bundle.stream(1, backend="native", precision=precision).run(inputs)
            assert np.array_equal(bundle.stream(1, precision=precision).run(inputs), named)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_cost_counts_bytes_as_they_are(precision: str, tmp_path: Path) -> None:
    """Of a network that needs no padding."""
    config = variant(d_model=64, d_output=64)
    net = random_net(config)
    folded = quantized(net) if precision == "int8" else fold(net)
    path = tmp_path / "weights.safetensors"
    if precision == "fp16":
        folded = with_queues(folded, "float16", net)
    path.write_bytes(native_weights(folded, Cumulative(), None, precision))
    cost, weights = native_model(path).cost, config.n_layers * 2 * 64 * 64
    path.write_bytes(native_weights(fold(net), Cumulative()))
    full = native_model(path).cost
    each = {"fp32": 4, "fp16": 2, "int8": 1}[precision]
    # In int8 each output has a scale too, and what comes off an unsigned sum.
    more = config.n_layers * 2 * 64 * 8 if precision == "int8" else 0
    assert full["weight_bytes"] - cost["weight_bytes"] == (4 - each) * weights - more
    assert cost["int8_multiply_adds"] == (weights if precision == "int8" else 0)
    assert cost["multiply_adds"] + cost["int8_multiply_adds"] == full["multiply_adds"]
    assert full["tap_bytes"] == cost["tap_bytes"] * (2 if precision == "fp16" else 1)


class TestDamage:
    @pytest.fixture
    def whole(self) -> bytes:
        return native_weights(quantized(random_net(variant())), Cumulative(), precision="int8")

    def load(self, folder: Path, data: bytes) -> None:
        (folder / "damaged.safetensors").write_bytes(data)
        native_model(folder / "damaged.safetensors")

    def changed(self, whole: bytes, change: Callable[[Tensors], None], **metadata: str) -> bytes:
        tensors: Tensors = {name: array.copy() for name, array in safetensors.numpy.load(whole).items()}
        change(tensors)
        header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
        return safetensors.numpy.save(tensors, header["__metadata__"] | metadata)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("layers.0.mixing.input_scales", 0, "has a value that is not above 0"),
            ("layers.1.mixing.input_scales", -1, "has a value that is not above 0"),
            ("layers.0.mixing.weight_scales", 0, "has a value that is not above 0"),
            ("layers.0.mixing.weight_scales", np.nan, "NaN or infinity"),
            ("layers.0.mixing.input_scales", 1e-39, "too small"),
            ("layers.0.mixing.weight", -128, "contains -128"),
        ],
    )
    def test_values(self, name: str, value: float, message: str, whole: bytes, tmp_path: Path) -> None:
        def change(tensors: Tensors) -> None:
            tensors[name].flat[-1] = value

        with pytest.raises(BundleError, match=message):
            self.load(tmp_path, self.changed(whole, change))

    def test_float16_that_is_not_finite(self, tmp_path: Path) -> None:
        whole = native_weights(fold(random_net(variant())), Cumulative(), precision="fp16")

        def change(tensors: Tensors) -> None:
            tensors["layers.0.mixing.weight"][0, 0] = np.inf

        with pytest.raises(BundleError, match="NaN or infinity"):
            self.load(tmp_path, self.changed(whole, change))

    @pytest.mark.parametrize("name", ["weight_scales", "input_scales"])
    def test_scales_that_are_missing_or_of_another_shape(
        self, name: str, whole: bytes, tmp_path: Path
    ) -> None:
        name = f"layers.0.mixing.{name}"

        def remove(tensors: Tensors) -> None:
            del tensors[name]

        def reshape(tensors: Tensors) -> None:
            tensors[name] = np.ones((2, 3), np.float32)

        with pytest.raises(BundleError, match=f"{name} is missing"):
            self.load(tmp_path, self.changed(whole, remove))

        with pytest.raises(BundleError, match=f"{name} has shape"):
            self.load(tmp_path, self.changed(whole, reshape))

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_types_of_another_precision(self, precision: str, whole: bytes, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="is I8, expected F32"):
            self.load(tmp_path, self.changed(whole, lambda _: None, precision=precision))

    def test_types_where_only_float32_goes(self, whole: bytes, tmp_path: Path) -> None:
        def change(tensors: Tensors) -> None:
            tensors["head.weight"] = tensors["head.weight"].astype(np.int8)

        with pytest.raises(BundleError, match=r"head\.weight is I8, expected F32"):
            self.load(tmp_path, self.changed(whole, change))

    def test_a_precision_of_a_later_release(self, whole: bytes, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="precision is 'int4', this release runs fp32, fp16 and int8"):
            self.load(tmp_path, self.changed(whole, lambda _: None, precision="int4"))

    def test_cut_anywhere(self, whole: bytes, tmp_path: Path) -> None:
        for size in range(10, len(whole), 61):
            with pytest.raises(BundleError, match=r"damaged\.safetensors"):
                self.load(tmp_path, whole[:size])
