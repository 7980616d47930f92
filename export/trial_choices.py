"""What a checkpoint leaves open about its network: the values of each part, the most usual first."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError
from multires_edge.format.config import ACTIVATIONS, MAX_DEPTH, depth_for_length
from multires_edge.format.pooling import NO_POOLING, POOLINGS
from multires_edge.models.block_inference import names_of_norm
from multires_edge.models.block_options import BLOCK_PARTS
from multires_edge.models.checkpoint import Checkpoint
from multires_edge.models.inference import Inferred, Overrides, infer_config, stated_fields
from multires_edge.models.norms import norm_of

# Those of other programs.
EPSILONS = (1e-5, 1e-6, 1e-8, 1e-3, 1e-12, float(np.finfo(np.float32).eps))
GROUPS = (8, 4, 32, 16, 2, 64)
# Functions that nearly equal a usual one.
CLOSE_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu6"}
SUM_TOLERANCE = 1e-3  # of the sum of probabilities

# The options that make up a network, by the names of the fields of Overrides and of the parts of a block.
Options = Mapping[str, Any]
NOTHING: tuple[Options, ...] = ({},)  # the only value of a part that is said


@dataclass(frozen=True)
class Choices:
    """The options that neither the checkpoint nor the user says.

    ``body`` has, for each part that the features depend on, its values as options. ``heads`` are the options
    of what follows the features.
    """

    body: tuple[tuple[Options, ...], ...]
    heads: tuple[Options, ...]

    def rounds(self) -> Iterator[list[Options]]:
        """All combinations of the parts of the body. Those of a round have the same sum of places."""
        places = itertools.product(*(range(len(values)) for values in self.body))
        for _, equal in itertools.groupby(sorted(places, key=sum), sum):
            parts = ([values[i] for i, values in zip(each, self.body, strict=True)] for each in equal)
            yield [dict(itertools.chain.from_iterable(part.items() for part in each)) for each in parts]

    def bodies(self) -> list[Options]:
        """All combinations of the parts of the body, in the order of the rounds."""
        return list(itertools.chain.from_iterable(self.rounds()))


def choices_of(
    checkpoint: Checkpoint,
    overrides: Overrides,
    *,
    per_step: bool,
    steps: int = 2,
    outputs: NDArray[Any] | None = None,
) -> Choices:
    """The choices for a checkpoint with an encoder, layers and a head.

    ``per_step`` says whether the network has an output at every step. ``steps`` is the length of its records,
    ``outputs`` are what it gives for them.
    """
    said = stated_fields(checkpoint, overrides)
    if said.get("norm", norm_of(names_of_norm(checkpoint))) == "none":
        said = {**said, "norm_place": None, "norm_eps": None}  # without a norm, neither exists
    body = (
        _trees(checkpoint, overrides, said, steps),
        _norms(checkpoint, said),
        _values(said, "norm_place", ("after", "before")),
        _values(said, "norm_eps", EPSILONS[:1]),
        _values(said, "activation", [name for name in ACTIVATIONS if name not in CLOSE_ACTIVATIONS.values()]),
        _shifts(checkpoint, said) if per_step else NOTHING,
    )
    poolings = _values(said, "pool", [NO_POOLING] if per_step else _poolings(checkpoint))
    activations = _values(said, "output_activation", _output_activations(outputs))
    return Choices(body, tuple({**pool, **activation} for pool in poolings for activation in activations))


def close_bodies(body: Options) -> list[Options]:
    """Networks with nearly the outputs of ``body``: with another epsilon, or a function like its own."""
    epsilons = EPSILONS if "norm_eps" in body else ()
    activation = body.get("activation")
    activations = [activation, CLOSE_ACTIVATIONS.get(activation, activation)] if activation else []
    each = itertools.product(
        [{"norm_eps": epsilon} for epsilon in epsilons] or NOTHING,
        [{"activation": activation} for activation in dict.fromkeys(activations)] or NOTHING,
    )
    close = [{**body, **epsilon, **activation} for epsilon, activation in each]
    return [network for network in close if network != body]


def with_options(overrides: Overrides, options: Options) -> Overrides:
    """The overrides with further options."""
    block = {name: value for name, value in options.items() if name in BLOCK_PARTS}
    others = {name: value for name, value in options.items() if name not in BLOCK_PARTS}
    return replace(overrides, **others, block={**overrides.block, **block})


def described_options(options: Options) -> str:
    """The options of a network for a message."""
    texts = []
    if "tree_select" in options:
        depth = f" of depth {options['depth']}" if "depth" in options else ""
        texts.append(f"a {options['tree_select']} tree{depth}")
    block = [f"{name} {options[name]}" for name in BLOCK_PARTS if options.get(name) is not None]
    if block:
        texts.append(f"blocks with {', '.join(block)}")
    for name, text in (("pool", "pooling by"), ("output_activation", "outputs through a")):
        if options.get(name) is not None:
            texts.append(f"{text} {options[name]}")
    if "shifted" in options:
        texts.append(f"inputs {'' if options['shifted'] else 'not '}shifted by one step")
    return ", ".join(texts) or "what was said"


def _values(said: Options, name: str, values: Iterable[Any]) -> tuple[Options, ...]:
    return NOTHING if name in said else tuple({name: value} for value in values)


def _trees(checkpoint: Checkpoint, overrides: Overrides, said: Options, steps: int) -> tuple[Options, ...]:
    """The trees. Records are usually as long as in training, which decides the depth of a uniform tree."""
    if said.get("tree_select") == "fading":
        return NOTHING
    fading = () if "tree_select" in said else ({"tree_select": "fading"},)
    uniform: Options = {"tree_select": "uniform"}
    if quiet_config(checkpoint, with_options(overrides, uniform)) is not None:
        return (*fading, uniform)
    kernel_size = checkpoint.tensors["seq_layers.0.h0"].shape[-1]
    usual = depth_for_length(max(steps, 2), kernel_size)
    depths = sorted(range(1, min(usual + 2, MAX_DEPTH) + 1), key=lambda depth: abs(depth - usual))
    return (*fading, *({**uniform, "depth": depth} for depth in depths))


def _norms(checkpoint: Checkpoint, said: Options) -> tuple[Options, ...]:
    names, d_model = names_of_norm(checkpoint), checkpoint.tensors["seq_layers.0.w"].shape[0]
    found = said.get("norm", norm_of(names))
    if found not in ("layer", "rms", "group"):
        return NOTHING
    # A norm of one channel would be a constant.
    groups = [size for size in GROUPS if d_model % size == 0 and size < d_model]
    grouped = tuple({"norm": "group", "norm_groups": size} for size in groups)
    if "norm" in said:
        return grouped if found == "group" and "norm_groups" not in said else NOTHING
    # LayerNorm and GroupNorm may also be without a bias, as RMSNorm is.
    without_groups = ("layer",) if "bias" in names else ("rms", "layer")
    return (*({"norm": norm} for norm in without_groups), *grouped)


def _shifts(checkpoint: Checkpoint, said: Options) -> tuple[Options, ...]:
    published = "decoder.weight" in checkpoint.tensors  # an autoregressive network
    return _values(said, "shifted", (published, not published))


def _poolings(checkpoint: Checkpoint) -> list[str]:
    """Those of as many kinds as the head reads, in every order."""
    head = checkpoint.tensors.get("output_mapping.weight", checkpoint.tensors.get("decoder.weight"))
    d_model = checkpoint.tensors["seq_layers.0.w"].shape[0]
    count, rest = divmod(0 if head is None else head.shape[1], d_model)
    kinds = dict.fromkeys(pooling.of_kind for pooling in POOLINGS.values())
    return [] if rest else ["+".join(several) for several in itertools.permutations(kinds, count)]


def _output_activations(outputs: NDArray[Any] | None) -> list[str | None]:
    """No function, and those that give values such as the outputs."""
    if outputs is None or outputs.min() < 0 or outputs.max() > 1:
        return [None]
    sums = outputs.sum(1, dtype=np.float64)
    are_shares = outputs.shape[1] > 1 and bool(np.abs(sums - 1).max() < SUM_TOLERANCE)
    return ["softmax", None] if are_shares else ["sigmoid", None]


def quiet_config(checkpoint: Checkpoint, overrides: Overrides) -> Inferred | None:
    """What is inferred of a checkpoint, without warnings; None if an option is missing or does not fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return infer_config(checkpoint, overrides)
        except ConfigError:
            return None
