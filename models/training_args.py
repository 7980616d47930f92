"""The options of a training: ``args.txt`` of the published scripts, or a checkpoint's hyper-parameters.

``args.txt`` has one argument per line, as it was typed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multires_edge.base.errors import CheckpointError
from multires_edge.models.block_options import saved_part

# Steps of one training sequence, by the scripts' names of the data sets.
TRAINING_LENGTHS = {"cifar10": 1024, "listops": 2048, "ptbxl": 1000}

# Known arguments that do not affect the trained function.
_IGNORED = {
    "lr", "weight_decay", "epochs", "warmup", "batch_size", "dropout", "hinit", "task", "layer",
    "port", "seed", "num_workers", "resume", "test_every", "indep_res_init",
}  # fmt: skip

_NUMBERS = {"kernel_size", "depth", "d_mem", "n_layers", "d_model"}
_KNOWN = _IGNORED | _NUMBERS | {"batchnorm", "tree_select", "dataset"}
_TREES = ("fading", "uniform")
_POOLINGS = ("mean", "max", "last", "none")  # of other programs, as they name them


@dataclass(frozen=True)
class TrainingArgs:
    """The training options that describe the network; None if not given.

    ``origin`` says where they are from. ``complete``: the published script wrote them all, so an option that
    is not there had the script's default.
    """

    origin: str
    complete: bool = True
    tree_select: str | None = None
    kernel_size: int | None = None
    depth: int | None = None
    d_mem: int | None = None
    dataset: str | None = None
    batchnorm: bool | None = None
    n_layers: int | None = None
    d_model: int | None = None
    pool: str | None = None
    block: dict[str, Any] = field(default_factory=dict)  # see models/block_options.py


def read_training_args(path: Path) -> TrainingArgs:
    """Read ``args.txt``: ``--key=value``, ``--key value`` on one line or two, or a flag.

    An unknown line is a warning, because public checkpoints come from edited scripts. Raises
    CheckpointError for a file that is not text, or an invalid value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as text ({error})") from error
    stated: dict[str, Any] = {}
    for key, value in _pairs(path, text):
        if key == "batchnorm":
            stated[key] = True
        elif key == "tree_select":
            if value not in _TREES:
                raise CheckpointError(f"{path}: --tree_select is {value!r}, expected fading or uniform")
            stated[key] = value
        elif key == "dataset":
            stated[key] = value
        elif key in _NUMBERS:
            if value is None or not value.isdecimal() or len(value) > 9:
                raise CheckpointError(f"{path}: --{key} is {value!r}, expected a whole number")
            stated[key] = int(value)
        elif (part := saved_part(key, value)) is not None:
            block = stated.setdefault("block", {})
            if block.setdefault(*part) != part[1]:
                raise CheckpointError(f"{path}: --{key} {value} contradicts {part[0]} {block[part[0]]!r}")
        elif key not in _IGNORED:
            given = f"--{key}" if value is None else f"--{key}={value}"
            warnings.warn(f"{path}: unknown argument {given!r}, ignored", stacklevel=2)
    return TrainingArgs(str(path), **stated)


def read_options(origin: str, options: dict[str, Any]) -> TrainingArgs | None:
    """The options that have the names of the published script's; None if there are none.

    Programs give these names to other things too, so values of other types are ignored.
    """
    stated: dict[str, Any] = {}
    for name, value in _flat(options, 0):
        key = name.replace("-", "_")
        if (part := saved_part(key, value)) is not None:
            block = stated.setdefault("block", {})
            if block.setdefault(*part) != part[1]:
                raise CheckpointError(f"{origin} has {key} {value!r} and {part[0]} {block[part[0]]!r}")
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if (
            (key in _NUMBERS and is_number and 0 < value < 10**9)
            or (key == "tree_select" and value in _TREES)
            or (key == "dataset" and isinstance(value, str))
            or (key == "batchnorm" and isinstance(value, bool))
            or (key in ("pool", "pooling") and isinstance(value, str) and _is_pooling(value))
        ) and stated.setdefault("pool" if key == "pooling" else key, value) != value:
            raise CheckpointError(f"{origin} has {key} {stated[key]!r} and {value!r}; expected one value")
    return TrainingArgs(origin, complete=False, **stated) if stated else None


def _is_pooling(text: str) -> bool:
    return set(text.split("+")) <= set(_POOLINGS)


def _flat(options: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        if isinstance(value, dict) and depth < 4:
            yield from _flat(value, depth + 1)
        else:
            yield key, value


def _in_full(path: Path, key: str) -> str:
    """The name of an option that may be abbreviated, as the scripts' parser takes it."""
    if key in _KNOWN:
        return key
    meant = sorted(name for name in _KNOWN if name.startswith(key))
    if len(meant) > 1 and key:
        raise CheckpointError(f"{path}: --{key} may mean {', '.join(meant)}; write the argument in full")
    return meant[0] if len(meant) == 1 else key


def _pairs(path: Path, text: str) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = []
    for line in text.splitlines():
        word = line.strip()
        if not word:
            continue
        if not word.startswith("--"):
            # The value of the argument on the line before.
            if pairs and pairs[-1][1] is None:
                pairs[-1] = (pairs[-1][0], word)
            else:
                warnings.warn(f"{path}: unknown line {word!r}, ignored", stacklevel=3)
            continue
        key, equals, value = word[2:].partition("=")
        if not equals:
            key, _, value = key.partition(" ")
        pairs.append((_in_full(path, key.strip().replace("-", "_")), value.strip() or None))
    return pairs
