"""TensorRT 10.3 of JetPack 6 reads every graph that is written for it: operators, types and limits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from multires_edge.export.target_selection import forms_of
from multires_edge.format.targets import TARGETS
from tests.conftest import ROOT, random_net, variant
from tests.export.every_graph import KINDS, every_graph

TABLE = json.loads((ROOT / "tests" / "data" / "tensorrt-10.3-operators.json").read_text())
TYPES = {op: set(TABLE["types"][group]) for group, ops in TABLE["operators"].items() for op in ops}


def unsupported(model: onnx.ModelProto) -> list[str]:
    """What TensorRT 10.3's parser would not read, in words; empty if it reads the model."""
    least, most = TABLE["opset"]
    found = [
        f"opset {imported.domain} {imported.version}"
        for imported in model.opset_import
        if imported.domain or not least <= imported.version <= most
    ]
    if model.ir_version > TABLE["ir_version"]:
        found.append(f"IR version {model.ir_version}")
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    types = {
        value.name: str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    types |= {name: str(array.dtype) for name, array in constants.items()}
    for node in graph.node:
        found += [f"{node.name}: {what}" for what in _node_problems(node, types, constants)]
    return found


def _node_problems(
    node: onnx.NodeProto, types: dict[str, str], constants: dict[str, np.ndarray]
) -> list[str]:
    op, limits, found = node.op_type, TABLE["restrictions"], []
    if op in limits["zero_point_zero"]:
        floats = node.input[:1] if op == "QuantizeLinear" else node.output
        found += [f"{op} of {types[name]}" for name in floats if types[name] not in TYPES["Conv"]]
        if len(node.input) > 2 and np.any(constants[node.input[2]]):
            found.append(f"{op} with a zero point other than 0")
        return found
    if op not in TYPES:
        return [f"operator {op}"]
    schema = onnx.defs.get_schema(op, TABLE["opset"][1])
    one_type = {c.type_param_str for c in schema.type_constraints if len(c.allowed_type_strs) == 1}
    one_type |= {"tensor(int64)", "tensor(bool)"}
    for names, formal in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for i, name in enumerate(names):
            # What can only be of one type, such as an index or what a comparison gives, the table leaves out.
            free = name and formal[min(i, len(formal) - 1)].type_str not in one_type
            if free and types[name] not in TYPES[op]:
                found.append(f"{op} of {types[name]}")
    if op in limits["constant_axes"] and len(node.input) > 1 and node.input[1] not in constants:
        found.append(f"{op} with axes that are not constant")
    if op in limits["one_output"] and len(node.output) > 1:
        found.append(f"{op} with {len(node.output)} outputs")
    if op in limits["no_reduction"] and any(attribute.name == "reduction" for attribute in node.attribute):
        found.append(f"{op} with a reduction")
    return found


@pytest.mark.parametrize("precision", TARGETS["jetpack6"].precisions)
@pytest.mark.parametrize("kind", KINDS)
def test_every_graph_is_read(kind: str, precision: str, tmp_path: Path) -> None:
    changes, pooling = KINDS[kind]
    net = random_net(variant(**changes))
    for form in forms_of([TARGETS["jetpack6"]]):
        for name, model in every_graph(net, pooling, precision, form, tmp_path).items():
            assert not unsupported(model), name


class TestTheCheckItself:
    """It finds what is not supported."""

    def test_a_newer_form(self, tmp_path: Path) -> None:
        graphs = every_graph(random_net(variant()), KINDS["fading"][1], "fp32", TARGETS["cpu"].form, tmp_path)
        problems = " ".join(unsupported(graphs["step"]))
        assert "opset  24" in problems and "IR version 11" in problems and "TensorScatter" in problems

    @pytest.mark.parametrize(
        ("op", "dtype", "problem"),
        [("Det", "float32", "operator Det"), ("Sqrt", "float64", "Sqrt of float64")],
    )
    def test_an_operator_or_a_type(self, op: str, dtype: str, problem: str) -> None:
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        x = helper.make_tensor_value_info("x", element, [2, 2])
        y = helper.make_tensor_value_info("y", element, [] if op == "Det" else [2, 2])
        graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], name="n")], "g", [x], [y])
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
        assert any(problem in found for found in unsupported(model))
