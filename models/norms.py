"""Norms in PyTorch: modules of d_model channels that take and give (batch, d_model, time).

Each normalizes every step by itself. Their parameters have the names of the published checkpoints, by which a
checkpoint's norm is recognized.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn


class GroupNorm(nn.Module):
    """Normalization over each of ``groups`` equal parts of the channels of a step."""

    def __init__(self, channels: int, eps: float, groups: int) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        rows, channels, time = x.shape
        grouped = x.reshape(rows, self.groups, -1, time)
        centred = grouped - grouped.mean(2, keepdim=True)
        normal = centred / (centred.square().mean(2, keepdim=True) + self.eps).sqrt()
        return normal.reshape(rows, channels, time) * self.weight[:, None] + self.bias[:, None]


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the channels of each step (arXiv:1910.07467)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(1, keepdim=True) + self.eps).sqrt() * self.weight[:, None]


class LayerNorm(nn.LayerNorm):
    """Normalization over the channels of each step."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


# From the number of channels, epsilon and the number of groups.
NORM_MODULES: dict[str, Callable[[int, float, int], nn.Module]] = {
    "layer": lambda channels, eps, groups: LayerNorm(channels, eps),
    "batch": lambda channels, eps, groups: nn.BatchNorm1d(channels, eps),
    "rms": lambda channels, eps, groups: RmsNorm(channels, eps),
    "group": GroupNorm,
    "none": lambda channels, eps, groups: nn.Identity(),
}


def norm_of(names: Collection[str]) -> str:
    """The norm that fits the tensors of a checkpoint best; ``names`` are those of its first norm."""
    given = set(names)

    def fit(norm: str) -> tuple[int, int]:
        with torch.device("meta"):
            expected = set(NORM_MODULES[norm](1, 0.0, 1).state_dict())
        return -len(given ^ expected), len(given & expected)

    return max(NORM_MODULES, key=fit)
