"""A network with int8 weights and activations where it pays, by the scales of a calibration table.

Quantised are the 1x1 convolutions around GLU: nearly all of the weights. The encoder reads a few raw
channels and the head writes a few numbers; both are small, and all that comes out depends on them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multires_edge.calibration.table import CalibrationTable
from multires_edge.calibration.tensors import mixing_input, output_input
from multires_edge.export.folding import FoldedLayer, FoldedNetwork
from multires_edge.export.linear import Linear, QuantizedLinear


def quantize(network: FoldedNetwork, table: CalibrationTable) -> FoldedNetwork:
    """Both graphs are built from what this returns, and so compute the same function."""
    layers = [_quantize_layer(layer, i, table) for i, layer in enumerate(network.layers)]
    return replace(network, layers=layers)


def _quantize_layer(layer: FoldedLayer, i: int, table: CalibrationTable) -> FoldedLayer:
    mixing = _quantize_linear(layer.mixing, mixing_input(i), table)
    output = None if layer.output is None else _quantize_linear(layer.output, output_input(i), table)
    return replace(layer, mixing=mixing, output=output)


def _quantize_linear(linear: Linear | QuantizedLinear, name: str, table: CalibrationTable) -> QuantizedLinear:
    assert isinstance(linear, Linear)
    return QuantizedLinear.of(linear, np.float32(table.tensors[name].scale))
