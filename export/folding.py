"""Fold the weights of a network in float64, once, into the form that graphs and engines compute with.

Per layer, with a_0 = x and q[j, o] = a_j(t - o * 2^j), the multiresolution sum collapses to

    a_{j+1}(t) = sum_o lowpass[j][o] * q[j, o]             (o = 0 .. K-1)
    y(t)       = sum_j sum_o highpass[j][o] * q[j, o]

where ``highpass[j]`` includes the memory weights, the coarsest low-pass output and the weight of the
input. Filters are indexed by delay: row 0 multiplies the newest sample. BatchNorm is folded into the
convolution before it and into a scale and shift of the residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.linear import FilterScales, Linear, QuantizedLinear
from multires_edge.export.norms import FOLDED_NORMS, Array, FoldedNorm
from multires_edge.export.types import INT8, Type, TypePlan

if TYPE_CHECKING:
    from multires_edge.format.config import ModelConfig
    from multires_edge.models.network import MultiresNet


@dataclass(frozen=True)
class FoldedLayer:
    """One residual block.

    lowpass (K, d_model) and highpass[j] (n_j, d_model) by delay in units of 2^j steps. ``lowpass`` has one
    filter for all scales, or one for each if they are not tied. ``mixing`` is the first 1x1 convolution,
    ``output`` the second, if there is one. With ``filter_scales``, both filters are integer multiples,
    -127 to 127, of the scale of their channel.
    """

    lowpass: list[Array]
    highpass: list[Array]
    mixing: Linear | QuantizedLinear
    output: Linear | QuantizedLinear | None
    norm: FoldedNorm
    activation: str
    mixing_kind: str
    filter_scales: FilterScales | None = None

    @property
    def depth(self) -> int:
        return len(self.highpass)

    @property
    def tied(self) -> bool:
        """Whether all scales have the same low-pass filter."""
        return len(self.lowpass) == 1

    def lowpass_of(self, scale: int) -> Array:
        """The low-pass filter (K, d_model) of a scale."""
        return self.lowpass[0 if self.tied else scale]

    def remembers(self, scale: int) -> bool:
        """Whether a scale contributes to the output. Scale 0 does, by the weight of the input."""
        return scale == 0 or len(self.highpass[scale]) > 1

    def tap_weights(self) -> tuple[Array, list[Array]]:
        """The weights that give the layer's output from the input and the queues of a stream.

        Returns the weight of x(t), (d_model,), and for each scale the weights (n, d_model) of
        q[j, 1], q[j, 2], ... The a_j(t) of the coarser scales are sums of these, so they are
        substituted, coarsest first.
        """
        reached = np.zeros_like(self.lowpass[0][0])  # total weight of a_{j+1}(t) in y(t)
        taps: list[Array] = []
        for j in reversed(range(self.depth)):
            highpass, (newest, *past) = self.highpass[j], self.lowpass_of(j)
            weights = np.zeros((max(len(highpass), 1 + len(past)) - 1, len(newest)))
            weights[: len(highpass) - 1] += highpass[1:]
            weights[: len(past)] += np.stack(past) * reached
            taps.append(weights)
            reached = highpass[0] + newest * reached
        return reached, taps[::-1]


@dataclass(frozen=True)
class FoldedNetwork:
    """All weights of a network, and the types in which graphs and engines compute with them.

    ``encoder`` is linear, or a token table (n_tokens, d_model). A linear one reads the channels of each of
    its taps (d_model, taps * d_input), by delay. With ``queue_scales``, float32 (depth, n_layers, d_model),
    queues are int8. The type of the queues does not depend on that of the weights: at each step a layer
    computes its a_j in float32, from the exact a_j of this step and the values of earlier steps in its
    queues. Only pushed values are rounded: to float16, at most 65504, or to int8,

        q = clip(round(a_j / scale), -128, 127)     half to even, as a product with float32(1 / scale)

    A past row is dequantized to q * scale. Nothing feeds back, so an error is gone when the receptive field
    has passed.
    """

    config: ModelConfig
    encoder: Linear | QuantizedLinear | Array
    layers: list[FoldedLayer]
    head: Linear | QuantizedLinear
    types: TypePlan
    queue_scales: NDArray[np.float32] | None = None

    @property
    def queue_type(self) -> Type:
        return self.types.queues if self.queue_scales is None else INT8


def fold(net: MultiresNet) -> FoldedNetwork:
    """Fold a network's weights in float64; graphs compute with them in float32."""
    state = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    config = net.config

    def linear(name: str) -> Linear:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return Linear(weight.reshape(weight.shape[:2]), bias)

    def encoder() -> Linear:
        weight = state["encoder.weight"][..., ::-1].transpose(0, 2, 1)
        return Linear(weight.reshape(len(weight), -1), state["encoder.bias"])

    head = "decoder" if config.task == "autoregressive" else "output_mapping"
    return FoldedNetwork(
        config=config,
        encoder=encoder() if config.encoder == "linear" else state["encoder.weight"],
        layers=[_fold_layer(net, state, linear, i) for i in range(config.n_layers)],
        head=linear(head),
        types=TypePlan.float32(config.n_layers),
    )


def _fold_layer(net: MultiresNet, state: dict[str, Array], linear: Any, i: int) -> FoldedLayer:
    config = net.config
    h0, h1 = (_by_delay(state[f"seq_layers.{i}.{h}"]) for h in ("h0", "h1"))
    w = state[f"seq_layers.{i}.w"].T
    highpass = [
        _highpass(h1[j if len(h1) > 1 else 0], w[columns.start : columns.stop])
        for j, columns in enumerate(config.memory_columns())
    ]
    highpass[-1] = _add(highpass[-1], w[0] * h0[-1])
    highpass[0] = _add(highpass[0], w[-1:])
    mixing = linear(f"mixing_layers.{i}.0")
    output = linear(f"mixing_layers.{i}.3") if config.second_convolution else None
    prefix = f"norms.{i}."
    tensors = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
    norm = FOLDED_NORMS[config.norm].fold(tensors, config)
    if norm.place == "after":
        norm, mixing, output = norm.folded_into(mixing, output)
    return FoldedLayer(h0, highpass, mixing, output, norm, config.activation, config.mixing)


def _by_delay(filters: Array) -> list[Array]:
    """Filters (K, d_model), the newest sample first: one for each scale, or one for all."""
    each = filters if filters.ndim == 4 else filters[None]
    return [of_scale[:, 0, ::-1].T for of_scale in each]


def _highpass(h1: Array, memory: Array) -> Array:
    """h1 and memory weights at twice its dilation, as one filter; zeros (1, d_model) without memory."""
    if not len(memory):
        return np.zeros((1, h1.shape[1]))
    folded = np.zeros((len(h1) + 2 * (len(memory) - 1), h1.shape[1]))
    for k, weight in enumerate(memory):
        folded[2 * k : 2 * k + len(h1)] += weight * h1
    return folded


def _add(a: Array, b: Array) -> Array:
    total = np.zeros((max(len(a), len(b)), a.shape[1]))
    total[: len(a)] += a
    total[: len(b)] += b
    return total
