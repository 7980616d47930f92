"""``args.txt``: the arguments of the published training scripts, one a line, as they were typed."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from multires_edge.runtime.errors import CheckpointError

# Steps of one training sequence, by the name that the scripts know the data set under.
TRAINING_LENGTHS = {"cifar10": 1024, "listops": 2048, "ptbxl": 1000}


@dataclass(frozen=True)
class TrainingArgs:
    """What the training arguments say of the network; the scripts' defaults where they are silent."""

    path: Path
    tree_select: str
    kernel_size: int | None
    depth: int | None
    memory_size: int | None
    dataset: str | None
    batchnorm: bool
    n_layers: int
    d_model: int


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def read_training_args(path: Path) -> TrainingArgs:
    """Read ``args.txt``. An unknown line is a warning: public checkpoints come from edited scripts.

    Raises CheckpointError for a known argument whose value cannot be.
    """
    parser = _Parser(add_help=False)
    for name in ("depth", "d_mem", "kernel_size"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--n_layers", type=int, default=4)
    parser.add_argument("--d_model", type=int, default=128)
    parser.add_argument("--tree_select", choices=("fading", "uniform"), default="fading")
    parser.add_argument("--layer", choices=("multires",), default="multires")
    parser.add_argument("--dataset")
    parser.add_argument("--batchnorm", action="store_true")
    # Known, and without effect on the trained function.
    parser.add_argument("--indep_res_init", action="store_true")
    for name in (
        "lr", "weight_decay", "epochs", "warmup", "batch_size", "dropout", "hinit", "task",
        "port", "seed", "num_workers", "resume", "test_every",
    ):  # fmt: skip
        parser.add_argument(f"--{name}")
    try:
        text = path.read_text(encoding="utf-8")
        known, unknown = parser.parse_known_args([line for line in text.splitlines() if line])
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    for line in unknown:
        warnings.warn(f"{path}: unknown argument {line!r}, ignored", stacklevel=2)
    return TrainingArgs(
        path=path,
        tree_select=known.tree_select,
        kernel_size=known.kernel_size,
        depth=known.depth,
        memory_size=known.d_mem,
        dataset=known.dataset,
        batchnorm=known.batchnorm,
        n_layers=known.n_layers,
        d_model=known.d_model,
    )
