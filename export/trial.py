"""Find the network by trial: the block, pooling and shift that give the outputs of the user's own network.

Only what neither shapes nor options say is tried, in float64 on a few records.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from multires_edge.base.errors import MultiresError
from multires_edge.format.comparison import LIMITS
from multires_edge.format.config import ACTIVATIONS, ModelConfig
from multires_edge.models.block_inference import names_of_norm, open_parts
from multires_edge.models.block_options import described
from multires_edge.models.checkpoint import Checkpoint
from multires_edge.models.inference import Inferred
from multires_edge.models.loading import build_network
from multires_edge.runtime.evaluation.dataset import Dataset

# Those of other programs, the most usual first.
EPSILONS = (1e-5, 1e-6, 1e-8, 1e-3, 1e-12, float(np.finfo(np.float32).eps))
GROUPS = (2, 4, 8, 16, 32, 64)
_POOLINGS = ("max", "last")
_RECORDS = 2


@dataclass(frozen=True)
class _Tried:
    config: ModelConfig
    error: float


def find_network(
    checkpoint: Checkpoint,
    inferred: Inferred,
    stated: Mapping[str, Any],
    dataset: Dataset,
    progress: Callable[[str], None] = lambda _: None,
) -> Inferred:
    """The configuration that gives ``dataset.outputs``, if what was inferred does not and another does.

    ``stated`` are the fields of the configuration that options say.

    If none does, the result is what was inferred, and a warning names the nearest with its error.
    """
    limit = LIMITS["fp32"].value
    best = _Tried(inferred.config, _error(checkpoint, inferred.config, dataset))
    if best.error <= limit:
        return inferred
    for config in _candidates(checkpoint, inferred.config, stated):
        progress("finding the network by your outputs")
        tried = _Tried(config, _error(checkpoint, config, dataset))
        best = min(best, tried, key=lambda each: each.error)
        if best.error <= limit:
            break
    else:
        # The epsilon changes little: it is refined for the nearest block only.
        if "norm_eps" in open_parts(best.config, stated):
            others = [replace(best.config, norm_eps=epsilon) for epsilon in EPSILONS]
            each = [_Tried(config, _error(checkpoint, config, dataset)) for config in others]
            best = min(best, *each, key=lambda tried: tried.error)
    parts = [name for name in open_parts(best.config, stated) if name != "norm_groups"]
    if best.config.norm == "group":
        parts.insert(1, "norm_groups")
    block = f"blocks with {described(best.config, tuple(parts))}"
    for name in ("pooling", "shifted"):
        if getattr(best.config, name) != getattr(inferred.config, name):
            block += f", {name} {getattr(best.config, name)}"
    if best.error > limit:
        warnings.warn(
            f"{checkpoint.path}: no supported network gives the outputs in {dataset.path.name}; the nearest "
            f"has {block}, with an error of {best.error:.2g}",
            stacklevel=3,
        )
        return inferred
    # The trial says more than what was assumed of these.
    replaced = ("blocks with", "pooling by", "inputs shifted")
    kept = tuple(text for text in inferred.assumed if not text.startswith(replaced))
    return Inferred(best.config, (*kept, f"{block}: the outputs in {dataset.path.name} are those"))


def _candidates(
    checkpoint: Checkpoint, config: ModelConfig, stated: Mapping[str, Any]
) -> Iterator[ModelConfig]:
    """What may be there, with the epsilon of the configuration; the most usual first."""
    left = open_parts(config, stated)
    norms: list[tuple[str, int | None]] = [(config.norm, config.norm_groups)]
    if "norm" in left:
        # LayerNorm and GroupNorm may also be without a bias, as RMSNorm is.
        norms = [("layer", None)] if "bias" in names_of_norm(checkpoint) else [("rms", None), ("layer", None)]
        # A norm of one channel would be a constant.
        norms += [("group", n) for n in GROUPS if config.d_model % n == 0 and n < config.d_model]
    frames = [config]
    if not config.per_step and config.pooling is None and "pooling" not in stated:
        frames += [replace(config, pooling=pooling) for pooling in _POOLINGS]
    if config.shifts and "shifted" not in stated:
        frames.append(replace(config, shifted=False))
    placed = frames
    if "norm_place" in left:
        places: tuple[Literal["after", "before"], ...] = ("after", "before")
        placed = [replace(frame, norm_place=place) for frame in frames for place in places]
    activations = tuple(ACTIVATIONS) if "activation" in left else (config.activation,)
    for each, (norm, n), activation in itertools.product(placed, norms, activations):
        yield replace(each, norm=norm, norm_groups=n, activation=activation)


def _error(checkpoint: Checkpoint, config: ModelConfig, dataset: Dataset) -> float:
    """The largest error over max(1, |output|); infinite for a network that the tensors do not fit."""
    import torch

    assert dataset.outputs is not None
    outputs = dataset.outputs[:_RECORDS]
    try:
        net = build_network(checkpoint, config).double()
    except MultiresError:
        return float("inf")
    inputs = torch.from_numpy(np.ascontiguousarray(dataset.inputs[:_RECORDS]))
    if inputs.is_floating_point():
        inputs = inputs.double()
    lengths = (
        None if dataset.lengths is None or config.per_step else torch.from_numpy(dataset.lengths[:_RECORDS])
    )
    with torch.no_grad():
        y = net(inputs, lengths).numpy()
    error = np.abs(y - outputs) / np.maximum(1, np.abs(outputs))
    return float(np.nan_to_num(error, nan=np.inf).max())
