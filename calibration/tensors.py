"""The logical tensors of a network, which int8 quantizes. Their names belong to the model, not to a graph.

| name | tensor |
| --- | --- |
| ``encoder.input`` | the samples (linear encoders only), shifted by one step for autoregressive networks |
| ``layers.{i}.mixing.input`` | GELU(multires(x)): the input of the 1x1 convolution before GLU |
| ``layers.{i}.output.input`` | the input of the 1x1 convolution after GLU (autoregressive networks only) |
| ``layers.{i}.queues.{j}`` | a_j, the content of queue j: a_0 is the layer's input, a_{j+1} low-passes a_j |
| ``head.input`` | the input of the head: pooled features, or the features of each step |

Folding BatchNorm changes weights and none of these tensors. Every channel has its own scale, because
magnitudes differ strongly between channels. The scale is folded into the weights that read the channel, so
it costs one elementwise product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError
from multires_edge.format.config import ModelConfig

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


@dataclass(frozen=True)
class LogicalTensor:
    """A tensor and its number of channels. Each channel has its own threshold."""

    name: str
    channels: int


def logical_tensors(config: ModelConfig) -> list[LogicalTensor]:
    """The logical tensors of a network, in the order in which it computes them."""
    tensors = []
    if config.encoder == "linear":
        assert config.d_input is not None
        tensors.append(LogicalTensor(ENCODER_INPUT, config.d_input))
    for i in range(config.n_layers):
        tensors += [LogicalTensor(queue(i, j), config.d_model) for j in range(config.depth)]
        tensors.append(LogicalTensor(mixing_input(i), config.d_model))
        if config.task == "autoregressive":
            tensors.append(LogicalTensor(output_input(i), config.d_model))
    return [*tensors, LogicalTensor(HEAD_INPUT, config.d_model)]


def observe(
    net: MultiresNet, inputs: NDArray[Any], lengths: NDArray[np.int64] | None, collect: Collect
) -> None:
    """Run the network and pass each logical tensor to ``collect(name, values)``.

    ``inputs`` float32 (n, d_input, time) or tokens int64 (n, time); ``values`` float32 (channels, m),
    only valid during the call. Steps beyond a row's length are padding and ignored. For the head of a
    classifier the values are the means over the first 1, 2, 4, 8, ... steps and over all steps, because
    a stream has logits from its first step. With every prefix, the many long ones would dominate.
    """
    import torch

    parameters = list(net.parameters())
    if net.training or any(parameter.dtype != torch.float32 for parameter in parameters):
        raise ConfigError("the network is in training mode or not float32; expected net.float().eval()")
    with torch.inference_mode(), _watching(net, collect):
        for row, record in enumerate(inputs):
            steps = record.shape[-1] if lengths is None else int(lengths[row])
            # One row at a time, cut to its length, in memory that torch aligned: the rounding of torch
            # depends on batch, padding and alignment, and the table must not.
            _run(net, torch.tensor(record[None, ..., :steps]), collect)


def _run(net: MultiresNet, x: torch.Tensor, collect: Collect) -> None:
    import torch.nn.functional as F

    autoregressive = net.config.task == "autoregressive"
    if autoregressive:
        x = F.pad(x[..., :-1], (1, 0))
    features = net.features(x)[0]
    collect(HEAD_INPUT, (features if autoregressive else _means_of_prefixes(features)).numpy())


def _means_of_prefixes(features: torch.Tensor) -> torch.Tensor:
    """Means of (channels, time) over the first 1, 2, 4, ... steps and all steps: (channels, prefixes)."""
    import torch

    steps = features.shape[1]
    ends = [1 << k for k in range(steps.bit_length()) if 1 << k < steps] + [steps]
    parts = [
        features[:, start:end].sum(1, dtype=torch.float64)
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    sums = torch.stack(parts, 1).cumsum(1)
    return (sums / torch.tensor(ends)).float()


@contextmanager
def _watching(net: MultiresNet, collect: Collect) -> Iterator[None]:
    """Pass the inner tensors of the network to ``collect`` as it computes them."""

    def values(tensor: torch.Tensor) -> NDArray[np.float32]:
        array: NDArray[np.float32] = tensor[0].numpy()
        return array

    def watch_input(module: torch.nn.Module, name: str) -> Any:
        return module.register_forward_pre_hook(lambda _, args: collect(name, values(args[0])))

    def watch_layer(i: int) -> Any:
        layer: Any = net.seq_layers[i]

        def hook(_: torch.nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
            # No queue holds the coarsest resolution, and zip() stops before it is computed.
            for j, a in zip(range(layer.depth), layer.resolutions(args[0]), strict=False):
                collect(queue(i, j), values(a))
            collect(mixing_input(i), values(output))

        return layer.register_forward_hook(hook)

    hooks = [watch_layer(i) for i in range(net.config.n_layers)]
    if net.config.encoder == "linear":
        hooks.append(watch_input(net.encoder, ENCODER_INPUT))
    if net.config.task == "autoregressive":
        mixing: Any
        for i, mixing in enumerate(net.mixing_layers):
            hooks.append(watch_input(mixing[-1], output_input(i)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
