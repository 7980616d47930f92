"""Find the parts of a network that float16 can compute without an overflow that float32 does not have.

After a LayerNorm, values do not depend on the magnitude of the input. Before the first LayerNorm, and
everywhere in a network with BatchNorm, or with norms before the blocks, they do. So the network is run on
input that is far too large, as from a wrong gain or a torn electrode. A layer that comes near the largest
float16 stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from multires_edge.export.types import FLOAT16, FLOAT32, Type, TypePlan
from multires_edge.models.hooks import Hook, hooked

if TYPE_CHECKING:
    from torch import Tensor

    from multires_edge.models.network import MultiresNet

TOO_LARGE = 100  # the factor that makes the data too large
# Half of the largest float16: folded values and partial sums may be larger than the values that are checked.
LARGEST = float(np.finfo(np.float16).max) / 2


def plan_fp16(net: MultiresNet, inputs: Iterable[Tensor]) -> TypePlan:
    """The types of a network, by typical inputs (batch, d_input, time), or tokens (batch, time)."""
    largest = _largest_values(net, inputs)
    layers = tuple(_type(largest[f"layers.{i}"]) for i in range(net.config.n_layers))
    head = _type(largest["head"]) if net.config.per_step else FLOAT32
    return TypePlan(layers, _type(largest["encoder"]), head, FLOAT16)


def _type(largest: float) -> Type:
    return FLOAT16 if largest <= LARGEST else FLOAT32


def _largest_values(net: MultiresNet, inputs: Iterable[Tensor]) -> dict[str, float]:
    """The largest magnitude in each part, including its input and output."""
    import torch

    largest: dict[str, float] = {}

    def look(part: str, values: Iterable[Any]) -> None:
        for value in values:
            if torch.is_tensor(value) and value.is_floating_point() and value.numel():
                largest[part] = max(largest[part], float(value.abs().max()))

    def of(part: str) -> Hook:
        largest[part] = 0.0
        return lambda module, given, output: look(part, (*given, output))

    def of_queues(part: str) -> Hook:
        """Values at coarse scales of a layer may be far larger than its output."""
        # No graph computes the coarsest resolution: it is folded.
        return lambda layer, given, output: look(part, islice(layer.resolutions(given[0]), layer.depth))

    head = net.decoder if net.config.task == "autoregressive" else net.output_mapping
    hooks = [(net.encoder, of("encoder")), (head, of("head"))]
    blocks = zip(net.seq_layers, net.mixing_layers, net.norms, net.block_outputs, strict=True)
    for i, (layer, mixing, norm, output) in enumerate(blocks):
        hooks += [(module, of(f"layers.{i}")) for module in (layer, *mixing.children(), norm, output)]
        hooks.append((layer, of_queues(f"layers.{i}")))
    with torch.no_grad(), hooked(hooks):
        for x in inputs:
            net(x * TOO_LARGE if x.is_floating_point() else x)
    return largest
