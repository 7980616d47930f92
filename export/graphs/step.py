"""The single-step graph: one sample and the queues in, the output and the new queues out.

Queue j holds the past of a_j for all layers at once, one row (n_layers * d_model) a step. Everything
that a layer computes before its GELU is linear in its input and in what the queues hold, so

    y_i(t) = x_weight_i * x_i(t) + (sum over taps of tap_weights * queue rows)_i

where the second part is the same two nodes for all layers together, before the first of them runs.
The rows to push are a_0 = x_i(t) and a_{j+1}(t) = lowpass * (a_j(t), queue rows), computed at the end,
again for all layers at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from multires_edge.export.folding import FoldedLayer, FoldedNetwork, LayerNorm, Linear
from multires_edge.export.graphs.builder import GraphBuilder
from multires_edge.export.graphs.pooling import Pooling
from multires_edge.export.graphs.rings import Ring, RingSet
from multires_edge.export.targets import Target
from multires_edge.models.config import ModelConfig
from multires_edge.runtime.manifest import StateSpec


@dataclass(frozen=True)
class StepGraph:
    """The model and its states, sorted by name."""

    model: onnx.ModelProto
    states: tuple[StateSpec, ...]


def build_step_graph(
    network: FoldedNetwork, target: Target, pooling: Pooling, metadata: dict[str, str]
) -> StepGraph:
    """Dynamic in batch; each row of a batch is a stream at a position of its own."""
    config = network.config
    classifies = config.task == "classification"
    graph = GraphBuilder("multires_step", target)
    sample = _declare_sample(graph, config)
    queues = _queues(config)
    rings = RingSet(graph, [*queues, *(pooling.rings(config.d_model) if classifies else [])])
    x = _encode(graph, sample, network)
    past = _weigh_taps(graph, rings, network)
    inputs = []
    for i, layer in enumerate(network.layers):
        inputs.append(x)
        x = _block(graph, x, past[i], layer, f"layers.{i}")
    states = [StateSpec("position", "next_position", "int64", ("batch",))]
    states += _push(graph, rings, network, inputs)
    if classifies:
        x, pool_states = pooling.build(graph, rings, x, config.d_model)
        states += pool_states
    name = "logits" if classifies else "params"
    output = _linear(graph, x, network.head, "head", output=name)
    graph.output(output, np.float32, ["batch", config.d_output], "value after this step")
    states.sort(key=lambda state: state.input)
    for state in states:
        graph.output(state.output, state.dtype, state.shape, f"{state.input} for the next step")
    model = graph.build(
        "One step of MultiresNet. Start with zeros in every state; give each next_ output to the "
        "input of the same name in the next call. Each row of the batch is a stream of its own.",
        metadata,
    )
    return StepGraph(model, tuple(states))


def _declare_sample(graph: GraphBuilder, config: ModelConfig) -> str:
    if config.encoder == "token":
        return graph.input("tokens", np.int64, ["batch"], "this step's token number")
    assert config.d_input is not None
    return graph.input("x", np.float32, ["batch", config.d_input], "this step's normalised sample")


def _encode(graph: GraphBuilder, sample: str, network: FoldedNetwork) -> str:
    if isinstance(network.encoder, Linear):
        return _linear(graph, sample, network.encoder, "encoder")
    table = graph.weight("encoder/table", network.encoder)
    return graph.node("Gather", [table, sample], "encoder", doc="token embedding")


def _linear(graph: GraphBuilder, x: str, linear: Linear, name: str, output: str | None = None) -> str:
    weight = graph.weight(f"{name}/weight", linear.weight)
    bias = graph.weight(f"{name}/bias", linear.bias)
    return graph.node("Gemm", [x, weight, bias], name, transB=1, output=output, doc="linear over channels")


def _queues(config: ModelConfig) -> list[Ring]:
    """One ring a scale; the delays of its low-pass filter first, then any longer ones."""
    width = config.n_layers * config.d_model
    near = config.kernel_size - 1
    rings = []
    for j, history in enumerate(config.history()):
        delays = [o << j for o in range(1, (history >> j) + 1)]
        groups = tuple(tuple(group) for group in (delays[:near], delays[near:]) if group)
        rings.append(Ring(_queue_name(j), width, groups, scale=j))
    return rings


def _queue_name(scale: int) -> str:
    return f"queue_{scale:02d}"


def _weigh_taps(graph: GraphBuilder, rings: RingSet, network: FoldedNetwork) -> list[str]:
    """The queues' part of every layer's output: n_layers values (batch, d_model)."""
    config = network.config
    near = config.kernel_size - 1
    weights = [layer.tap_weights()[1] for layer in network.layers]
    # Of each scale, (taps, n_layers * d_model): the layers lie side by side, as in the queues.
    scales = [np.concatenate([w[j] for w in weights], axis=1) for j in range(config.depth)]
    names = [_queue_name(j) for j in range(config.depth)]
    near_rows = _concat(graph, [rings.read(name) for name in names], 1, "taps")
    weight = graph.weight("taps/weights", np.stack([scale[:near] for scale in scales]))
    products = graph.node("Mul", [near_rows, weight], "taps/weighted")
    axes = graph.integers("taps/axes", [1, 2])
    past = graph.node("ReduceSum", [products, axes], "taps/sum", keepdims=0, doc="of all layers")
    far = [j for j, name in enumerate(names) if len(rings.rings[name].reads) > 1]
    if far:
        rows = _concat(graph, [rings.read(names[j], 1) for j in far], 2, "far_taps")
        far_weight = np.concatenate([scales[j][near:] for j in far])
        weight = graph.weight("far_taps/weights", far_weight)
        products = graph.node("Mul", [rows, weight], "far_taps/weighted")
        total = graph.node("ReduceSum", [products, axes], "far_taps/sum", keepdims=0)
        past = graph.node("Add", [past, total], "taps/all")
    parts = [f"layers.{i}" for i in range(config.n_layers)]
    return graph.split(past, [config.d_model] * config.n_layers, 1, "taps/split", parts)


def _concat(graph: GraphBuilder, values: list[str], axis: int, name: str) -> str:
    if len(values) == 1:
        return values[0]
    return graph.node("Concat", values, name, axis=axis)


def _block(graph: GraphBuilder, x: str, past: str, layer: FoldedLayer, name: str) -> str:
    weight = graph.weight(f"{name}/multires/x_weight", layer.tap_weights()[0])
    now = graph.node("Mul", [x, weight], f"{name}/multires/now")
    y = graph.node("Add", [now, past], f"{name}/multires", doc="sum over all scales and taps")
    y = graph.gelu(y, f"{name}/gelu")
    mixed = _linear(graph, y, layer.mixing, f"{name}/mixing")
    d = len(layer.mixing.bias) // 2
    value, gate = graph.split(mixed, [d, d], 1, f"{name}/glu/split", ["value", "gate"])
    gate = graph.node("Sigmoid", [gate], f"{name}/glu/sigmoid")
    y = graph.node("Mul", [value, gate], f"{name}/glu", doc="gated linear unit over channels")
    if layer.output is not None:
        y = _linear(graph, y, layer.output, f"{name}/output")
    if isinstance(layer.norm, LayerNorm):
        total = graph.node("Add", [x, y], f"{name}/residual")
        scale = graph.weight(f"{name}/norm/scale", layer.norm.scale)
        bias = graph.weight(f"{name}/norm/bias", layer.norm.bias)
        return graph.node(
            "LayerNormalization",
            [total, scale, bias],
            f"{name}/norm",
            axis=-1,
            epsilon=layer.norm.epsilon,
            doc="over channels",
        )
    scale = graph.weight(f"{name}/norm/scale", layer.norm.scale)
    kept = graph.node("Mul", [x, scale], f"{name}/norm/scaled", doc="what is left of BatchNorm")
    if layer.norm.shift is not None:
        shift = graph.weight(f"{name}/norm/shift", layer.norm.shift)
        kept = graph.node("Add", [kept, shift], f"{name}/norm/shifted")
    return graph.node("Add", [kept, y], f"{name}/residual")


def _push(graph: GraphBuilder, rings: RingSet, network: FoldedNetwork, inputs: list[str]) -> list[StateSpec]:
    """Write a_0 .. a_{depth-1} of all layers into their queues; returns the queues' states."""
    config = network.config
    lowpass = np.concatenate([layer.lowpass for layer in network.layers], axis=1)
    x = _concat(graph, inputs, 1, "push/inputs")
    axes = graph.integers("push/axes", [1, 2])
    a = graph.node("Unsqueeze", [x, axes], "push/a.0", doc="(batch, 1, 1, n_layers * d_model)")
    states = [rings.write(_queue_name(0), a)]
    past = _lowpass_of_queues(graph, rings, config, lowpass)
    newest = graph.weight("push/lowpass.0", lowpass[0]) if past else ""
    for j, queued in enumerate(past):
        now = graph.node("Mul", [a, newest], f"push/a.{j + 1}/now")
        doc = f"low-pass of a_{j} at dilation {1 << j}, all layers"
        a = graph.node("Add", [now, queued], f"push/a.{j + 1}", doc=doc)
        states.append(rings.write(_queue_name(j + 1), a))
    return states


def _lowpass_of_queues(
    graph: GraphBuilder, rings: RingSet, config: ModelConfig, lowpass: NDArray[np.float64]
) -> list[str]:
    """The queues' part of a_1 .. a_{depth-1}: (batch, 1, 1, n_layers * d_model) each."""
    scales = range(config.depth - 1)
    if not scales:
        return []
    rows = _concat(graph, [rings.read(_queue_name(j)) for j in scales], 1, "push/taps")
    weight = graph.weight("push/lowpass.past", lowpass[1:])
    total = graph.node("Mul", [rows, weight], "push/weighted")
    if config.kernel_size > 2:
        axis = graph.integers("push/axis", [2])
        total = graph.node("ReduceSum", [total, axis], "push/sum", keepdims=1)
    parts = [f"a.{j + 1}" for j in scales]
    return graph.split(total, [1] * len(scales), 1, "push/split", parts)
