"""Infer what a residual block computes from the shapes of its tensors, and from what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multires_edge.base.errors import ConfigError
from multires_edge.format.config import ModelConfig
from multires_edge.models.block_options import OPEN_PARTS, described
from multires_edge.models.checkpoint import Checkpoint
from multires_edge.models.mixing import mixing_of
from multires_edge.models.norms import norm_of


def infer_block(
    checkpoint: Checkpoint, stated: Mapping[str, Any], d_model: int, *, autoregressive: bool
) -> dict[str, Any]:
    """The fields of a configuration that describe the block; ``stated`` are those that options say.

    Raises ConfigError where an option contradicts the tensors.
    """
    tensors = checkpoint.tensors
    found = {
        "norm": norm_of(names_of_norm(checkpoint)),
        "filters": "untied" if tensors["seq_layers.0.h0"].dim() == 4 else "tied",
        "mixing": mixing_of(tensors["mixing_layers.0.0.weight"].shape[0] / d_model) or "glu",
        "mixing_output": "mixing_layers.0.3.weight" in tensors,
    }
    for name in found.keys() & stated.keys() - {*OPEN_PARTS}:
        if stated[name] != found[name]:
            raise ConfigError(
                f"{checkpoint.path}: {name} is given as {stated[name]}, but its tensors have {found[name]}"
            )
    block = {**found, **stated}
    if block["mixing_output"] == autoregressive:
        block["mixing_output"] = None  # as published
    return block


def names_of_norm(checkpoint: Checkpoint) -> set[str]:
    """The names of the tensors of the first norm."""
    return {name.removeprefix("norms.0.") for name in checkpoint.tensors if name.startswith("norms.0.")}


def assumed_block(config: ModelConfig, stated: Mapping[str, Any]) -> tuple[str, ...]:
    """What was assumed of a block because neither shapes nor options say it."""
    parts = tuple(name for name in open_parts(config, stated) if name != "norm_groups")
    return (f"blocks with {described(config, parts)}",) if parts else ()


def open_parts(config: ModelConfig, stated: Mapping[str, Any]) -> list[str]:
    """The parts of a block that neither shapes nor options say."""
    sure = set(stated)
    if config.norm == "none":
        sure |= {"norm_place", "norm_eps"}
    if config.norm not in ("layer", "group", "rms"):
        sure |= {"norm", "norm_groups"}
    return [name for name in OPEN_PARTS if name not in sure]
