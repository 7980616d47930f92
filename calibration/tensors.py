"""The logical tensors of a network, which int8 quantizes. Their names belong to the model, not to a graph.

| name | tensor |
| --- | --- |
| ``encoder.input`` | the samples (linear encoders only), shifted by one step where the network shifts them |
| ``layers.{i}.mixing.input`` | GELU(multires(x)): the input of the 1x1 convolution before GLU |
| ``layers.{i}.output.input`` | the input of the second 1x1 convolution of the mixing, if there is one |
| ``layers.{i}.queues.{j}`` | a_j, the content of queue j: a_0 is the layer's input, a_{j+1} low-passes a_j |
| ``head.input`` | the input of the head: pooled features, or the features of each step |

Folding BatchNorm changes weights and none of these tensors. Every channel has its own scale, because
magnitudes differ strongly between channels. The scale is folded into the weights that read the channel, so
it costs one elementwise product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import CUMULATIVE, Pooling
from multires_edge.models.hooks import Hook, hooked

if TYPE_CHECKING:
    import torch

    from multires_edge.models.network import MultiresNet

Collect = Callable[[str, NDArray[np.float32]], None]

ENCODER_INPUT = "encoder.input"
HEAD_INPUT = "head.input"


def mixing_input(layer: int) -> str:
    """The name of the input of the 1x1 convolution before GLU."""
    return f"layers.{layer}.mixing.input"


def output_input(layer: int) -> str:
    """The name of the input of the 1x1 convolution after GLU."""
    return f"layers.{layer}.output.input"


def queue(layer: int, scale: int) -> str:
    """The name of the content of a layer's queue with dilation 2^scale."""
    return f"layers.{layer}.queues.{scale}"


def logical_tensors(config: ModelConfig) -> dict[str, int]:
    """The channels of each logical tensor, in the order in which a network computes them.

    Each channel has its own threshold.
    """
    tensors = {ENCODER_INPUT: config.channels} if config.encoder == "linear" else {}
    for i in range(config.n_layers):
        names = [*(queue(i, j) for j in range(config.depth)), mixing_input(i)]
        if config.second_convolution:
            names.append(output_input(i))
        tensors |= dict.fromkeys(names, config.d_model)
    return tensors | {HEAD_INPUT: config.d_head}


def observe(
    net: MultiresNet, inputs: NDArray[Any], lengths: NDArray[np.int64] | None, collect: Collect
) -> None:
    """Run the network and pass each logical tensor to ``collect(name, values)``.

    ``inputs`` float32 (n, d_input, time) or tokens int64 (n, time); ``values`` float32 (channels, m),
    only valid during the call. Steps beyond a row's length are padding and ignored. For a head
    that reads pooled features, they are pooled over the first 1, 2, 4, 8, ... steps and over all steps,
    because a stream has logits from its first step. With every prefix, the many long ones would dominate.
    """
    import torch

    parameters = list(net.parameters())
    if net.training or any(parameter.dtype != torch.float32 for parameter in parameters):
        raise ConfigError("the network is in training mode or not float32; expected net.float().eval()")
    with torch.inference_mode(), hooked(_hooks(net, collect)):
        for row, record in enumerate(inputs):
            steps = record.shape[-1] if lengths is None else int(lengths[row])
            # One row at a time, cut to its length, in memory that torch aligned: the rounding of torch
            # depends on batch, padding and alignment, and the table must not.
            _run(net, torch.tensor(record[None, ..., :steps]), collect)


def _run(net: MultiresNet, x: torch.Tensor, collect: Collect) -> None:
    import torch.nn.functional as F

    if net.config.shifts:
        x = F.pad(x[..., :-1], (1, 0))
    features, pooling = net.features(x), net.config.pooled_by()
    if pooling is not None:
        features = _pooled_prefixes(pooling, features)
    collect(HEAD_INPUT, features[0].numpy())


def _pooled_prefixes(pooling: Pooling, features: torch.Tensor) -> torch.Tensor:
    """Features (1, d_model, time) pooled over their first 1, 2, 4, ... steps and all steps.

    Returns (1, d_head, prefixes).
    """
    import torch

    from multires_edge.models.pooling import POOLING_REFERENCES

    steps = features.shape[2]
    ends = [1 << k for k in range(steps.bit_length()) if 1 << k < steps] + [steps]
    pooled = [
        _means_of_prefixes(features[0], ends)[None]
        if part == CUMULATIVE
        else POOLING_REFERENCES[type(part)].stepwise(part, features)[..., torch.tensor(ends) - 1]
        for part in pooling.parts
    ]
    return torch.cat(pooled, 1)


def _means_of_prefixes(features: torch.Tensor, ends: list[int]) -> torch.Tensor:
    """Means of (channels, time) over the first steps up to each of ``ends``: (channels, prefixes)."""
    import torch

    parts = [
        features[:, start:end].sum(1, dtype=torch.float64)
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    sums = torch.stack(parts, 1).cumsum(1)
    return (sums / torch.tensor(ends)).float()


def _hooks(net: MultiresNet, collect: Collect) -> Iterator[tuple[torch.nn.Module, Hook]]:
    """Hooks that pass the inner tensors of the network to ``collect`` as it computes them."""

    def of_input(name: str) -> Hook:
        return lambda _, given, output: collect(name, given[0][0].numpy())

    def of_layer(i: int) -> Hook:
        def hook(layer: Any, given: tuple[torch.Tensor], output: torch.Tensor) -> None:
            # No queue holds the coarsest resolution, and zip() stops before it is computed.
            for j, a in zip(range(layer.depth), layer.resolutions(given[0]), strict=False):
                collect(queue(i, j), a[0].numpy())
            collect(mixing_input(i), output[0].numpy())

        return hook

    if net.config.encoder == "linear":
        yield net.encoder, of_input(ENCODER_INPUT)
    for i, layer in enumerate(net.seq_layers):
        yield layer, of_layer(i)
    if net.config.second_convolution:
        mixing: Any
        for i, mixing in enumerate(net.mixing_layers):
            yield mixing[-1], of_input(output_input(i))
