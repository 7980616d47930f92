"""Norms in PyTorch: modules of d_model channels that take and give (batch, d_model, time).

Their parameters have the names of the published checkpoints, by which a checkpoint's norm is recognized.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Normalization over the channels of each step."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


NORM_MODULES: dict[str, Callable[[int], nn.Module]] = {"layer": LayerNorm, "batch": nn.BatchNorm1d}


def norm_of(names: Collection[str]) -> str:
    """The norm that fits the tensors of a checkpoint best; ``names`` are those of its first norm."""
    given = set(names)

    def fit(norm: str) -> tuple[int, int]:
        with torch.device("meta"):
            expected = set(NORM_MODULES[norm](1).state_dict())
        return -len(given ^ expected), len(given & expected)

    return max(NORM_MODULES, key=fit)
