"""A network that a framework trains and saves, and the comparison of a file of it with the network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multires_edge.models import load_checkpoint
from multires_edge.models.inference import Overrides
from multires_edge.models.network import MultiresNet
from tests.conftest import SMALL, random_inputs, random_net

X = torch.from_numpy(random_inputs(SMALL, 4, 24))
Y = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])


def trainable(seed: int = 0) -> MultiresNet:
    return random_net(SMALL, seed).train().requires_grad_(True)


@dataclass
class Saved:
    """A file or folder, and the network that was saved; ``options`` are those of its export."""

    path: Path
    net: nn.Module
    options: dict[str, Any] = field(default_factory=dict)


Writer = Callable[[Path], Saved]


def difference(saved: Saved) -> float:
    """The largest difference between the outputs of the loaded and of the saved network, relative to 1."""
    options = {"tree_select": "fading"} | saved.options
    loaded = load_checkpoint(saved.path, Overrides(**options)).double()
    original = copy.deepcopy(saved.net).double().eval()
    with torch.no_grad():
        y, expected = loaded(X.double()), original(X.double())
    return float((np.abs(y - expected) / np.maximum(1, np.abs(expected))).max())


def loss_of(logits: Tensor, y: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, y.to(logits.dtype))
