"""LSTM and GRU as nodes: of whole sequences by ONNX's own operators, of one step by their equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from multires_edge.export.trace.nodes import Nodes
from multires_edge.export.trace.program import Recurrence

# The gates in the order of ONNX, by their places in the weights of PyTorch.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def whole_recurrence(nodes: Nodes, each: Recurrence, value: str, *, batch_first: bool) -> str:
    """The outputs for a whole sequence, in the layout of the input."""
    graph, name = nodes.graph, each.name
    tensors = [_in_order(each, nodes.constant(weight)) for weight in each.weights]
    inputs = [nodes.weight(f"{name}/{i}", tensor[None]) for i, tensor in enumerate(tensors[:2])]
    if len(tensors) > 2:
        inputs.append(nodes.weight(f"{name}/bias", torch.cat(tensors[2:])[None]))
    how: dict[str, Any] = {} if each.kind == "lstm" else {"linear_before_reset": 1}
    if batch_first:
        value = graph.node("Transpose", [value], f"{name}/steps", perm=[1, 0, 2])
    y = graph.node(each.kind.upper(), [value, *inputs], f"{name}/y", hidden_size=each.width, **how)
    y = graph.node("Squeeze", [y, graph.integers(f"{name}/direction", [1])], f"{name}/outputs")
    return graph.node("Transpose", [y], name, perm=[1, 0, 2]) if batch_first else y


def recurrent_step(nodes: Nodes, each: Recurrence, value: str) -> str:
    """The output (batch, width) of a step. The states are inputs and outputs of the graph."""
    graph, name = nodes.graph, each.name
    shape: list[int | str] = ["batch", each.width]
    states = [graph.input(state, np.float32, shape, "state, zeros at the start") for state in each.states]
    parts = ("input", "forget", "cell", "output") if each.kind == "lstm" else ("reset", "update", "new")
    read, kept = (
        graph.split(_product(nodes, each, operand, i), [each.width] * len(parts), 1, f"{name}/{what}", parts)
        for i, (operand, what) in enumerate(((value, "of_input"), (states[0], "of_state")))
    )
    return (_lstm if each.kind == "lstm" else _gru)(nodes, each, read, kept, states)


def _lstm(
    nodes: Nodes, each: Recurrence, read: Sequence[str], kept: Sequence[str], states: Sequence[str]
) -> str:
    """c = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c)."""
    graph, name = nodes.graph, each.name
    sums = [graph.node("Add", pair, f"{name}/sum_{i}") for i, pair in enumerate(zip(read, kept, strict=True))]
    entering, forgetting, new, leaving = (
        graph.node("Tanh" if i == 2 else "Sigmoid", [total], f"{name}/gate_{i}")
        for i, total in enumerate(sums)
    )
    old = graph.node("Mul", [forgetting, states[1]], f"{name}/kept")
    new = graph.node("Mul", [entering, new], f"{name}/entered")
    memory = graph.node("Add", [old, new], f"{name}/memory", output=f"next_{each.states[1]}")
    shown = graph.node("Tanh", [memory], f"{name}/shown")
    return graph.node("Mul", [leaving, shown], name, output=f"next_{each.states[0]}")


def _gru(
    nodes: Nodes, each: Recurrence, read: Sequence[str], kept: Sequence[str], states: Sequence[str]
) -> str:
    """n = tanh(x + sigmoid(r) h'), h = n + sigmoid(z) (h - n); x and h' are the products for n."""
    graph, name = nodes.graph, each.name
    reset, update = (
        graph.node("Sigmoid", [graph.node("Add", [read[i], kept[i]], f"{name}/sum_{i}")], f"{name}/gate_{i}")
        for i in range(2)
    )
    old = graph.node("Mul", [reset, kept[2]], f"{name}/kept")
    new = graph.node("Tanh", [graph.node("Add", [read[2], old], f"{name}/entered")], f"{name}/new")
    change = graph.node("Sub", [states[0], new], f"{name}/change")
    rest = graph.node("Mul", [update, change], f"{name}/rest")
    return graph.node("Add", [new, rest], name, output=f"next_{each.states[0]}")


def _product(nodes: Nodes, each: Recurrence, value: str, part: int) -> str:
    """The product with the weights of the input (0) or of the state (1), with their bias."""
    name = f"{each.name}/product_{part}"
    inputs = [value, nodes.weight(each.weights[part].name, nodes.constant(each.weights[part]))]
    if len(each.weights) > 2:
        inputs.append(nodes.weight(each.weights[2 + part].name, nodes.constant(each.weights[2 + part])))
    return nodes.graph.node("Gemm", inputs, name, transB=1)


def _in_order(each: Recurrence, weight: torch.Tensor) -> torch.Tensor:
    gates = weight.chunk(len(_GATES[each.kind]))
    return torch.cat([gates[i] for i in _GATES[each.kind]])
