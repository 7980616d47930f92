"""Find a network's weights in the content of a checkpoint, by the names of the tensors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multires_edge.base.errors import CheckpointError, ConfigError
from multires_edge.base.names import listed

if TYPE_CHECKING:
    from torch import Tensor

# A network is where these two tensors are. What stands before them is its prefix.
_MARK, _BESIDE = "seq_layers.0.h0", "seq_layers.0.w"
# Wrappers of torch.compile, FSDP and activation checkpoints add these anywhere in a name.
_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_TRAINING_ONLY = re.compile(
    r"(?:criterion|loss|metric)\w*\..*|(?:.*\.)?(?:n_averaged|total_ops|total_params)"
)
_WEIGHT_NORM = (
    (
        re.compile(r"(?P<at>(?:.*\.)?)parametrizations\.(?P<name>\w+)\.original0"),
        "{at}parametrizations.{name}.original1",
    ),
    (re.compile(r"(?P<at>(?:.*\.)?)(?P<name>\w+)_g"), "{at}{name}_v"),
)
_FILTER_OF_SCALE = re.compile(r"(?P<name>(?:.*\.)?seq_layers\.\d+\.h[01])\.(?P<scale>\d{1,2})")
_DEEPEST = 8  # dictionaries in dictionaries


@dataclass(frozen=True)
class Weights:
    """The tensors of one network by their published names; ``name`` says where in the checkpoint."""

    name: str
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]


def find_weights(path: Path, content: Any, chosen: str | None = None) -> Weights:
    """The weights in a checkpoint, those named ``chosen`` if there are several networks.

    Tensors outside the network are left out with a warning. Raises CheckpointError if there is no network,
    ConfigError if ``chosen`` is unknown or must be given.
    """
    found: list[Weights] = []
    for place, tensors in dictionaries_of_tensors(content, ()):
        here: list[Weights] = []
        for weights in _networks(path, place, tensors):
            if not any(_are_same(weights, other) for other in here):
                here.append(weights)
        found += here  # equal weights in another dictionary may have another history: the user chooses
    if not found:
        raise CheckpointError(f"{path}: {_what_is_there(content)}")
    names = [weights.name for weights in found]
    if chosen is None:
        if len(found) > 1:
            raise ConfigError(
                f"{path}: has {len(found)} networks: {listed(names, 8)}; choose one with --weights NAME"
            )
        chosen = names[0]
    if chosen not in names:
        raise ConfigError(f"{path}: has no weights {chosen!r}, expected one of: {listed(names, 8)}")
    weights = found[names.index(chosen)]
    if weights.left_out:
        warnings.warn(
            f"{path}: tensors that are not of the network were left out: {listed(weights.left_out)}",
            stacklevel=3,
        )
    return weights


def without_wrappers(name: str) -> str:
    """The name of a tensor without what torch.compile, FSDP and activation checkpoints put into it."""
    return _WRAPPERS.sub("", name)


def dictionaries_of_tensors(
    content: Any, place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """The named tensors of each dictionary in a checkpoint, with the keys that lead there."""
    import torch

    if len(place) > _DEEPEST:
        return
    if isinstance(content, list | tuple):
        content = {str(i): item for i, item in enumerate(content)}
    if not isinstance(content, dict):
        return
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if named := {key: tensor.detach() for key, tensor in tensors.items() if isinstance(key, str)}:
        yield place, named
    for key, value in content.items():
        if isinstance(key, str):
            yield from dictionaries_of_tensors(value, (*place, *([key] if key else [])))


def _networks(path: Path, place: tuple[str, ...], tensors: dict[str, Tensor]) -> Iterator[Weights]:
    """The networks in one dictionary, each with its own prefix."""
    plain: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = without_wrappers(key)
        if name in plain:
            raise CheckpointError(f"{path}: {key} is there with and without the prefix of a wrapper")
        plain[name] = tensor
    plain = _stacked(_without_weight_norm(plain))
    for mark in [name for name in plain if f".{name}".endswith(f".{_MARK}")]:
        prefix = mark.removesuffix(_MARK)
        if prefix + _BESIDE not in plain:
            continue
        inside = {
            name.removeprefix(prefix): tensor for name, tensor in plain.items() if name.startswith(prefix)
        }
        training = {name for name in inside if _TRAINING_ONLY.fullmatch(name)}
        outside = [name for name in plain if not name.startswith(prefix)]
        yield Weights(
            ".".join([*place, *prefix.split(".")[:-1]]) or ".",
            {name: tensor for name, tensor in inside.items() if name not in training},
            (*outside, *sorted(prefix + name for name in training)),
        )


def _stacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Filters that a ParameterList has for each scale, as one tensor with the scale in front."""
    import torch

    lists: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _FILTER_OF_SCALE.fullmatch(name):
            lists.setdefault(match["name"], {})[int(match["scale"])] = tensor
    whole = dict(tensors)
    for name, each in lists.items():
        parts = [each[j] for j in sorted(each)]
        if name in whole or sorted(each) != list(range(len(parts))) or len({p.shape for p in parts}) > 1:
            continue  # the loader names what is missing
        for j in each:
            del whole[f"{name}.{j}"]
        whole[name] = torch.stack(parts)
    return whole


def _without_weight_norm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold magnitudes and directions to weights, in both notations of torch."""
    import torch

    folded = dict(tensors)
    for magnitude, direction in _WEIGHT_NORM:
        for key, g in tensors.items():
            if (match := magnitude.fullmatch(key)) is None:
                continue
            other = direction.format(**match.groupdict())
            v = tensors.get(other)
            if v is None or not v.is_floating_point() or g.dim() not in (0, v.dim()):
                continue
            # The magnitude has one value for each slice that has a norm of its own.
            over = [axis for axis in range(v.dim()) if g.dim() == 0 or g.shape[axis] == 1]
            if not over:
                continue
            norm = torch.linalg.vector_norm(v, dim=over, keepdim=True)
            folded[match["at"] + match["name"]] = g * v / norm
            del folded[key], folded[other]
    return folded


def _are_same(a: Weights, b: Weights) -> bool:
    """Whether a dictionary has one network under two names, as of a module that two attributes hold."""
    import torch

    def same(x: Tensor, y: Tensor) -> bool:
        return x.dtype == y.dtype and x.layout == y.layout and torch.equal(x, y)

    return a.tensors.keys() == b.tensors.keys() and all(
        same(tensor, b.tensors[name]) for name, tensor in a.tensors.items()
    )


def _what_is_there(content: Any) -> str:
    """Why there is no network in the content of a checkpoint."""
    some = next(dictionaries_of_tensors(content, ()), None)
    if some is None:
        return (
            f"contains a {type(content).__name__} without named tensors, expected a state dict, or a dict "
            "with a state dict in it"
        )
    return (
        f"not a complete MultiresNet checkpoint, it has no tensor {_MARK} with its {_BESIDE}; its tensors "
        f"are {listed(sorted(some[1]))}"
    )
