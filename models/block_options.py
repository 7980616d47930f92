"""What a residual block computes, as options and as training programs say it.

The shapes of a checkpoint leave open which norm, where, with which epsilon, and which activation.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from multires_edge.base.errors import ConfigError
from multires_edge.base.names import check_name
from multires_edge.format.config import ACTIVATIONS, NORMS, ModelConfig

BLOCK_PARTS = tuple(field.name for field in dataclasses.fields(ModelConfig) if field.metadata.get("block"))
# The parts that no shape says, in the order in which they are named.
OPEN_PARTS = ("norm", "norm_groups", "norm_place", "norm_eps", "activation")

# Names of these parts in the options of training programs.
_SAVED = {
    "norm": "norm", "norm_type": "norm", "norm_eps": "norm_eps", "layer_norm_eps": "norm_eps",
    "norm_groups": "norm_groups", "num_groups": "norm_groups", "norm_place": "norm_place",
    "activation": "activation", "act": "activation",
}  # fmt: skip
_BEFORE = ("prenorm", "pre_norm", "norm_first")
_SYNONYMS = {
    "layernorm": "layer", "ln": "layer", "batchnorm": "batch", "bn": "batch", "rmsnorm": "rms",
    "groupnorm": "group", "gn": "group", "swish": "silu", "linear": "identity",
}  # fmt: skip


def block_option(text: str) -> tuple[str, Any]:
    """A part of a block and its value from "NAME=VALUE". Raises ConfigError."""
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise ConfigError(f"{text!r} is not NAME=VALUE, such as norm=rms; names are {', '.join(BLOCK_PARTS)}")
    check_name("part of a block", name, BLOCK_PARTS)
    return name, _value(value)


def saved_part(key: str, value: Any) -> tuple[str, Any] | None:
    """A part of a block that a training program's option says; None for other options and unknown values."""
    if key in _BEFORE and value in (True, None, "True", "true"):
        return "norm_place", "before"
    if key in _BEFORE and value in (False, "False", "false"):
        return "norm_place", "after"
    name = _SAVED.get(key)
    if name is None:
        return None
    if isinstance(value, str):
        value = _value(value)
    if isinstance(value, str):
        word = value.lower()
        value = _SYNONYMS.get(word.replace("_", "").replace("-", ""), word)
    known = {"norm": NORMS, "activation": ACTIVATIONS, "norm_place": ("after", "before")}.get(name)
    if known is not None:
        return (name, value) if isinstance(value, str) and value in known else None
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    return (name, value) if number else None


def described(config: ModelConfig, parts: tuple[str, ...]) -> str:
    """Parts of a configuration for a message."""
    return ", ".join(f"{name} {getattr(config, name)}" for name in parts)


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (int, float, bool)) else text
