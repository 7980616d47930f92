"""A file whose inputs and outputs are not those of the manifest is refused when it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.export.folding import fold
from multires_edge.export.native_weights import native_weights
from multires_edge.format.pooling import Cumulative, Pooling, Window
from multires_edge.runtime import open_bundle
from tests.conftest import SMALL, random_inputs, random_net, variant
from tests.forged import replace_file


def value(values: Any, name: str) -> Any:
    return next(each for each in values if each.name == name)


def between(model: onnx.ModelProto, make: Callable[[str, str], onnx.NodeProto]) -> None:
    """Put a node between the network and the output ``logits``."""
    for node in model.graph.node:
        node.output[:] = ["raw" if name == "logits" else name for name in node.output]
    model.graph.node.append(make("raw", "logits"))


def fixed_batch(model: onnx.ModelProto) -> None:
    for tensor in (*model.graph.input, *model.graph.output):
        if tensor.type.tensor_type.shape.dim:
            tensor.type.tensor_type.shape.dim[0].dim_value = 1


def another_width(model: onnx.ModelProto) -> None:
    between(model, lambda raw, name: helper.make_node("Concat", [raw, raw], [name], axis=1))
    value(model.graph.output, "logits").type.tensor_type.shape.dim[1].dim_value = 6


def another_type(model: onnx.ModelProto) -> None:
    between(model, lambda raw, name: helper.make_node("Cast", [raw], [name], to=TensorProto.FLOAT16))
    value(model.graph.output, "logits").type.tensor_type.elem_type = TensorProto.FLOAT16


def another_name(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["logits"], ["other"]))
    value(model.graph.output, "logits").name = "other"


def one_more(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", 1]))


def one_less(model: onnx.ModelProto) -> None:
    del model.graph.output[-1]


CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "a fixed batch": (fixed_batch, r"is an (in|out)put of \w+ \(1.*, expected an (in|out)put of \w+ \(any"),
    "another width": (
        another_width,
        r"its logits is an output of float32 \(any, 6\), expected .* \(any, 3\)",
    ),
    "another type": (another_type, "its logits is an output of float16"),
    "another name": (another_name, "only one of them has logits, other"),
    "an input more": (one_more, "only one of them has more"),
    "an output less": (one_less, "only one of them has"),
}


@pytest.mark.parametrize("kind", ["full", "step"])
@pytest.mark.parametrize("change", CHANGES)
def test_of_a_graph(change: str, kind: str, bundle: Path) -> None:
    apply, message = CHANGES[change]
    model = onnx.load(bundle / f"{kind}.onnx")
    apply(model)
    replace_file(bundle, f"{kind}.onnx", model.SerializeToString())
    opened = open_bundle(bundle)
    with pytest.raises(BundleError, match=rf"{kind}\.onnx .*{message}"):
        opened.full(provider="cpu") if kind == "full" else opened.stream(2, backend="onnxruntime")


NETWORKS: dict[str, tuple[dict[str, Any], Pooling, str, str]] = {
    "leads": ({"d_input": 3}, Cumulative(), "fp32", "its d_input is 3, expected 2"),
    "classes": ({"d_output": 4}, Cumulative(), "fp32", "its d_output is 4, expected 3"),
    "width": ({"d_model": 16}, Cumulative(), "fp32", "its d_model is 16, expected 8"),
    "layers": ({"n_layers": 3}, Cumulative(), "fp32", "its n_layers is 3, expected 2"),
    "kernel": ({"kernel_size": 3}, Cumulative(), "fp32", "its kernel_size is 3, expected 2"),
    "depth": ({"depth": 4}, Cumulative(), "fp32", "its depth is 4, expected 3"),
    "task": ({"task": "autoregressive"}, Cumulative(), "fp32", "its autoregressive is 1, expected 0"),
    "encoder": ({"encoder": "token"}, Cumulative(), "fp32", "its d_input is 0, expected 2"),
    "tree": ({"tree_select": "uniform", "memory_size": 9}, Cumulative(), "fp32", "its queue_00 is float32"),
    "window": ({}, Window(5), "fp32", "its window is 5, expected 0"),
    "precision": ({}, Cumulative(), "fp16", "its precision is fp16, expected fp32"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_of_native_weights(kind: str, bundle: Path) -> None:
    changes, pooling, precision, message = NETWORKS[kind]
    content = native_weights(fold(random_net(variant(**changes))), pooling, precision=precision)
    replace_file(bundle, "native/weights.safetensors", content)
    with pytest.raises(BundleError, match=rf"weights\.safetensors does not fit the manifest: {message}"):
        open_bundle(bundle).stream(2, backend="native")


@pytest.mark.parametrize("kind", ["full", "step"])
def test_a_graph_that_fails_while_it_runs(kind: str, bundle: Path) -> None:
    """It has the right inputs and outputs, and divides integers by zero in between."""
    model = onnx.load(bundle / f"{kind}.onnx")
    between(model, lambda raw, name: helper.make_node("Reshape", [raw, "five"], [name]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([5, 3]), "five"))
    model.graph.node[-1].output[0] = "reshaped"
    model.graph.node.append(helper.make_node("Slice", ["reshaped", "zero", "two"], ["logits"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2]), "two"))
    replace_file(bundle, f"{kind}.onnx", model.SerializeToString())
    opened, x = open_bundle(bundle), random_inputs(SMALL, 2, 5)
    with pytest.raises((BackendError, BundleError), match=rf"{kind}\.onnx") as raised:
        opened.full(provider="cpu")(x) if kind == "full" else opened.stream(2, backend="onnxruntime").run(x)
    assert str(raised.value).isprintable()
