"""Quantize weights and activations of a network to int8, with the scales of a calibration table.

By default the 1x1 convolutions around GLU are quantized, which have nearly all of the weights. Encoder, head,
filters and queues are quantized on request.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError
from multires_edge.calibration.table import CalibrationTable
from multires_edge.export.folding import FoldedLayer, FoldedNetwork
from multires_edge.export.linear import INT8_MAX, Array, FilterScales, Linear, QuantizedLinear, int8_scales
from multires_edge.export.options import DEFAULT_PARTS
from multires_edge.format.config import ModelConfig

_HALF_ERROR = 2.0**-11  # half of the last bit of a normal float16


def quantizable(config: ModelConfig, parts: Sequence[str] = DEFAULT_PARTS) -> list[str]:
    """The names of the weights of ``parts``, in the order of the network.

    They are "encoder", "head" and, for each layer i, "layers.i.mixing", "layers.i.output" (of networks
    networks only) and "layers.i.filters". "queues" is one name for all layers and scales, because a queue of
    the step graph holds all layers and has one type. Raises ConfigError.
    """
    if "encoder" in parts and config.encoder == "token":
        raise ConfigError("the encoder of a token network cannot be quantized: it has no input range")
    of_layer = ["filters", "mixing"] + (["output"] if config.second_convolution else [])
    layers = [f"layers.{i}.{part}" for i in range(config.n_layers) for part in of_layer]
    all_names = ["encoder", *layers, "head", "queues"]
    names = [name for name in all_names if name.rpartition(".")[2] in parts]
    if not names:
        raise ConfigError(f"a network for {config.task} has no {', '.join(parts)} to quantize")
    return names


def input_ranges(config: ModelConfig, name: str) -> list[str]:
    """The names of the rounded tensors in the calibration table; empty for filters, which read float32."""
    if name == "queues":
        return [f"layers.{i}.queues.{j}" for j in range(config.depth) for i in range(config.n_layers)]
    return [] if name.endswith(".filters") else [f"{name}.input"]


def quantize(
    network: FoldedNetwork, table: CalibrationTable, names: Collection[str] | None = None
) -> FoldedNetwork:
    """Quantize the weights of these names, by default all :func:`quantizable` ones.

    Encoder, filters and head that are not quantized are rounded to float16, to be stored in half the bytes.
    Compared with int8, the effect on the outputs is small. Both graphs are built from the result, so they
    compute the same function.
    """
    if names is None:
        names = quantizable(network.config)

    def linear(name: str, value: Linear | QuantizedLinear) -> Linear | QuantizedLinear:
        if name not in names:
            return value
        assert isinstance(value, Linear)
        scales = table.tensors[f"{name}.input"].scales
        taps = value.weight.shape[1] // len(scales)  # of an encoder, which reads its input at several delays
        return QuantizedLinear.of(value, np.tile(scales, taps))

    layers = []
    for i, layer in enumerate(network.layers):
        name = f"layers.{i}"
        filtered = quantize_filters(layer) if f"{name}.filters" in names else _halve_filters(layer)
        mixing = linear(f"{name}.mixing", layer.mixing)
        output = None if layer.output is None else linear(f"{name}.output", layer.output)
        layers.append(replace(filtered, mixing=mixing, output=output))
    encoder = network.encoder
    if isinstance(encoder, np.ndarray):
        encoder = halved(encoder, axis=0)
    else:
        encoder = _halve(linear("encoder", encoder))
    queues = queue_scales(table) if "queues" in names else None
    head = _halve(linear("head", network.head))
    return replace(network, encoder=encoder, layers=layers, head=head, queue_scales=queues)


def queue_scales(table: CalibrationTable) -> NDArray[np.float32]:
    """The scales of int8 queues (depth, n_layers, d_model), positive normal numbers."""
    config = table.config
    assert isinstance(config, ModelConfig)
    scales = [table.tensors[name].scales for name in input_ranges(config, "queues")]
    return np.reshape(scales, (config.depth, config.n_layers, config.d_model))


def weight_noise_db(exact: FoldedNetwork, quantized: FoldedNetwork, name: str) -> float | None:
    """Mean square of a weight over mean square of its quantization error, in dB; infinite without error.

    For a linear layer the weight includes the scales of its inputs, so that each part counts as in the
    outputs. None for the queues, which have no weight.
    """
    if name == "queues":
        return None
    pairs = list(zip(*_weights(exact, quantized, name), strict=True))
    signal = sum(float(np.square(a).sum()) for a, _ in pairs)
    noise = sum(float(np.square(a - b).sum()) for a, b in pairs)
    return 10 * float(np.log10(signal / noise)) if noise else float("inf")


def _halve(linear: Linear | QuantizedLinear) -> Linear | QuantizedLinear:
    return replace(linear, weight=halved(linear.weight, axis=1)) if isinstance(linear, Linear) else linear


def _halve_filters(layer: FoldedLayer) -> FoldedLayer:
    highpass = [halved(filters, axis=0) for filters in layer.highpass]
    return replace(layer, lowpass=[halved(each, axis=0) for each in layer.lowpass], highpass=highpass)


def halved(weight: Array, axis: int) -> Array:
    """The weight rounded to float16; unchanged if the range of float16 is too small for it."""
    with np.errstate(over="ignore"):
        rounded = weight.astype(np.float16).astype(np.float64)
    # Errors are relative to the largest weight along the axis, which dominates the result.
    error, largest = np.abs(rounded - weight).max(axis), np.abs(weight).max(axis)
    return rounded if (error <= largest * _HALF_ERROR).all() else weight


def quantize_filters(layer: FoldedLayer) -> FoldedLayer:
    """Quantize the filters to int8, with a scale per channel for all low-passes and one for all high-passes.

    The result has the dequantized filters. All values computed from them, such as the step graph's taps,
    then agree with the full graph.
    """
    scales = FilterScales(_scales(layer.lowpass), _scales(layer.highpass))
    return replace(
        layer,
        lowpass=[_rounded(filters, scales.lowpass) for filters in layer.lowpass],
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
    """A weight before and after quantization."""
    if name.endswith(".filters"):
        layers = [network.layers[int(name.split(".")[1])] for network in (exact, quantized)]
        was, now = ([*layer.lowpass, *layer.highpass] for layer in layers)
        return was, now
    linear, rounded = linear_named(exact, name), linear_named(quantized, name)
    assert isinstance(linear, Linear) and isinstance(rounded, QuantizedLinear)
    absorbed: Array = linear.weight * rounded.input_scales
    levels: Array = rounded.weight.astype(np.float64) * rounded.weight_scales[:, None]
    return [absorbed], [levels]


def linear_named(network: FoldedNetwork, name: str) -> Linear | QuantizedLinear:
    """The linear layer of a name from :func:`quantizable`."""
    _, _, field = name.rpartition(".")
    owner = network.layers[int(name.split(".")[1])] if "." in name else network
    linear: Linear | QuantizedLinear = getattr(owner, field)
    return linear
