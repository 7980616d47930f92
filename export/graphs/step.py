"""The single-step graph: one sample and the queues in, the output and the new queues out.

Queue j holds the past of a_j for all layers, one row (n_layers * d_model) per step. The values before a
layer's GELU are linear in its input and in the rows of the queues, so

    y_i(t) = x_weight_i * x_i(t) + (sum over taps of tap_weights * queue rows)_i

where two nodes compute the second part for all layers together, before the first layer runs. The rows to
push, a_0 = x_i(t) and a_{j+1}(t) = lowpass * (a_j(t), queue rows), are computed at the end, again for all
layers together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from multires_edge.export.activations import ACTIVATION_NODES
from multires_edge.export.folding import FoldedLayer, FoldedNetwork
from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.gemm import gemm, head, sums
from multires_edge.export.graphs.mixing import MIXING_NODES
from multires_edge.export.graphs.pooling import POOLING_GRAPHS
from multires_edge.export.graphs.quantize import as_float, to_levels
from multires_edge.export.graphs.rings import RingSet, RingsInGraph
from multires_edge.export.types import INT8, Type
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Pooling
from multires_edge.format.reading import ENCODER_QUEUE, step_states
from multires_edge.format.specs import RingBank, StateSpec
from multires_edge.format.targets import GraphForm


@dataclass(frozen=True)
class StepGraph:
    """The model, its states sorted by name, and the rings outside it."""

    model: onnx.ModelProto
    states: tuple[StateSpec, ...]
    rings: tuple[RingBank, ...] = ()


def build_step_graph(
    network: FoldedNetwork,
    form: GraphForm,
    pooling: Pooling | None = None,
    kind: type[RingSet] = RingsInGraph,
    *,
    engines: bool = False,
) -> StepGraph:
    """Build the step graph, dynamic in batch. Each row of a batch is a stream with its own position.

    ``pooling`` replaces the network's own. ``kind`` decides where its rings are: with
    :class:`~multires_edge.export.graphs.taps.RingsOutside` it is the taps graph. With ``engines`` it is
    written for TensorRT, else for ONNX Runtime.
    """
    graph = GraphBuilder(kind.name, form)
    config, types = network.config, network.types
    pooling = config.pooled_by(pooling)
    sample = _declare_sample(graph, config)
    states = step_states(config, pooling, str(network.queue_type))
    queues = [state for state in states if state.scale is not None]
    rings = kind(graph, [*queues, *(state for state in states if state.in_place and state not in queues)])
    x = _encode(graph, rings, sample, network)
    taps = _as_float(graph, rings.read([queue.input for queue in queues], "taps"), types.taps)
    past, past_of_pushed = _weigh_taps(graph, network, taps, engines=engines)
    inputs = []
    for i, layer in enumerate(network.layers):
        x = graph.cast(x, types.layers[i], f"layers.{i}/cast")
        entered = layer.norm.enter(graph, x, f"layers.{i}", over_time=False)
        inputs.append(entered)
        past_of_layer = graph.cast(past[i], types.layers[i], f"layers.{i}/multires/past_cast")
        y = _change(graph, entered, past_of_layer, layer, f"layers.{i}")
        x = layer.norm.leave(graph, x, y, f"layers.{i}", over_time=False)
    for queue, row in zip(queues, _push(graph, network, inputs, past_of_pushed), strict=True):
        rings.write(queue.input, row)
    if pooling is not None:
        x = graph.cast(x, np.float32, "pool/cast")
        x = POOLING_GRAPHS[type(pooling)].step(pooling, graph, rings, x, config.d_model)
    output = head(graph, x, network, sums if engines else gemm)
    graph.output(output, np.float32, ["batch", config.d_output], "value after this step")
    banks = rings.banks()
    if not rings.in_graph:
        states = [state for state in states if state.input not in {*rings.rings, "position"}]
    for state in states:
        graph.output(state.output, state.dtype, state.shape, f"{state.input} for the next step")
    return StepGraph(graph.build(kind.doc), tuple(states), banks)


def _declare_sample(graph: GraphBuilder, config: ModelConfig) -> str:
    if config.encoder == "token":
        return graph.input("tokens", np.int64, ["batch"], "this step's token number")
    return graph.input("x", np.float32, ["batch", config.channels], "this step's normalised sample")


def _encode(graph: GraphBuilder, rings: RingSet, sample: str, network: FoldedNetwork) -> str:
    if not isinstance(network.encoder, np.ndarray):
        if network.config.encoder_taps > 1:
            past = graph.node(
                "Flatten", [rings.read([ENCODER_QUEUE], "encoder_taps")], "encoder/past", axis=1
            )
            row = graph.node("Unsqueeze", [sample, graph.integers("encoder/axes", [1, 2])], "encoder/row")
            rings.write(ENCODER_QUEUE, row)
            sample = graph.concat([sample, past], 1, "encoder/taps")
        sample = graph.cast(sample, network.types.encoder, "encoder/cast")
        return gemm(graph, sample, network.encoder, "encoder")
    table = graph.constant("encoder/table", network.encoder.astype(network.types.encoder))
    return graph.node("Gather", [table, sample], "encoder", doc="token embedding")


def _as_float(graph: GraphBuilder, taps: str, dtype: Type) -> str:
    """The taps in floating point. The weights contain the scales of int8 queues."""
    if graph.type_of(taps) == INT8:
        return as_float(graph, taps, "taps/levels")
    return graph.cast(taps, dtype, "taps/cast")


def _weigh_taps(
    graph: GraphBuilder, network: FoldedNetwork, taps: str, *, engines: bool
) -> tuple[list[str], list[str]]:
    """The contribution of the queues, for all layers together.

    Returns their part of every layer's output, n_layers values (batch, d_model), and their part of the rows
    a_1 .. a_{depth-1} to push, (batch, 1, 1, n_layers * d_model) each.
    """
    config = network.config
    # For each scale (taps, n_layers * d_model), with the layers side by side as in the queues.
    by_layer = [layer.tap_weights()[1] for layer in network.layers]
    scales = [
        np.concatenate([weights[j] for weights in by_layer], axis=1) * level
        for j, level in enumerate(_levels(network))
    ]
    weight = graph.weight("taps/weights", np.concatenate(scales), like=taps)
    products = graph.node("Mul", [taps, weight], "taps/weighted")
    axes, doc = graph.integers("taps/axes", [1, 2]), "sum over the taps, all layers"
    if engines:
        # TensorRT fuses a sum with what is before and after it, and copies the factors of a product.
        products = graph.cast(products, np.float32, "taps/terms")
        past = graph.node("ReduceSum", [products, axes], "taps/sum", doc=doc, keepdims=0)
        past = graph.cast(past, graph.type_of(taps), "taps/row")
    else:
        # ONNX Runtime sums rows the fastest by a product with ones.
        ones = graph.weight("taps/ones", np.ones((1, sum(map(len, scales)))), like=taps)
        past = graph.node("MatMul", [ones, products], "taps/sum", doc=doc)
        past = graph.node("Squeeze", [past, axes], "taps/row")
    parts = [f"layers.{i}" for i in range(config.n_layers)]
    outputs = graph.split(past, [config.d_model] * config.n_layers, 1, "taps/split", parts)
    return outputs, _lowpass_taps(graph, network, taps, [len(scale) for scale in scales])


def _levels(network: FoldedNetwork) -> NDArray[Any]:
    """The scales of each queue: (depth, n_layers * d_model), or ones (depth, 1) without int8."""
    if network.queue_scales is None:
        return np.ones((network.config.depth, 1))
    return network.queue_scales.reshape(network.config.depth, -1).astype(np.float64)


def _lowpass_taps(
    graph: GraphBuilder, network: FoldedNetwork, taps: str, taps_of_scale: list[int]
) -> list[str]:
    """The contribution of the queues to a_1 .. a_{depth-1}."""
    config = network.config
    pushed = config.depth - 1
    if not pushed:
        return []
    near = config.kernel_size - 1
    # For each scale (kernel_size - 1, n_layers * d_model); one for all if they are tied.
    lowpass = [
        np.concatenate([layer.lowpass[j][1:] for layer in network.layers], axis=1)
        for j in range(len(network.layers[0].lowpass))
    ]
    levels = _levels(network)
    parts = [f"a.{j + 1}" for j in range(pushed)]
    if sum(taps_of_scale) == config.depth:
        # With one tap per scale there is nothing to sum. The coarsest scale pushes nothing.
        near_taps = np.concatenate(lowpass) * (1 if network.queue_scales is None else levels)
        weight = graph.weight("push/weights", near_taps, like=taps)
        total = graph.node("Mul", [taps, weight], "push/weighted")
        return graph.split(total, [1] * config.depth, 2, "push/split", [*parts, "unread"])[:pushed]
    weights = np.zeros((sum(taps_of_scale), lowpass[0].shape[1]))
    rows_of_scale = np.zeros((pushed, len(weights)))
    for j, first in enumerate(np.cumsum([0, *taps_of_scale[: pushed - 1]])):
        weights[first : first + near] = lowpass[j if len(lowpass) > 1 else 0] * levels[j]
        rows_of_scale[j, first : first + near] = 1
    total = graph.node("Mul", [taps, graph.weight("push/weights", weights, like=taps)], "push/weighted")
    sums = graph.weight("push/rows_of_scale", rows_of_scale, like=taps)
    total = graph.node("MatMul", [sums, total], "push/sum", doc="sum over each scale's taps")
    return graph.split(total, [1] * pushed, 2, "push/split", parts)


def _change(graph: GraphBuilder, x: str, past: str, layer: FoldedLayer, name: str) -> str:
    """What a block adds to its input, from the input of its multiresolution layer."""
    weight = graph.weight(f"{name}/multires/x_weight", layer.tap_weights()[0], like=x)
    now = graph.node("Mul", [x, weight], f"{name}/multires/now")
    y = graph.node("Add", [now, past], f"{name}/multires", doc="sum over all scales and taps")
    y = ACTIVATION_NODES[layer.activation](graph, y, name)
    y = MIXING_NODES[layer.mixing_kind].step(graph, y, layer.mixing, name)
    if layer.output is not None:
        y = gemm(graph, y, layer.output, f"{name}/output")
    return y


def _push(graph: GraphBuilder, network: FoldedNetwork, inputs: list[str], past: list[str]) -> list[str]:
    """The rows a_0 .. a_{depth-1} of all layers to write into their queues."""
    # Layers of several types are cast to the type of their weighted taps.
    types = {graph.type_of(x) for x in inputs}
    common = types.pop() if len(types) == 1 else np.dtype(np.float32)
    inputs = [graph.cast(x, common, f"push/cast.{i}") for i, x in enumerate(inputs)]
    x = graph.concat(inputs, 1, "push/inputs")
    axes = graph.integers("push/axes", [1, 2])
    a = graph.node("Unsqueeze", [x, axes], "push/a.0", doc="(batch, 1, 1, n_layers * d_model)")
    rows = [a]
    for j, queued in enumerate(past):
        newest = np.concatenate([layer.lowpass_of(j)[0] for layer in network.layers])
        constant = "push/newest" if network.layers[0].tied else f"push/newest.{j}"
        weight = graph.weight(constant, newest, like=a)
        now = graph.node("Mul", [a, weight], f"push/a.{j + 1}/now")
        doc = f"low-pass of a_{j} at dilation {1 << j}, all layers"
        a = graph.node("Add", [now, queued], f"push/a.{j + 1}", doc=doc)
        rows.append(a)
    if network.queue_scales is None:
        return [_stored(graph, row, network.queue_type, j) for j, row in enumerate(rows)]
    return _rounded(graph, rows, network.queue_scales)


def _stored(graph: GraphBuilder, row: str, dtype: Type, scale: int) -> str:
    """A row to push, in the floating-point type of the queue."""
    if dtype == np.float16 and graph.type_of(row) != np.float16:
        # A cast alone would turn large values into infinity, which stays.
        limit = float(np.finfo(np.float16).max)
        bounds = [graph.weight("push/least", -limit), graph.weight("push/most", limit)]
        row = graph.node("Clip", [row, *bounds], f"push/clip.{scale}")
    return graph.cast(row, dtype, f"push/cast_row.{scale}")


def _rounded(graph: GraphBuilder, rows: list[str], scales: NDArray[np.float32]) -> list[str]:
    """The rows to push, quantized to int8, for all scales together."""
    whole = graph.concat(rows, 2, "push/rows")
    levels = to_levels(graph, whole, scales.reshape(len(rows), -1), "push")
    return graph.split(levels, [1] * len(rows), 2, "push/rows_of", [str(j) for j in range(len(rows))])
