"""The full-sequence graph: x (batch, d_input, time) to logits, or to params at every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from multires_edge.export.activations import ACTIVATION_NODES
from multires_edge.export.folding import FoldedLayer, FoldedNetwork
from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.gemm import causal_convolution, gemm, head, pointwise
from multires_edge.export.graphs.mixing import MIXING_NODES
from multires_edge.export.graphs.pooling import POOLING_GRAPHS
from multires_edge.export.graphs.quantize import as_float, to_levels
from multires_edge.format.pooling import Pooling
from multires_edge.format.targets import GraphForm


def build_full_graph(
    network: FoldedNetwork, form: GraphForm, pooling: Pooling | None = None, *, lengths: bool = False
) -> onnx.ModelProto:
    """Build the graph, dynamic in batch and time.

    ``pooling`` replaces the network's own. With ``lengths``, row b pools lengths[b] steps.
    """
    config, types = network.config, network.types
    pooling = config.pooled_by(pooling)
    graph = GraphBuilder("multires_full", form)
    x = _encode(graph, network)
    for i, layer in enumerate(network.layers):
        x = graph.cast(x, types.layers[i], f"layers.{i}/cast")
        scales = None if network.queue_scales is None else network.queue_scales[:, i]
        x = _block(graph, x, layer, f"layers.{i}", scales)
    if pooling is None:
        output = head(graph, x, network, pointwise)
        doc = "one logit a class at each step"
        if config.shifts:
            doc = "parameters of the distribution of each step"
        graph.output(output, np.float32, ["batch", config.d_output, "time"], doc)
    else:
        x = graph.cast(x, np.float32, "pool/cast")
        rows = None
        if lengths:
            rows = graph.input("lengths", np.int64, ["batch"], "steps of each row to pool over, 1 to time")
        pooled = POOLING_GRAPHS[type(pooling)].full(pooling, graph, x, rows)
        logits = head(graph, pooled, network, gemm)
        graph.output(logits, np.float32, ["batch", config.d_output], "one logit a class")
    return graph.build(
        "MultiresNet over a whole sequence. With a_0 the layer's input, each scale j convolves "
        "a_j causally at dilation 2^j: 'lowpass' gives a_{j+1}, 'highpass' its part of the layer."
    )


def _encode(graph: GraphBuilder, network: FoldedNetwork) -> str:
    shift = network.config.shifts
    if not isinstance(network.encoder, np.ndarray):
        shape: list[int | str] = ["batch", network.config.channels, "time"]
        x = graph.input("x", np.float32, shape, "normalised samples, oldest first")
        if shift:
            x = _shift_by_one(graph, x, rank=3)
        x = graph.cast(x, network.types.encoder, "encoder/cast")
        return causal_convolution(graph, x, network.encoder, network.config.encoder_taps, "encoder")
    tokens = graph.input("tokens", np.int64, ["batch", "time"], "token numbers, oldest first")
    if shift:
        tokens = _shift_by_one(graph, tokens, rank=2)
    table = graph.constant("encoder/table", network.encoder.astype(network.types.encoder))
    rows = graph.node("Gather", [table, tokens], "encoder/rows", doc="token embedding")
    return graph.node("Transpose", [rows], "encoder", perm=[0, 2, 1], doc="to (batch, d_model, time)")


def _shift_by_one(graph: GraphBuilder, x: str, rank: int) -> str:
    """Add a zero in front and drop the last step, so that step t sees only earlier steps."""
    pads = graph.integers("shift/pads", [0] * (rank - 1) + [1] + [0] * rank)
    padded = graph.node("Pad", [x, pads], "shift/pad", doc="zero in front of the sequence")
    starts, ends = graph.integers("shift/start", [0]), graph.integers("shift/end", [-1])
    axis = graph.integers("shift/axis", [rank - 1])
    return graph.node("Slice", [padded, starts, ends, axis], "shift", doc="drop the last step")


def _as_convolved(filters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filters (taps, d_model) by delay, in the layout of a depthwise convolution."""
    return filters[::-1].T[:, None, :]


def _lowpass(graph: GraphBuilder, layer: FoldedLayer, name: str, like: str) -> dict[int, str]:
    """The filters of each scale that is low-passed: all but the coarsest."""
    scales = range(layer.depth - 1)
    int8 = None if layer.filter_scales is None else layer.filter_scales.lowpass
    if not layer.tied:
        filters = {j: _as_convolved(layer.lowpass[j]) for j in scales}
        return _of_scales(graph, filters, int8, name, "lowpass", like) if filters else {}
    if not scales:
        return {}
    tied, constant = _as_convolved(layer.lowpass[0]), f"{name}/lowpass/filters"
    if int8 is None:
        return dict.fromkeys(scales, graph.weight(constant, tied, like=like))
    return dict.fromkeys(scales, _from_int8(graph, tied, int8, constant))


def _highpass(graph: GraphBuilder, layer: FoldedLayer, name: str, like: str) -> dict[int, str]:
    """The filters of each scale that contributes to the output.

    In a uniform tree, fine scales without memory weights do not contribute.
    """
    filters = {j: _as_convolved(h) for j, h in enumerate(layer.highpass) if layer.remembers(j)}
    int8 = None if layer.filter_scales is None else layer.filter_scales.highpass
    return _of_scales(graph, filters, int8, name, "highpass", like)


