"""float16 graphs: typed throughout, as exact as float16 allows, and without infinities of their own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from multires_edge.export import export_bundle
from multires_edge.export.bundle import _typical_inputs
from multires_edge.export.folding import fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.graphs.step import build_step_graph
from multires_edge.export.precision.fp16 import TOO_LARGE, plan_fp16
from multires_edge.export.types import FLOAT16, FLOAT32, TypePlan
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Cumulative
from multires_edge.format.targets import FORMS, TARGETS, GraphForm
from multires_edge.models.network import MultiresNet
from multires_edge.runtime import open_bundle
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import DEMO, random_inputs, random_net, variant

KINDS: dict[str, dict[str, Any]] = {
    "layer norm": {},
    "batch norm": {"norm": "batch"},
    "tokens": {"encoder": "token"},
    "autoregressive": {"task": "autoregressive"},
    "uniform": {"tree_select": "uniform", "memory_size": 9},
}


def inputs_for(config: ModelConfig, rows: int = 2, steps: int = 30) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(random_inputs(config, rows, steps)))


def planned(net: MultiresNet) -> TypePlan:
    return plan_fp16(net, [inputs_for(net.config, 4, 200)])


def graphs(
    net: MultiresNet, types: TypePlan, form: GraphForm = TARGETS["portable"].form
) -> dict[str, onnx.ModelProto]:
    folded = replace(fold(net), types=types)
    step, fused = (build_step_graph(folded, form, Cumulative(), engines=e).model for e in (False, True))
    return {"full": build_full_graph(folded, form), "step": step, "step for engines": fused}


def value_types(model: onnx.ModelProto) -> dict[str, int]:
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {constant.name: constant.data_type for constant in model.graph.initializer}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_activations_and_queues_are_float16(kind: str) -> None:
    net = random_net(variant(**KINDS[kind]))
    for model in graphs(net, planned(net)).values():
        types = value_types(model)
        for node in model.graph.node:
            if node.op_type in ("Conv", "Gemm") and "head" not in node.name:
                assert {types[name] for name in node.input} == {TensorProto.FLOAT16}, node.name
        queues = [value for value in model.graph.input if value.name.startswith("queue")]
        assert all(queue.type.tensor_type.elem_type == TensorProto.FLOAT16 for queue in queues)
        pooling = [value for value in model.graph.input if value.name.startswith("pool")]
        assert all(state.type.tensor_type.elem_type == TensorProto.FLOAT for state in pooling)


@pytest.mark.parametrize("kind", KINDS)
def test_no_cast_is_useless_or_there_twice(kind: str) -> None:
    net = random_net(variant(**KINDS[kind]))
    for model in graphs(net, planned(net)).values():
        types = value_types(model)
        casts = [node for node in model.graph.node if node.op_type == "Cast"]
        assert all(types[cast.input[0]] != types[cast.output[0]] for cast in casts)
        made = Counter((cast.input[0], types[cast.output[0]]) for cast in casts)
        assert all(count == 1 for count in made.values())
        # In: the sample. Out: features to the pooling, or params. The pooling counts its steps.
        wide = [
            node for node in model.graph.node if node.op_type in ("LayerNormalization", "Erf", "ReduceSum")
        ]
        assert len(casts) <= 3 + 2 * len(wide)


@pytest.mark.parametrize("form", FORMS)
def test_sums_and_error_functions_are_float32(form: str) -> None:
    """TensorRT computes both in the type that it is given."""
    net, found = random_net(variant()), set()
    for model in graphs(net, planned(net), FORMS[form]).values():
        types = value_types(model)
        for node in model.graph.node:
            if node.op_type in ("Erf", "ReduceSum"):
                found.add(node.op_type)
                assert types[node.input[0]] == types[node.output[0]] == TensorProto.FLOAT, node.name
    assert found == ({"Erf", "ReduceSum"} if form == "opset17" else {"ReduceSum"})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_layer_norms_are_float32(kind: str, form: str) -> None:
    """ONNX Runtime 1.14 to 1.18 give NaN for a LayerNormalization of float16, from the second run on.

    They inline its definition, and plan memory for values of it that nothing reads.
    """
    net = random_net(variant(**KINDS[kind]))
    for model in graphs(net, planned(net), FORMS[form]).values():
        types = value_types(model)
        norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
        assert len(norms) == (net.config.n_layers if net.config.norm == "layer" else 0)
        for norm in norms:
            assert {types[name] for name in (*norm.input, *norm.output)} == {TensorProto.FLOAT}


def test_what_grows_too_large_stays_in_float32() -> None:
    net = random_net(variant(n_layers=3))
    assert planned(net) == TypePlan((FLOAT16,) * 3, FLOAT16, FLOAT32, FLOAT16)
    net.encoder.weight.mul_(1000)  # type: ignore[operator]
    net.encoder.bias.mul_(1000)  # type: ignore[operator]
    # Behind the first LayerNorm nothing is large any more.
    assert planned(net) == TypePlan((FLOAT32, FLOAT16, FLOAT16), FLOAT32, FLOAT32, FLOAT16)


def test_what_only_the_queues_hold_counts_too() -> None:
    """Low-pass filters that more than double what does not change, at scales that weigh next to nothing."""
    net = random_net(variant(depth=10))
    layer: Any
    for layer in net.seq_layers:
        layer.h0.fill_(1.1)
        layer.w[:, :6] *= 1e-5
    steady = inputs_for(net.config, 2, 1).repeat(1, 1, net.config.layer_receptive_field)
    types = plan_fp16(net, _typical_inputs(net.config, None))
    assert types == plan_fp16(net, [steady]) == TypePlan((FLOAT32, FLOAT16), FLOAT16, FLOAT32, FLOAT16)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the ONNX reference's sigmoid
@pytest.mark.parametrize("gain", [1, 30, 1000])
@pytest.mark.parametrize("kind", ["layer norm", "batch norm", "autoregressive"])
def test_data_far_too_large_overflow_nowhere(kind: str, gain: int) -> None:
    net = random_net(variant(n_layers=3, **KINDS[kind]))
    net.encoder.weight.mul_(gain)  # type: ignore[operator]
    x = inputs_for(net.config, 1, 12)
    types = plan_fp16(net, [x])
    large: np.ndarray[Any, Any] = x.numpy() * TOO_LARGE
    models = graphs(net, types)
    with torch.no_grad():
        y = np.asarray(ReferenceEvaluator(models["full"]).run(None, {"x": large}))[0]
        wanted = net(torch.from_numpy(large)).numpy()
    assert np.isfinite(y).all()
    assert np.abs(y - wanted).max() <= 0.05 * max(1.0, np.abs(wanted).max())
    step = ReferenceEvaluator(models["step"])
    states = {
        value.name: np.zeros(
            [int(dim.dim_value) or 1 for dim in value.type.tensor_type.shape.dim],
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in models["step"].graph.input
        if value.name != "x"
    }
    for t in range(large.shape[-1]):
        sample = large[..., t]
        outputs = dict(zip(step.output_names, step.run(None, {"x": sample, **states}), strict=True))
        assert all(np.isfinite(value).all() for value in outputs.values())
        states = {name: outputs[f"next_{name}"] for name in states}


@pytest.mark.slow
def test_a_bundle_of_both_precisions(tmp_path: Any) -> None:
    result = export_bundle(DEMO / "ckpt.pth", tmp_path / "b", precisions=("fp16",), card=DEMO / "card.json")
    names = {check.name for check in result.proof.checks}
    assert {"step graph, every prefix", "fp16: step graph, every prefix"} <= names
    bundle = open_bundle(tmp_path / "b")
    assert list(bundle.manifest.graphs["step"]) == ["fp32", "fp16"]
    assert {"fp16: full graph", "fp16: step graph, resumed"} <= {
        check.name for check in verify_bundle(bundle) if check.passed
    }
    sizes = {name: (tmp_path / "b" / f"{name}.onnx").stat().st_size for name in ("full", "full.fp16")}
    assert sizes["full.fp16"] < 0.65 * sizes["full"]
    state = {p: sum(s.row_bytes for s in bundle.manifest.graph("step", p).states) for p in ("fp32", "fp16")}
    assert state["fp16"] < 0.51 * state["fp32"]


@pytest.mark.slow
def test_streams_carry_their_precision(tmp_path: Any) -> None:
    export_bundle(DEMO / "ckpt.pth", tmp_path / "b", precisions=("fp32", "fp16"))
    bundle = open_bundle(tmp_path / "b")
    x = np.random.default_rng(0).standard_normal((2, 12, 90), dtype=np.float32)
    half, single = bundle.stream(2, precision="fp16"), bundle.stream(2)
    y = half.run(x)
    assert y.dtype == np.float32
    assert 0 < np.abs(y - single.run(x)).max() < 0.02
    full = bundle.full(precision="fp16")(x)
    assert np.abs(full - y[..., -1]).max() < 0.01
    with pytest.raises(ValueError, match="fp16"):
        single.load_state(half.save_state())
