"""``args.txt``: the arguments of the published training scripts, one per line, as they were typed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multires_edge.base.errors import CheckpointError

# Steps of one training sequence, by the scripts' names of the data sets.
TRAINING_LENGTHS = {"cifar10": 1024, "listops": 2048, "ptbxl": 1000}

# Known arguments that do not affect the trained function.
_IGNORED = {
    "lr", "weight_decay", "epochs", "warmup", "batch_size", "dropout", "hinit", "task", "layer",
    "port", "seed", "num_workers", "resume", "test_every", "indep_res_init",
}  # fmt: skip

_NUMBERS = {"kernel_size", "depth", "d_mem", "n_layers", "d_model"}


@dataclass(frozen=True)
class TrainingArgs:
    """The training arguments that describe the network; None if not given."""

    path: Path
    tree_select: str | None = None
    kernel_size: int | None = None
    depth: int | None = None
    d_mem: int | None = None
    dataset: str | None = None
    batchnorm: bool | None = None
    n_layers: int | None = None
    d_model: int | None = None


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
            if value not in ("fading", "uniform"):
                raise CheckpointError(f"{path}: --tree_select is {value!r}, expected fading or uniform")
            stated[key] = value
        elif key == "dataset":
            stated[key] = value
        elif key in _NUMBERS:
            if value is None or not value.isdecimal() or len(value) > 9:
                raise CheckpointError(f"{path}: --{key} is {value!r}, expected a whole number")
            stated[key] = int(value)
        elif key not in _IGNORED:
            given = f"--{key}" if value is None else f"--{key}={value}"
            warnings.warn(f"{path}: unknown argument {given!r}, ignored", stacklevel=2)
    return TrainingArgs(path, **stated)


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
        pairs.append((key.strip().replace("-", "_"), value.strip() or None))
    return pairs
