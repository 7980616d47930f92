"""The logical tensors of a network: what is quantised, by names that belong to the model, not to a graph.

| name | what |
| --- | --- |
| ``encoder.input`` | the samples (linear encoders only), shifted by one step for autoregressive networks |
| ``layers.{i}.mixing.input`` | GELU(multires(x)): what the 1x1 convolution in front of GLU reads |
| ``layers.{i}.output.input`` | what the 1x1 convolution behind GLU reads (autoregressive networks only) |
| ``layers.{i}.queues.{j}`` | a_j, what queue j holds: a_0 is the layer's input, a_{j+1} the low-pass of a_j |
| ``head.input`` | what the head reads: pooled features, or the features of each step |

Folding BatchNorm changes weights and none of these. Every channel has a scale of its own: it is folded
into the weights that read the channel, so it costs one product elementwise, and channels differ by far.
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
    """Name of what the 1x1 convolution in front of GLU reads."""
    return f"layers.{layer}.mixing.input"


def output_input(layer: int) -> str:
    """Name of what the 1x1 convolution behind GLU reads."""
    return f"layers.{layer}.output.input"


def queue(layer: int, scale: int) -> str:
    """Name of what a layer's queue of dilation 2^scale holds."""
    return f"layers.{layer}.queues.{scale}"


@dataclass(frozen=True)
class LogicalTensor:
    """A tensor and its number of channels, each of which has a threshold of its own."""

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
    """Run the network and hand each logical tensor to ``collect(name, values)``.

    ``inputs`` float32 (n, d_input, time) or tokens int64 (n, time); ``values`` float32 (channels, m),
    only valid during the call. Steps past a row's length are padding and not seen. The head of a
    classifier is given the means over the first 1, 2, 4, 8, ... steps and over all of them: a stream
    has logits from its first step on, and every prefix would let the long, calm ones drown the rest.
    """
    import torch

    parameters = list(net.parameters())
    if net.training or any(parameter.dtype != torch.float32 for parameter in parameters):
        raise ConfigError("the network is in training mode or not float32; expected net.float().eval()")
    with torch.inference_mode(), _watching(net, collect):
        for row, record in enumerate(inputs):
            steps = record.shape[-1] if lengths is None else int(lengths[row])
            # One row at a time, cut to its length, in memory of torch's own alignment: torch rounds
            # otherwise in another batch or beside padding, and the last bit would depend on them.
            _run(net, torch.tensor(record[None, ..., :steps]), collect)


def _run(net: MultiresNet, x: torch.Tensor, collect: Collect) -> None:
    import torch.nn.functional as F

    autoregressive = net.config.task == "autoregressive"
    if autoregressive:
        x = F.pad(x[..., :-1], (1, 0))
    features = net.features(x)[0]
    collect(HEAD_INPUT, (features if autoregressive else _means_of_prefixes(features)).numpy())


def _means_of_prefixes(features: torch.Tensor) -> torch.Tensor:
    """Means of (channels, time) over the first 1, 2, 4, ... and over all steps: (channels, prefixes)."""
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
    """Hand over what the network computes inside, as it computes it."""

    def values(tensor: torch.Tensor) -> NDArray[np.float32]:
        array: NDArray[np.float32] = tensor[0].numpy()
        return array

    def watch_input(module: torch.nn.Module, name: str) -> Any:
        return module.register_forward_pre_hook(lambda _, args: collect(name, values(args[0])))

    def watch_layer(i: int) -> Any:
        layer: Any = net.seq_layers[i]

        def hook(_: torch.nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
            # The coarsest resolution is no queue's, and zip() stops before it is computed.
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
