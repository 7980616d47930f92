"""int8 graphs: explicit, symmetric, of one set of scales, and the same function in both graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from multires_edge.base.errors import ConfigError, DataError
from multires_edge.calibration.measure import calibrate
from multires_edge.calibration.table import CalibrationTable
from multires_edge.export import Int8Options, export_bundle
from multires_edge.export.compact import compact
from multires_edge.export.folding import fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.graphs.step import build_step_graph
from multires_edge.export.linear import Linear, QuantizedLinear
from multires_edge.export.parity import prove
from multires_edge.export.precision.int8 import quantizable, quantize
from multires_edge.format.pooling import Cumulative
from multires_edge.format.targets import TARGETS
from multires_edge.models.network import MultiresNet
from multires_edge.runtime import open_bundle
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import DEMO, SMALL, random_inputs, random_net, save_published, variant
from tests.export.graphs.harness import Steps, session

KINDS: dict[str, dict[str, Any]] = {
    "layer norm": {},
    "batch norm": {"norm": "batch"},
    "tokens": {"encoder": "token"},
    "autoregressive": {"task": "autoregressive"},
}


def calibrated(net: MultiresNet, tmp_path: Path) -> CalibrationTable:
    file = tmp_path / "data.npz"
    inputs = random_inputs(net.config, 16, 100)
    np.savez(file, inputs)
    return calibrate(net, Dataset(file, np.ascontiguousarray(inputs)))


def graphs(net: MultiresNet, table: CalibrationTable) -> dict[str, onnx.ModelProto]:
    network, target = quantize(fold(net), table), TARGETS["portable"].form
    full = build_full_graph(network, target)
    return {"full": full, "step": build_step_graph(network, target, Cumulative()).model}


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 40))
def test_weights_are_within_half_a_level(seed: int, outputs: int, inputs: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.standard_normal((outputs, inputs)) * 10.0 ** random.uniform(-6, 6, (outputs, 1))
    weight[random.random(outputs) < 0.2] = 0
    quantized = QuantizedLinear.of(Linear(weight, np.zeros(outputs)), np.ones(inputs, np.float32))
    assert quantized.weight.dtype == np.int8 and quantized.weight.min(initial=0) >= -127
    scales = quantized.weight_scales[:, None].astype(np.float64)
    assert (np.abs(quantized.weight * scales - weight) <= scales * 0.50001).all()


def test_what_weight_decay_has_left_is_zero(tmp_path: Path) -> None:
    """A scale below the normal float32 numbers is none, for the native engine at least."""
    net = random_net(variant())
    net.seq_layers[0].h1[3] *= 1e-40  # type: ignore[operator,index]
    net.mixing_layers[0][0].weight[5] *= 1e-40  # type: ignore[index]
    network = quantize(fold(net), calibrated(net, tmp_path), quantizable(net.config, ("mixing", "filters")))
    mixing, scales = network.layers[0].mixing, network.layers[0].filter_scales
    assert isinstance(mixing, QuantizedLinear) and scales is not None
    assert not mixing.weight[5].any() and mixing.weight[4].any()
    tiny = np.finfo(np.float32).tiny
    assert min(mixing.weight_scales.min(), scales.lowpass.min(), scales.highpass.min()) >= tiny


@pytest.mark.parametrize("kind", KINDS)
def test_both_graphs_hold_the_same_scales_and_weights(kind: str, tmp_path: Path) -> None:
    net = random_net(variant(**KINDS[kind]))
    table = calibrated(net, tmp_path)
    models = graphs(net, table)
    for i in range(net.config.n_layers):
        scales = table.tensors[f"layers.{i}.mixing.input"].scales
        full, step = constants(models["full"]), constants(models["step"])
        per_unit = [held[f"layers.{i}/gelu/int8/levels_per_unit"].ravel() for held in (full, step)]
        assert np.array_equal(per_unit[0], per_unit[1]) and np.array_equal(per_unit[0], 1 / scales)
        halves = [step[f"layers.{i}/glu/{half}/weight.int8"] for half in ("value", "gate")]
        assert (full[f"layers.{i}/mixing/weight.int8"][..., 0] == np.concatenate(halves)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_quantisation_is_symmetric_and_off_the_state(kind: str, tmp_path: Path) -> None:
    net = random_net(variant(**KINDS[kind]))
    for model in graphs(net, calibrated(net, tmp_path)).values():
        held = constants(model)
        quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
        assert quantizers
        for node in model.graph.node:
            if node.op_type.endswith("QuantizeLinear") or node.op_type == "DequantizeLinear":
                assert held[node.input[1]].dtype == np.float32
                activation = node.op_type == "QuantizeLinear" or node.input[0] not in held
                assert held[node.input[1]].ndim == (0 if activation else 1), (
                    "a scale for all of an activation"
                )
                assert not any(held[name].any() for name in node.input[2:])
        read = {node.input[0] for node in quantizers}
        assert len(read) == len(quantizers), "a value is quantised once"
        assert all(name.endswith(("/gelu/int8/scaled", "/glu/int8/scaled")) for name in read)
        states = [*model.graph.input, *model.graph.output]
        assert not any(value.type.tensor_type.elem_type == TensorProto.INT8 for value in states)


@pytest.mark.parametrize("kind", KINDS)
def test_step_and_full_agree_on_every_prefix(kind: str, tmp_path: Path) -> None:
    net = random_net(variant(**KINDS[kind]))
    models = graphs(net, calibrated(net, tmp_path))
    full, step = session(models["full"].SerializeToString()), session(models["step"].SerializeToString())
    name = "tokens" if net.config.encoder == "token" else "x"
    inputs = random_inputs(net.config, 2, 40, seed=5)
    states = {
        value.name: np.zeros(
            [2, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])],
            np.int64 if value.name == "position" else np.float32,
        )
        for value in models["step"].graph.input
        if value.name != name
    }
    outputs = [value.name for value in models["step"].graph.output]
    fed = inputs
    if net.config.task == "autoregressive":
        fed = np.concatenate([np.zeros_like(inputs[..., :1]), inputs[..., :-1]], axis=-1)
    for t in range(inputs.shape[-1]):
        feeds = {name: np.ascontiguousarray(fed[..., t]), **states}
        found = dict(zip(outputs, step.run(outputs, feeds), strict=True))
        states = {state: found[f"next_{state}"] for state in states}
        y = full.run(None, {name: np.ascontiguousarray(inputs[..., : t + 1])})[0]
        wanted = y if net.config.task == "classification" else y[..., t]
        assert np.abs(found[next(iter(found))] - wanted).mean() <= 1e-3 * max(1, np.abs(wanted).max())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*only 6 of at least 8 advised records")
def test_a_bundle_from_real_data(tmp_path: Path) -> None:
    card = DEMO / "card.json"
    result = export_bundle(
        DEMO / "ckpt.pth",
        tmp_path / "b",
        precisions=("int8",),
        card=card,
        int8=Int8Options(data=DEMO / "records.npz"),
    )
    names = [check.name for check in result.proof.checks]
    assert "int8: step graph against full graph" in names
    bundle = open_bundle(tmp_path / "b")
    assert [check.name for check in verify_bundle(bundle) if check.name.startswith("int8")]
    assert all(check.passed for check in verify_bundle(bundle))
    table = CalibrationTable.read(tmp_path / "b" / "calibration.json")
    assert table.method.name == "percentile"
    table.write(tmp_path / "t.json")
    again = export_bundle(
        DEMO / "ckpt.pth", tmp_path / "c", precisions=("int8",), int8=Int8Options(tmp_path / "t.json")
    )
    digests = [m.graph("step", "int8").sha256 for m in (result.manifest, again.manifest)]
    assert digests[0] == digests[1]


def test_filters_are_int8_in_the_full_graph_and_the_same_in_both(tmp_path: Path) -> None:
    net = random_net(variant(kernel_size=3))
    table = calibrated(net, tmp_path)
    exact, quantized = fold(net), quantize(fold(net), table, quantizable(net.config, ["filters"]))
    held = constants(build_full_graph(quantized, TARGETS["portable"].form))
    for i, (layer, before) in enumerate(zip(quantized.layers, exact.layers, strict=True)):
        scales = held[f"layers.{i}/highpass_scales"]
        filters = held[f"layers.{i}/highpass.int8"] * scales[:, None, None]
        joined = np.concatenate([h[::-1].T for h in layer.highpass], axis=1)
        assert filters.dtype == np.float32 and np.allclose(filters[:, 0], joined, atol=1e-6)
        for rounded, original in zip(layer.highpass, before.highpass, strict=True):
            assert (np.abs(rounded - original) <= scales * 0.50001).all()
    full = session(build_full_graph(quantized, TARGETS["portable"].form).SerializeToString())
    step = Steps(build_step_graph(quantized, TARGETS["portable"].form, Cumulative()), 2)
    x = random_inputs(net.config, 2, 50)
    assert np.abs(step.run(x)[..., -1] - full.run(None, {"x": x})[0]).max() < 1e-5


@pytest.mark.slow
def test_a_proof_goes_no_further_than_the_ranges(tmp_path: Path) -> None:
    """With records of 12 steps and a window of 5: the network is compared up to there."""
    net = random_net(SMALL)
    np.savez(tmp_path / "data.npz", x=random_inputs(SMALL, 90, 12))
    result = export_bundle(
        save_published(net, tmp_path),
        tmp_path / "b",
        precisions=("fp16", "int8"),
        pool="window:5",
        int8=Int8Options(data=tmp_path / "data.npz", parts=("mixing", "encoder", "head", "filters")),
    )
    assert result.manifest.calibrated_steps("int8") == 12
    assert result.manifest.calibrated_steps("fp16") is None
    described = {check.name: check.description for check in result.proof.checks}
    assert "12 steps in place" in described["int8: step graph, every prefix"]
    assert f"{result.proof.steps} steps in place" in described["fp16: step graph, every prefix"]
    assert described["int8: step graph against full graph"].endswith("prefixes of 1, 5 steps")
    names = [check.name for check in verify_bundle(open_bundle(tmp_path / "b"))]
    assert "int8: step graph, every prefix" in names
    assert "int8: full graph" not in names, "of 12 steps the full graph's mean is not recorded"


@pytest.mark.slow
def test_nor_beyond_the_range_of_an_int8_encoder(tmp_path: Path) -> None:
    """Pixels are within [-1, 1], and an encoder that is calibrated on them cuts off a third of the noise."""
    net = random_net(variant(task="autoregressive", norm="batch"))
    np.savez(tmp_path / "data.npz", x=np.clip(random_inputs(net.config, 32, 80), -0.5, 0.5))
    checkpoint = save_published(net, tmp_path)
    result = export_bundle(
        checkpoint,
        tmp_path / "b",
        precisions=("int8",),
        int8=Int8Options(data=tmp_path / "data.npz", parts=("mixing", "encoder")),
    )
    assert "within the range of the int8 encoder" in result.proof.data
    bundle = open_bundle(tmp_path / "b")
    assert all(check.passed for check in verify_bundle(bundle))
    assert prove(net, bundle)[0].passed


def test_the_files_say_things_once(tmp_path: Path) -> None:
    """Float32 has every shape for viewers; other precisions compute the same without."""
    model = graphs(random_net(variant()), calibrated(random_net(variant()), tmp_path))["full"]
    x = random_inputs(variant(), 2, 20)
    before, length = session(model.SerializeToString()).run(None, {"x": x})[0], model.ByteSize()
    assert model.graph.value_info
    compact(model)
    assert not model.graph.value_info and model.ByteSize() < 0.9 * length
    docs = [node.doc_string for node in model.graph.node if node.op_type == "Conv" and node.doc_string]
    assert len(docs) == 2, "depthwise and 1x1"
    assert (session(model.SerializeToString()).run(None, {"x": x})[0] == before).all()


class TestRefuses:
    def test_int8_without_data(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="calibration-data"):
            export_bundle(DEMO / "ckpt.pth", tmp_path / "b", precisions=("int8",))

    def test_data_without_int8(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="add int8 to the precisions"):
            export_bundle(DEMO / "ckpt.pth", tmp_path / "b", int8=Int8Options(data=DEMO / "records.npz"))

    def test_both_a_table_and_data(self, tmp_path: Path) -> None:
        data = DEMO / "records.npz"
        with pytest.raises(ConfigError, match="give one of them"):
            export_bundle(
                DEMO / "ckpt.pth",
                tmp_path / "b",
                precisions=("int8",),
                int8=Int8Options(data, data),
            )

    @pytest.mark.parametrize("options", [(("int8",), "t.json"), (("fp32",), None)])
    def test_a_method_without_data(self, tmp_path: Path, options: tuple[tuple[str], str | None]) -> None:
        precisions, table = options
        int8 = Int8Options(table, method="minmax")
        with pytest.raises(ConfigError, match="method 'minmax' needs calibration data"):
            export_bundle(DEMO / "ckpt.pth", tmp_path / "b", precisions=precisions, int8=int8)

    def test_another_networks_table(self, tmp_path: Path) -> None:
        table = calibrated(random_net(variant()), tmp_path)
        table.write(tmp_path / "calibration.json")
        with pytest.raises(DataError):
            export_bundle(
                DEMO / "ckpt.pth",
                tmp_path / "b",
                precisions=("int8",),
                int8=Int8Options(tmp_path / "calibration.json"),
            )
        assert not (tmp_path / "b").exists()

    def test_a_damaged_table(self, tmp_path: Path) -> None:
        (tmp_path / "calibration.json").write_text(json.dumps({"format": "multires-calibration"}))
        with pytest.raises(DataError):
            export_bundle(
                DEMO / "ckpt.pth",
                tmp_path / "b",
                precisions=("int8",),
                int8=Int8Options(tmp_path / "calibration.json"),
            )
