"""Bring tensors of equivalent layers to the published names and shapes.

A Linear layer over the channels and a convolution with one tap are the same function, and filters that all
channels share are equal filters of each channel.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from multires_edge.base.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from multires_edge.format.config import ModelConfig

_MIXING = re.compile(r"^mixing_layers\.(?P<layer>\d+)\.(?P<place>\d{1,2}\.)?(?P<part>weight|bias)$")
_FILTERS = re.compile(r"seq_layers\.\d+\.h[01]")
_CONVOLUTIONS = re.compile(r"mixing_layers\.\d+\.[03]|decoder")


def in_published_form(path: Path, tensors: dict[str, Tensor], encoder: str | None) -> dict[str, Tensor]:
    """The tensors of a network with its Linear layers as convolutions, and zeros for biases it lacks.

    ``encoder`` is "linear" or "token" if the user said it. Raises ConfigError where only the user can know.
    """
    found = dict(tensors)
    _filters(found)
    found = _mixing(found)
    _encoder(path, found, encoder)
    for name in [name.removesuffix(".weight") for name in found if name.endswith(".weight")]:
        weight = found[f"{name}.weight"]
        if _CONVOLUTIONS.fullmatch(name):
            if weight.dim() == 2:
                weight = weight[..., None]
        elif name == "output_mapping":
            if weight.dim() == 3 and weight.shape[-1] == 1:
                weight = weight[..., 0]
        else:
            continue
        found[f"{name}.weight"] = weight
        _with_bias(found, name)
    return found


def _filters(found: dict[str, Tensor]) -> None:
    """Filters that all channels share, for each channel."""
    for name in [name for name in found if _FILTERS.fullmatch(name)]:
        filters, memory = found[name], found.get(name[: -len("h0")] + "w")
        shared = filters.dim() in (3, 4) and filters.shape[-3] == 1
        if shared and memory is not None and memory.dim() == 2:
            found[name] = filters.expand(*filters.shape[:-3], memory.shape[0], *filters.shape[-2:]).clone()


def with_published_head(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors with the head's name in a network that pools, in which others call it a decoder too."""
    if config.per_step or "decoder.weight" not in tensors:
        return tensors
    renamed = {name.replace("decoder.", "output_mapping."): tensor for name, tensor in tensors.items()}
    weight = renamed["output_mapping.weight"]
    return renamed | {"output_mapping.weight": weight[..., 0]}


def _mixing(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the first and the second convolution of the mixing under their published names.

    The number in a name is the place in a Sequential, which depends on what else is in it.
    """
    places: dict[str, set[str]] = {}
    for name in found:
        if match := _MIXING.fullmatch(name):
            places.setdefault(match["layer"], set()).add(match["place"] or "0.")

    def published(match: re.Match[str]) -> str:
        order = sorted(places[match["layer"]], key=lambda place: int(place[:-1]))
        index = order.index(match["place"] or "0.")
        return f"mixing_layers.{match['layer']}.{('0', '3')[index]}.{match['part']}"

    few = all(len(each) <= 2 for each in places.values())
    return {_MIXING.sub(published, name) if few else name: tensor for name, tensor in found.items()}


def _encoder(path: Path, found: dict[str, Tensor], encoder: str | None) -> None:
    weight, filters = found.get("encoder.weight"), found.get("seq_layers.0.h0")
    if weight is None or filters is None or filters.dim() == 0:
        return
    if weight.dim() == 2:
        d_model = filters.shape[-3] if filters.dim() > 2 else 0
        is_linear, is_table = weight.shape[0] == d_model, weight.shape[1] == d_model
        if "encoder.bias" in found:  # a table of tokens has none
            is_table = False
        elif is_linear and is_table and encoder is None:
            raise ConfigError(
                f"{path}: encoder.weight {tuple(weight.shape)} may be a table of tokens or a Linear layer: "
                "give --encoder token or --encoder linear"
            )
        if not is_linear or (is_table and encoder != "linear"):
            return
        found["encoder.weight"] = weight[..., None]
    if found["encoder.weight"].dim() == 3:
        _with_bias(found, "encoder")


def _with_bias(found: dict[str, Tensor], name: str) -> None:
    weight = found[f"{name}.weight"]
    if f"{name}.bias" not in found and weight.dim() > 0:
        found[f"{name}.bias"] = weight.new_zeros(weight.shape[0])
