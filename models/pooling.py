"""Poolings in PyTorch: the reference of what the full graph and a stream pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from multires_edge.format.pooling import Cumulative, Pooling, Window


@dataclass(frozen=True)
class PoolingReference:
    """Two functions of a pooling and of features (batch, d_model, time).

    ``whole`` takes the lengths (batch,) of the rows too, or None, and gives (batch, d_model), what the full
    graph pools; ``stepwise`` gives (batch, d_model, time), what a stream pools at each step.
    """

    whole: Callable[[Any, Tensor, Tensor | None], Tensor]
    stepwise: Callable[[Any, Tensor], Tensor]


def _mean(_: Pooling, features: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return features.mean(-1)
    within = torch.arange(features.shape[-1], device=features.device) < lengths[:, None]
    return (features * within[:, None]).sum(-1) / lengths[:, None]


def _running_mean(_: Cumulative, features: Tensor) -> Tensor:
    return features.cumsum(-1) / _step_numbers(features)


def _moving_mean(pooling: Window, features: Tensor) -> Tensor:
    # A difference of float64 prefix sums over one recording; nothing drifts at this length.
    total, time = features.cumsum(-1), features.shape[-1]
    total = total - F.pad(total, (min(pooling.steps, time), 0))[..., :time]
    return total / _step_numbers(features).clamp(max=pooling.steps)


def _step_numbers(features: Tensor) -> Tensor:
    return torch.arange(1, features.shape[-1] + 1, dtype=features.dtype, device=features.device)


POOLING_REFERENCES: dict[type[Pooling], PoolingReference] = {
    Cumulative: PoolingReference(_mean, _running_mean),
    Window: PoolingReference(_mean, _moving_mean),
}
