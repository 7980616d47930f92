"""The graph builder refuses what a finished graph must not hold."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.format.targets import TARGETS


@pytest.fixture
def graph() -> GraphBuilder:
    graph = GraphBuilder("test", TARGETS["cpu"].form)
    graph.input("x", np.float32, ["batch", 3], "")
    return graph


def test_a_finished_graph_is_typed_throughout(graph: GraphBuilder) -> None:
    y = graph.node("Add", ["x", graph.weight("one", 1.0)], "sum")
    graph.output(graph.gelu(y, "y"), np.float32, ["batch", 3], "")
    model = graph.build("doc")
    assert [info.name for info in model.graph.value_info] == ["sum"]


def test_only_inputs_and_outputs_name_their_dynamic_sizes(graph: GraphBuilder) -> None:
    """tract refuses a concrete batch where an inner value is of a size called batch."""
    graph.output(graph.node("Neg", [graph.node("Abs", ["x"], "inner")], "y"), np.float32, ["batch", 3], "")
    model = graph.build("doc")
    shape = {
        value.name: [(size.dim_param, size.dim_value) for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
    }
    assert shape == {
        name: [(batch, 0), ("", 3)] for name, batch in (("x", "batch"), ("inner", ""), ("y", "batch"))
    }


def test_a_dead_node(graph: GraphBuilder) -> None:
    graph.node("Neg", ["x"], "unread")
    graph.output(graph.node("Abs", ["x"], "y"), np.float32, ["batch", 3], "")
    with pytest.raises(AssertionError, match="nothing reads node unread"):
        graph.build("")


def test_a_dead_constant(graph: GraphBuilder) -> None:
    graph.weight("unread", [1.0])
    graph.output(graph.node("Abs", ["x"], "y"), np.float32, ["batch", 3], "")
    with pytest.raises(AssertionError, match="unread"):
        graph.build("")


def test_two_constants_of_one_name(graph: GraphBuilder) -> None:
    graph.weight("w", [1.0])
    assert graph.weight("w", [1.0]) == "w"
    with pytest.raises(AssertionError, match="two different constants"):
        graph.weight("w", [2.0])


def test_a_shape_that_cannot_be(graph: GraphBuilder) -> None:
    graph.output(graph.node("Add", ["x", graph.weight("w", [1.0, 2.0])], "y"), np.float32, ["batch", 3], "")
    with pytest.raises((onnx.shape_inference.InferenceError, onnx.checker.ValidationError)):
        graph.build("")
