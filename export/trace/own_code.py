"""``--module package.file:build``: import the user's code on the user's word, and load a checkpoint."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from multires_edge.base.errors import CheckpointError, ConfigError, ModuleError
from multires_edge.base.names import listed
from multires_edge.format.fields import shortened
from multires_edge.models.containers import read_content
from multires_edge.models.weights import dictionaries_of_tensors, without_wrappers

Tensors = dict[str, torch.Tensor]

_NAME = re.compile(r"(?P<module>\w+(?:\.\w+)*):(?P<function>\w+)")
_COUNTERS = re.compile(r".*num_batches_tracked|.*n_averaged")  # no output depends on them


def build_module(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Import ``package.file:function`` and call it; modules are looked for in the current folder too.

    The function returns the network and an example of its inputs, or a network that has
    ``example_input_array``, as Lightning calls it. Raises ConfigError or ModuleError.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"--module is {name!r}, expected package.file:function, such as my_net:build")
    sys.path.insert(0, str(Path.cwd()))
    try:
        built = getattr(importlib.import_module(match["module"]), match["function"])()
    except Exception as error:  # whatever the user's code raises
        what = f"{type(error).__name__}: {shortened(str(error))}"
        raise ModuleError(f"--module {name} failed: {what}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    net, example = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if not isinstance(net, nn.Module):
        raise ModuleError(f"--module {name} returned a {type(net).__name__}, expected a torch.nn.Module")
    if example is None:
        example = getattr(net, "example_input_array", None)
    if isinstance(example, torch.Tensor):
        example = (example,)
    if not isinstance(example, Sequence) or not all(isinstance(each, torch.Tensor) for each in example):
        raise ModuleError(
            f"--module {name} returned no example of the inputs: return (network, example), where the "
            "example is a tensor or a tuple of tensors"
        )
    return net.eval(), tuple(example)


def load_weights(net: nn.Module, path: Path, chosen: str | None = None) -> None:
    """Load the tensors that a module needs from a checkpoint, by their names behind any prefix.

    ``chosen`` names one of several networks. Nothing in the file is run. Raises CheckpointError, ConfigError.
    """
    wanted = {name: tensor for name, tensor in net.state_dict().items() if isinstance(tensor, torch.Tensor)}
    needed = {name for name in wanted if not _COUNTERS.fullmatch(name)}
    if not needed:
        raise ModuleError("the module has no parameters, so a checkpoint has nothing for it")
    content = read_content(path)
    found: dict[str, Tensors] = {}
    nearest, missing = "", sorted(needed)
    for place, tensors in dictionaries_of_tensors(content, ()):
        plain = {without_wrappers(name): tensor for name, tensor in tensors.items()}
        for prefix in _prefixes(plain, needed):
            own = {name: plain[prefix + name] for name in wanted if prefix + name in plain}
            at = ".".join([*place, *prefix.split(".")[:-1]]) or "."
            lacking = sorted(needed - own.keys())
            if lacking and len(lacking) < len(missing):
                nearest, missing = at, lacking
            if not lacking and not any(_equal(own, other) for other in found.values()):
                found[at] = own
    if not found:
        where = f"the nearest is {nearest}, which lacks" if nearest else "it lacks"
        raise CheckpointError(f"{path}: has no weights for the module; {where} {listed(missing, 6)}")
    names = list(found)
    if chosen is None and len(names) > 1:
        raise ConfigError(f"{path}: has several: {listed(names, 8)}; choose one with --weights NAME")
    if chosen is not None and chosen not in found:
        raise ConfigError(f"{path}: has no weights {chosen!r}, expected one of: {listed(names, 8)}")
    own = found[chosen or names[0]]
    for name, tensor in own.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, and in the module "
                f"{tuple(wanted[name].shape)}"
            )
    net.load_state_dict({**wanted, **own})


def _prefixes(tensors: Tensors, needed: set[str]) -> Iterator[str]:
    """What stands before the first name that the module needs, wherever it is."""
    mark = min(needed, key=lambda name: (-len(name), name))
    for name in tensors:
        if f".{name}".endswith(f".{mark}"):
            yield name.removesuffix(mark)


def _equal(a: Tensors, b: Tensors) -> bool:
    return all(a[name].shape == b[name].shape and torch.equal(a[name], b[name]) for name in a if name in b)
