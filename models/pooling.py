"""Poolings in PyTorch: the reference of what the full graph and a stream pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from multires_edge.format.pooling import Concatenation, Cumulative, Last, Max, Pooling, Window


@dataclass(frozen=True)
class PoolingReference:
    """Two functions of a pooling and of features (batch, d_model, time).

    ``whole`` takes the lengths (batch,) of the rows too, or None, and gives (batch, d_head), what the full
    graph pools; ``stepwise`` gives (batch, d_head, time), what a stream pools at each step.
    """

    whole: Callable[[Any, Tensor, Tensor | None], Tensor]
    stepwise: Callable[[Any, Tensor], Tensor]


def _mean(_: Pooling, features: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return features.mean(-1)
    return (features * _within(features, lengths)).sum(-1) / lengths[:, None]


def _running_mean(_: Cumulative, features: Tensor) -> Tensor:
    return features.cumsum(-1) / _step_numbers(features)


def _moving_mean(pooling: Window, features: Tensor) -> Tensor:
    # A difference of float64 prefix sums over one recording; nothing drifts at this length.
    total, time = features.cumsum(-1), features.shape[-1]
    total = total - F.pad(total, (min(pooling.steps, time), 0))[..., :time]
    return total / _step_numbers(features).clamp(max=pooling.steps)


def _max(_: Max, features: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is not None:
        features = features.where(_within(features, lengths), -torch.inf)
    return features.amax(-1)


def _running_max(pooling: Max, features: Tensor) -> Tensor:
    if pooling.steps is None:
        return features.cummax(-1).values
    before = min(pooling.steps, features.shape[-1]) - 1
    return F.pad(features, (before, 0), value=-torch.inf).unfold(-1, before + 1, 1).amax(-1)


def _last(_: Last, features: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return features[..., -1]
    return features[torch.arange(len(features)), :, lengths - 1]


def _itself(_: Last, features: Tensor) -> Tensor:
    return features


def _all_parts(pooling: Concatenation, features: Tensor, lengths: Tensor | None) -> Tensor:
    parts = [POOLING_REFERENCES[type(part)].whole(part, features, lengths) for part in pooling.parts]
    return torch.cat(parts, 1)


def _all_running_parts(pooling: Concatenation, features: Tensor) -> Tensor:
    return torch.cat([POOLING_REFERENCES[type(part)].stepwise(part, features) for part in pooling.parts], 1)


def _within(features: Tensor, lengths: Tensor) -> Tensor:
    """Which steps count: (batch, 1, time)."""
    return (torch.arange(features.shape[-1], device=features.device) < lengths[:, None])[:, None]


def _step_numbers(features: Tensor) -> Tensor:
    return torch.arange(1, features.shape[-1] + 1, dtype=features.dtype, device=features.device)


POOLING_REFERENCES: dict[type[Pooling], PoolingReference] = {
    Cumulative: PoolingReference(_mean, _running_mean),
    Window: PoolingReference(_mean, _moving_mean),
    Max: PoolingReference(_max, _running_max),
    Last: PoolingReference(_last, _itself),
    Concatenation: PoolingReference(_all_parts, _all_running_parts),
}
