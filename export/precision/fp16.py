"""Which parts of a network may be computed in float16 without overflow where float32 has none.

Behind a LayerNorm nothing depends on how large the input is; in front of the first one, and in a network
with BatchNorm everywhere, it does. So the network is run on input that is far too large, as of a wrong
gain or a torn electrode, and a layer that comes near float16's largest number stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from multires_edge.export.precision.types import FLOAT16, FLOAT32, Type, TypePlan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multires_edge.models.multires import MultiresLayer
    from multires_edge.models.network import MultiresNet

TOO_LARGE = 100  # the factor by which the data are made too large
# Half of what float16 holds: folding and partial sums may be somewhat larger than what is looked at.
_LIMIT = float(np.finfo(np.float16).max) / 2


def plan_fp16(net: MultiresNet, inputs: Iterable[Tensor]) -> TypePlan:
    """Types for a network, from typical inputs (batch, d_input, time), or tokens (batch, time)."""
    largest = _largest_values(net, inputs)
    layers = tuple(_type(largest[f"layers.{i}"]) for i in range(net.config.n_layers))
    head = _type(largest["head"]) if net.config.task == "autoregressive" else FLOAT32
    return TypePlan(layers, _type(largest["encoder"]), head, FLOAT16)


def _type(largest: float) -> Type:
    return FLOAT16 if largest <= _LIMIT else FLOAT32


def _largest_values(net: MultiresNet, inputs: Iterable[Tensor]) -> dict[str, float]:
    """The largest magnitude within each part, its input and output included."""
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
        """What a layer makes of its input at coarse scales may be far larger than what comes out."""

        def look(_: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            # The coarsest resolution is in no graph: it is folded away.
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
