"""Find the parts of a network that float16 can compute without an overflow that float32 does not have.

After a LayerNorm, values do not depend on the magnitude of the input. Before the first LayerNorm, and
everywhere in a network with BatchNorm, they do. So the network is run on input that is far too large, as
from a wrong gain or a torn electrode. A layer that comes near the largest float16 stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from multires_edge.export.types import FLOAT16, FLOAT32, Type, TypePlan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multires_edge.models.multires import MultiresLayer
    from multires_edge.models.network import MultiresNet

TOO_LARGE = 100  # the factor that makes the data too large
# Half of the largest float16: folded values and partial sums may be larger than the values that are checked.
_LIMIT = float(np.finfo(np.float16).max) / 2


def plan_fp16(net: MultiresNet, inputs: Iterable[Tensor]) -> TypePlan:
    """The types of a network, by typical inputs (batch, d_input, time), or tokens (batch, time)."""
    largest = _largest_values(net, inputs)
    layers = tuple(_type(largest[f"layers.{i}"]) for i in range(net.config.n_layers))
    head = _type(largest["head"]) if net.config.task == "autoregressive" else FLOAT32
    return TypePlan(layers, _type(largest["encoder"]), head, FLOAT16)


def _type(largest: float) -> Type:
    return FLOAT16 if largest <= _LIMIT else FLOAT32


def _largest_values(net: MultiresNet, inputs: Iterable[Tensor]) -> dict[str, float]:
    """The largest magnitude in each part, including its input and output."""
    import torch

    largest: dict[str, float] = {}
    hooks = []

    def watch(module: nn.Module, part: str) -> None:
        largest[part] = 0.0

        def look(_: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            for value in (*given, output):
                if torch.is_tensor(value) and value.is_floating_point() and value.numel():
                    largest[part] = max(largest[part], float(value.abs().max()))

        hooks.append(module.register_forward_hook(look))

    def watch_queues(layer: MultiresLayer, part: str) -> None:
        """Values at coarse scales of a layer may be far larger than its output."""

        def look(_: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            # No graph computes the coarsest resolution: it is folded.
            for _scale, a in zip(range(layer.depth), layer.resolutions(given[0]), strict=False):
                largest[part] = max(largest[part], float(a.abs().max()))

        hooks.append(layer.register_forward_hook(look))

    watch(net.encoder, "encoder")
    watch(net.decoder if net.config.task == "autoregressive" else net.output_mapping, "head")
    for i, (layer, mixing, norm) in enumerate(zip(net.seq_layers, net.mixing_layers, net.norms, strict=True)):
        for module in (layer, *mixing.children(), norm):
            watch(module, f"layers.{i}")
        watch_queues(cast("MultiresLayer", layer), f"layers.{i}")
    try:
        with torch.no_grad():
            for x in inputs:
                net(x * TOO_LARGE if x.is_floating_point() else x)
    finally:
        for hook in hooks:
            hook.remove()
    return largest
