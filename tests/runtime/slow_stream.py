"""A slow step in float64, but for what the queues keep: rounded when it is pushed, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from multires_edge.export.folding import FoldedLayer, FoldedNetwork
from multires_edge.export.linear import Linear, QuantizedLinear
from multires_edge.export.norms import Affine, FoldedNorm, NoNorm, RmsNorm
from multires_edge.export.types import FLOAT16
from multires_edge.format.pooling import Pooling
from multires_edge.models.activations import ACTIVATION_FUNCTIONS

Array = NDArray[np.float64]


class SlowStream:
    """``rings[j]`` (rows, slots, n_layers, d_model) of the queues' type and ``position`` (rows,) are laid out
    as the step graph's states; after a step, ``pushed[j]`` (rows, n_layers, d_model) is what was pushed,
    before it was rounded."""  # fmt: skip

    def __init__(self, network: FoldedNetwork, pooling: Pooling, rows: int) -> None:
        config = network.config
        self.network, self.window = network, pooling.window
        self.rings = [
            np.zeros((rows, history + 1, config.n_layers, config.d_model), network.queue_type)
            for history in config.history()
        ]
        self.pushed = [np.zeros((rows, config.n_layers, config.d_model)) for _ in self.rings]
        self.position = np.zeros(rows, np.int64)
        self.features: list[list[Array]] = [[] for _ in range(rows)]

    def reset(self, row: int) -> None:
        for ring in self.rings:
            ring[row] = 0
        self.position[row] = 0
        self.features[row].clear()

    def run(self, inputs: NDArray[Any]) -> Array:
        """Inputs (rows, ..., time); the output of each step, (rows, d_output, time)."""
        return np.stack([self.step(inputs[..., t]) for t in range(inputs.shape[-1])], axis=-1)

    def step(self, sample: NDArray[Any]) -> Array:
        """A sample (rows, d_input), or tokens (rows,); the output (rows, d_output)."""
        encoder = self.network.encoder
        x = encoder[sample] if isinstance(encoder, np.ndarray) else linear(encoder, sample)
        for i, layer in enumerate(self.network.layers):
            x = self._block(i, layer, x)
        for j, ring in enumerate(self.rings):
            slots = self.position % ring.shape[1]
            ring[np.arange(len(ring)), slots] = self.rounded(j)
        self.position += 1
        if self.network.config.task == "classification":
            for row, features in enumerate(self.features):
                features.append(x[row])
                del features[: -(self.window or len(features))]
            x = np.stack([np.mean(features, axis=0) for features in self.features])
        return linear(self.network.head, x)

    def rounded(self, j: int) -> NDArray[Any]:
        """What a queue keeps of what was pushed."""
        a = self.pushed[j].astype(np.float32)
        if self.network.queue_type == FLOAT16:
            return np.clip(a, -65504, 65504).astype(FLOAT16)
        if self.network.queue_scales is None:
            return a
        levels = np.rint(a * (np.float32(1) / self.network.queue_scales[j]))
        kept: NDArray[np.int8] = np.clip(levels, -128, 127).astype(np.int8)
        return kept

    def _block(self, i: int, layer: FoldedLayer, x: Array) -> Array:
        block_input = x
        a = x = normed(layer.norm, x) if layer.norm.place == "before" else x
        y = np.zeros_like(x)
        for j, highpass in enumerate(layer.highpass):
            self.pushed[j][:, i] = a
            lowpass = layer.lowpass_of(j)
            taps = [a, *(self._tap(i, j, o) for o in range(1, max(len(highpass), len(lowpass))))]
            y = y + sum(h * tap for h, tap in zip(highpass, taps, strict=False))
            a = sum((h * tap for h, tap in zip(lowpass, taps, strict=False)), start=np.zeros_like(x))
        y = ACTIVATION_FUNCTIONS[layer.activation](torch.from_numpy(y)).numpy()
        y = linear(layer.mixing, y)
        if layer.mixing_kind == "glu":
            value, gate = np.split(y, 2, axis=1)
            y = value * torch.sigmoid(torch.from_numpy(gate)).numpy()
        if layer.output is not None:
            y = linear(layer.output, y)
        if layer.norm.place == "residual":
            return normed(layer.norm, block_input) + y
        total = block_input + y
        return normed(layer.norm, total) if layer.norm.place == "after" else total

    def _tap(self, i: int, j: int, o: int) -> Array:
        """a_j of layer i, o * 2^j steps ago."""
        ring = self.rings[j]
        row: Array = ring[np.arange(len(ring)), (self.position - (o << j)) % ring.shape[1], i].astype(float)
        scales = self.network.queue_scales
        return row if scales is None else row * scales[j, i]


def normed(norm: FoldedNorm, x: Array) -> Array:
    """The norm of rows (rows, d_model)."""
    if isinstance(norm, NoNorm):
        return x
    shift = 0 if norm.shift is None else norm.shift
    if isinstance(norm, Affine):
        return x * norm.scale + shift
    parts = x.reshape(len(x), norm.groups, -1)
    if not isinstance(norm, RmsNorm):
        parts = parts - parts.mean(axis=2, keepdims=True)
    normal: Array = parts / np.sqrt(np.square(parts).mean(axis=2, keepdims=True) + norm.epsilon)
    result: Array = normal.reshape(x.shape) * norm.scale + shift
    return result


def linear(layer: Linear | QuantizedLinear, x: NDArray[Any]) -> Array:
    if isinstance(layer, Linear):
        return x @ layer.weight.T + layer.bias
    levels = np.clip(np.rint(x / layer.input_scales), -128, 127)
    y: Array = layer.weight_scales * (levels @ layer.weight.T) + layer.bias
    return y