def _of_scales(
    graph: GraphBuilder,
    filters: dict[int, NDArray[np.float64]],
    int8_scales: NDArray[np.float64] | None,
    name: str,
    kind: str,
    like: str,
) -> dict[int, str]:
    """The filters of each scale as constants."""
    if int8_scales is None:
        names = {j: f"{name}/scales.{j}/{kind}/filters" for j in filters}
        return {j: graph.weight(names[j], filters[j], like=like) for j in filters}
    # One constant for all scales of a layer: a few bytes of int8 are smaller than a node and its names.
    joined = np.concatenate(list(filters.values()), axis=2)
    whole = _from_int8(graph, joined, int8_scales, f"{name}/{kind}")
    taps = [each.shape[2] for each in filters.values()]
    parts = graph.split(whole, taps, 2, f"{name}/{kind}/split", [str(j) for j in filters])
    return dict(zip(filters, parts, strict=True))


def _from_int8(
    graph: GraphBuilder, filters: NDArray[np.float64], scales: NDArray[np.float64], name: str
) -> str:
    levels = np.rint(filters / scales[:, None, None]).astype(np.int8)
    held = [graph.constant(f"{name}.int8", levels), graph.weight(f"{name}_scales", scales)]
    return graph.node("DequantizeLinear", held, name, axis=0, dtype=np.float32)


def _depthwise(
    graph: GraphBuilder, x: str, filters: str, shape: tuple[int, ...], dilation: int, name: str
) -> str:
    """Causal depthwise convolution; ``shape`` of the filters is (taps, d_model)."""
    taps, channels = shape
    return graph.node(
        "Conv",
        [x, filters],
        name,
        kernel_shape=[taps],
        dilations=[dilation],
        pads=[dilation * (taps - 1), 0],
        group=channels,
        doc=f"causal depthwise convolution, dilation {dilation}",
    )


def _resolutions(
    graph: GraphBuilder, x: str, layer: FoldedLayer, name: str, queue_scales: NDArray[np.float32] | None
) -> list[str]:
    """The part of each scale in the layer's output, to be summed.

    With ``queue_scales`` they are as in a stream with int8 queues: past values are rounded, those of the
    current step are not.
    """
    convolved, queued = layer, queue_scales is not None
    if queued:
        highpasses = [_without_newest(filters) for filters in layer.highpass]
        lowpasses = [_without_newest(filters) for filters in layer.lowpass]
        convolved = replace(layer, lowpass=lowpasses, highpass=highpasses)
    highpass = _highpass(graph, convolved, name, like=x)
    lowpass = _lowpass(graph, convolved, name, like=x)
    a, parts = x, []
    for j in range(layer.depth):
        at = f"{name}/scales.{j}"
        read = a if queue_scales is None else _through_queue(graph, a, queue_scales[j], at)
        if queued and layer.remembers(j):
            weight = graph.weight(f"{at}/highpass/newest", layer.highpass[j][0][:, None], like=x)
            parts.append(graph.node("Mul", [a, weight], f"{at}/highpass/now"))
        if j in highpass:
            shape = layer.highpass[j].shape
            parts.append(_depthwise(graph, read, highpass[j], shape, 1 << j, f"{at}/highpass"))
        if j + 1 < layer.depth:
            now = None
            if queued:
                constant = f"{name if layer.tied else at}/lowpass/newest"
                weight = graph.weight(constant, layer.lowpass_of(j)[0][:, None], like=x)
                now = graph.node("Mul", [a, weight], f"{at}/lowpass/now")
            part = f"{at}/lowpass/past" if queued else f"{at}/lowpass"
            a = _depthwise(graph, read, lowpass[j], layer.lowpass[0].shape, 1 << j, part)
            a = a if now is None else graph.node("Add", [now, a], f"{at}/lowpass")
    return parts


def _without_newest(filters: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros_like(filters[:1]), filters[1:]])


def _through_queue(graph: GraphBuilder, a: str, scales: NDArray[np.float32], name: str) -> str:
    """Values (batch, d_model, time) after quantization to int8 and back."""
    column, at = scales[:, None], f"{name}/queue"
    read = as_float(graph, to_levels(graph, a, column, at), f"{at}/read")
    level = graph.weight(f"{at}/level", column)
    return graph.node("Mul", [read, level], at, doc="a_j as the queue keeps it")


def _block(
    graph: GraphBuilder, x: str, layer: FoldedLayer, name: str, queue_scales: NDArray[np.float32] | None
) -> str:
    entered = layer.norm.enter(graph, x, name, over_time=True)
    resolutions = _resolutions(graph, entered, layer, name, queue_scales)
    y = resolutions[0]
    if len(resolutions) > 1:
        y = graph.node("Sum", resolutions, f"{name}/sum", doc="sum over all scales")
    y = ACTIVATION_NODES[layer.activation](graph, y, name)
    y = MIXING_NODES[layer.mixing_kind].over_time(graph, y, layer.mixing, name)
    if layer.output is not None:
        y = pointwise(graph, y, layer.output, f"{name}/output")
    return layer.norm.leave(graph, x, y, name, over_time=True)
