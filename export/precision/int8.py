"""A network with int8 weights and activations where it pays, by the scales of a calibration table.

Quantised by default are the 1x1 convolutions around GLU: nearly all of the weights. The encoder reads a
few raw channels and the head writes a few numbers; they, the filters and the queues are quantised on request.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from multires_edge.base.errors import ConfigError
from multires_edge.calibration.table import CalibrationTable
from multires_edge.export.folding import FoldedLayer, FoldedNetwork
from multires_edge.export.linear import INT8_MAX, Array, FilterScales, Linear, QuantizedLinear, int8_scales
from multires_edge.export.options import DEFAULT_PARTS
from multires_edge.export.precision.queues import Queues
from multires_edge.format.config import ModelConfig

_HALF_ERROR = 2.0**-11  # half of a float16's last bit, for a number in its normal range


def quantizable(config: ModelConfig, parts: Sequence[str] = DEFAULT_PARTS) -> list[str]:
    """Names of what ``parts`` stand for, in the order in which the network uses it.

    They are "encoder", "head" and, for each layer i, "layers.i.mixing", "layers.i.output" (autoregressive
    networks only) and "layers.i.filters"; and "queues", of all layers and scales together, for a queue of
    the step graph holds all layers and has one type. Raises ConfigError.
    """
    if "encoder" in parts and config.encoder == "token":
        raise ConfigError("cannot quantise the encoder: a token network looks rows up and has no input range")
    of_layer = ["filters", "mixing"] + (["output"] if config.task == "autoregressive" else [])
    layers = [f"layers.{i}.{part}" for i in range(config.n_layers) for part in of_layer]
    all_names = ["encoder", *layers, "head", "queues"]
    names = [name for name in all_names if name.rpartition(".")[2] in parts]
    if not names:
        raise ConfigError(f"a network for {config.task} has no {', '.join(parts)} to quantise")
    return names


def input_ranges(config: ModelConfig, name: str) -> list[str]:
    """The calibration table's names for what is rounded; none for filters, whose input stays float32."""
    if name == "queues":
        return [f"layers.{i}.queues.{j}" for j in range(config.depth) for i in range(config.n_layers)]
    return [] if name.endswith(".filters") else [f"{name}.input"]


def quantize(
    network: FoldedNetwork,
    table: CalibrationTable,
    parts: Sequence[str] = DEFAULT_PARTS,
    keep: Collection[str] = frozenset(),
) -> FoldedNetwork:
    """Quantise the weights of ``parts``, except those in ``keep`` by their names.

    Encoder, filters and head that stay floating point are rounded to float16, so that they can be stored
    in half the bytes: next to int8, what that does to the outputs is little. Both graphs are built from
    what this returns, and so compute the same function.
    """
    names = set(quantizable(network.config, parts)) - set(keep)

    def linear(name: str, value: Linear | QuantizedLinear) -> Linear | QuantizedLinear:
        if name not in names:
            return value
        assert isinstance(value, Linear)
        return QuantizedLinear.of(value, table.tensors[f"{name}.input"].scales)

    layers = []
    for i, layer in enumerate(network.layers):
        name = f"layers.{i}"
        filtered = quantize_filters(layer) if f"{name}.filters" in names else _halve_filters(layer)
        mixing = linear(f"{name}.mixing", layer.mixing)
        output = None if layer.output is None else linear(f"{name}.output", layer.output)
        layers.append(replace(filtered, mixing=mixing, output=output))
    encoder = network.encoder
    if isinstance(encoder, np.ndarray):
        encoder = _halved(encoder, axis=0)
    else:
        encoder = _halve(linear("encoder", encoder))
    queues = Queues.int8(table).scales if "queues" in names else None
    head = _halve(linear("head", network.head))
    return replace(network, encoder=encoder, layers=layers, head=head, queue_scales=queues)


def weight_noise_db(exact: FoldedNetwork, quantized: FoldedNetwork, name: str) -> float | None:
    """Mean square of a weight over that of its quantisation error, in dB; infinite where there is none.

    Of a linear layer it is the weight that has absorbed its inputs' scales, so that each part counts as it
    does in the outputs. None for the queues, which are no weight.
    """
    if name == "queues":
        return None
    pairs = list(zip(*_weights(exact, quantized, name), strict=True))
    signal = sum(float(np.square(a).sum()) for a, _ in pairs)
    noise = sum(float(np.square(a - b).sum()) for a, b in pairs)
    return 10 * float(np.log10(signal / noise)) if noise else float("inf")


def _halve(linear: Linear | QuantizedLinear) -> Linear | QuantizedLinear:
    return replace(linear, weight=_halved(linear.weight, axis=1)) if isinstance(linear, Linear) else linear


def _halve_filters(layer: FoldedLayer) -> FoldedLayer:
    highpass = [_halved(filters, axis=0) for filters in layer.highpass]
    return replace(layer, lowpass=_halved(layer.lowpass, axis=0), highpass=highpass)


def _halved(weight: Array, axis: int) -> Array:
    """The nearest float16 numbers; the weight as it is where float16's range is too small for it."""
    with np.errstate(over="ignore"):
        rounded = weight.astype(np.float16).astype(np.float64)
    # What matters of a weight is what is large beside the others along the axis.
    error, largest = np.abs(rounded - weight).max(axis), np.abs(weight).max(axis)
    return rounded if (error <= largest * _HALF_ERROR).all() else weight


def quantize_filters(layer: FoldedLayer) -> FoldedLayer:
    """Round the filters to int8 levels: for each channel one scale for its low-pass, one for all high-passes.

    The filters stay arrays, of what int8 stands for: whatever is computed from them, such as the step
    graph's taps, then agrees with the full graph.
    """
    scales = FilterScales(_scales([layer.lowpass]), _scales(layer.highpass))
    return replace(
        layer,
        lowpass=_rounded(layer.lowpass, scales.lowpass),
        highpass=[_rounded(filters, scales.highpass) for filters in layer.highpass],
        filter_scales=scales,
    )


def _scales(filters: list[Array]) -> Array:
    largest = np.max([np.abs(each).max(axis=0) for each in filters], axis=0)
    # float32, as the graph has them.
    scales: Array = int8_scales(largest).astype(np.float64)
    return scales


def _rounded(filters: Array, scales: Array) -> Array:
    rounded: Array = np.clip(np.rint(filters / scales), -INT8_MAX, INT8_MAX) * scales
    return rounded


def _weights(exact: FoldedNetwork, quantized: FoldedNetwork, name: str) -> tuple[list[Array], list[Array]]:
    """A weight as it is and as it is quantised."""
    if name.endswith(".filters"):
        layers = [network.layers[int(name.split(".")[1])] for network in (exact, quantized)]
        was, now = ([layer.lowpass, *layer.highpass] for layer in layers)
        return was, now
    linear, rounded = linear_named(exact, name), linear_named(quantized, name)
    assert isinstance(linear, Linear) and isinstance(rounded, QuantizedLinear)
    absorbed: Array = linear.weight * rounded.input_scales
    levels: Array = rounded.weight.astype(np.float64) * rounded.weight_scales[:, None]
    return [absorbed], [levels]


def linear_named(network: FoldedNetwork, name: str) -> Linear | QuantizedLinear:
    """The linear layer of a name that :func:`quantizable` gives."""
    _, _, field = name.rpartition(".")
    owner = network.layers[int(name.split(".")[1])] if "." in name else network
    linear: Linear | QuantizedLinear = getattr(owner, field)
    return linear
