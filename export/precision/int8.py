"""A network with int8 weights and activations where it pays, by the scales of a calibration table.

Quantised by default are the 1x1 convolutions around GLU: nearly all of the weights. The encoder reads a
few raw channels and the head writes a few numbers; they, and the filters, are quantised on request.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from multires_edge.calibration.table import CalibrationTable
from multires_edge.export.folding import FoldedLayer, FoldedNetwork
from multires_edge.export.linear import INT8_MAX, Array, FilterScales, Linear, QuantizedLinear
from multires_edge.models.config import ModelConfig
from multires_edge.runtime.errors import ConfigError

PARTS = ("encoder", "filters", "mixing", "output", "head")
DEFAULT_PARTS = ("mixing", "output")


def quantizable(config: ModelConfig, parts: Sequence[str] = DEFAULT_PARTS) -> list[str]:
    """Names of the weights that ``parts`` stand for, in the order in which the network uses them.

    They are "encoder", "head" and, for each layer i, "layers.i.mixing", "layers.i.output" (autoregressive
    networks only) and "layers.i.filters". Raises ConfigError.
    """
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"cannot quantise {part!r}, expected some of {', '.join(PARTS)}")
    if "encoder" in parts and config.encoder == "token":
        raise ConfigError("cannot quantise the encoder: a token network looks rows up and has no input range")
    of_layer = ["filters", "mixing"] + (["output"] if config.task == "autoregressive" else [])
    layers = [f"layers.{i}.{part}" for i in range(config.n_layers) for part in of_layer if part in parts]
    names = [name for name in ("encoder",) if name in parts] + layers
    names += [name for name in ("head",) if name in parts]
    if not names:
        raise ConfigError(f"a network for {config.task} has no {', '.join(parts)} to quantise")
    return names


def input_range(name: str) -> str | None:
    """The calibration table's name for what a weight reads; None for filters, whose input stays float32."""
    return None if name.endswith(".filters") else f"{name}.input"


def quantize(
    network: FoldedNetwork,
    table: CalibrationTable,
    parts: Sequence[str] = DEFAULT_PARTS,
    keep: Collection[str] = frozenset(),
) -> FoldedNetwork:
    """Quantise the weights of ``parts``, except those in ``keep`` by their names.

    Both graphs are built from what this returns, and so compute the same function.
    """
    names = set(quantizable(network.config, parts)) - set(keep)

    def linear(name: str, value: Linear | QuantizedLinear) -> Linear | QuantizedLinear:
        return _quantize_linear(name, value, table) if name in names else value

    layers = []
    for i, layer in enumerate(network.layers):
        name = f"layers.{i}"
        filtered = quantize_filters(layer) if f"{name}.filters" in names else layer
        mixing = linear(f"{name}.mixing", layer.mixing)
        output = None if layer.output is None else linear(f"{name}.output", layer.output)
        layers.append(replace(filtered, mixing=mixing, output=output))
    encoder = network.encoder
    if not isinstance(encoder, np.ndarray):
        encoder = linear("encoder", encoder)
    return replace(network, encoder=encoder, layers=layers, head=linear("head", network.head))


def weight_noise_db(exact: FoldedNetwork, quantized: FoldedNetwork, name: str) -> float:
    """Mean square of a weight over that of its quantisation error, in dB; infinite where there is none."""
    pairs = list(zip(_weights(exact, name), _weights(quantized, name), strict=True))
    signal = sum(float(np.square(a).sum()) for a, _ in pairs)
    noise = sum(float(np.square(a - b).sum()) for a, b in pairs)
    return 10 * float(np.log10(signal / noise)) if noise else float("inf")


def _quantize_linear(name: str, linear: Linear | QuantizedLinear, table: CalibrationTable) -> QuantizedLinear:
    assert isinstance(linear, Linear)
    return QuantizedLinear.of(linear, np.float32(table.tensors[f"{name}.input"].scale))


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
    # float32, as the graph has them; a channel of zeros is zeros with any scale.
    scales: Array = np.where(largest > 0, largest / INT8_MAX, 1.0).astype(np.float32).astype(np.float64)
    return scales


def _rounded(filters: Array, scales: Array) -> Array:
    rounded: Array = np.clip(np.rint(filters / scales), -INT8_MAX, INT8_MAX) * scales
    return rounded


def _weights(network: FoldedNetwork, name: str) -> list[Array]:
    if name.endswith(".filters"):
        layer = network.layers[int(name.split(".")[1])]
        return [layer.lowpass, *layer.highpass]
    linear = linear_named(network, name)
    if isinstance(linear, QuantizedLinear):
        return [linear.weight.astype(np.float64) * linear.weight_scales[:, None]]
    return [linear.weight]


def linear_named(network: FoldedNetwork, name: str) -> Linear | QuantizedLinear:
    """The linear layer of a name that :func:`quantizable` gives."""
    _, _, field = name.rpartition(".")
    owner = network.layers[int(name.split(".")[1])] if "." in name else network
    linear: Linear | QuantizedLinear = getattr(owner, field)
    return linear
