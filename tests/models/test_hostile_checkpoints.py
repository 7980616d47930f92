"""Checkpoints with hostile bytes: each is refused in one line, or read; no crash, no hang, no memory.

``MULTIRES_HOSTILE=500 pytest tests/models/test_hostile_checkpoints.py`` tries 500 of each container.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from multires_edge.models import load_checkpoint
from tests.conftest import SMALL, published_args, random_net
from tests.hostile import COUNT
from tests.hostile_files import Trial, damaged, hostile_safetensors, hostile_zip

STATE = random_net(SMALL).state_dict()
PUBLISHED: dict[str, Any] = {
    "model": {f"module.{name}": tensor for name, tensor in STATE.items()},
    "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]},
    "epoch": 3,
    "val_acc": np.float64(0.5),
}


def save_old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def hostile_bytes(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    draw = random.Random(seed)
    return (damaged(content, draw) for _ in range(count))


CONTAINERS: dict[str, tuple[Callable[[Path], None], str, Callable[..., Iterator[tuple[str, bytes]]]]] = {
    "published": (lambda path: torch.save(PUBLISHED, path), ".pth", hostile_zip),
    "bare": (lambda path: torch.save(dict(STATE), path), ".pt", hostile_zip),
    "old": (lambda path: save_old(PUBLISHED, path), ".pth", hostile_bytes),
    "safetensors": (
        lambda path: safetensors.torch.save_file(STATE, path),
        ".safetensors",
        hostile_safetensors,
    ),
}


def use(path: Path) -> None:
    net = load_checkpoint(path)
    net(torch.zeros(1, net.config.channels, 20))


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_checkpoints(container: str, tmp_path: Path) -> None:
    save, suffix, hostile = CONTAINERS[container]
    save(tmp_path / f"right{suffix}")
    (tmp_path / "args.txt").write_text(published_args(SMALL))
    trial = Trial(use, tmp_path, suffix)
    trial.add(hostile((tmp_path / f"right{suffix}").read_bytes(), COUNT, seed=3))
    trial.run()
    assert trial.refused
