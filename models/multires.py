"""The multiresolution convolution: one pair of filters, applied at every time scale of a binary tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multires_edge.format.config import ModelConfig
from multires_edge.models.activations import ACTIVATION_FUNCTIONS
from multires_edge.models.causal_filter import causal_filter


def causal_depthwise(x: Tensor, filters: Tensor, dilation: int) -> Tensor:
    """Causal depthwise cross-correlation: (batch, channels, time) with (channels, 1, taps).

    Tap K-1 of the filter meets the newest sample, tap 0 the one dilation * (K - 1) steps earlier.
    """
    if filters.requires_grad and len(x) == 1:
        # As for an impulse response in training. For one sequence, the gradients of conv1d take long.
        return _shifted_sum(x, filters, dilation)
    # Taps that meet nothing but the zeros before the first step are left out: deep trees reach far.
    if not torch.compiler.is_compiling():  # a trace is for any number of steps
        filters = filters[..., -1 - (x.shape[-1] - 1) // dilation :]
    padding = dilation * (filters.shape[-1] - 1)
    return F.conv1d(F.pad(x, (padding, 0)), filters, dilation=dilation, groups=x.shape[1])


def _shifted_sum(x: Tensor, filters: Tensor, dilation: int) -> Tensor:
    y = filters[:, :, -1] * x
    for tap in range(1, filters.shape[-1]):
        delay = tap * dilation
        if delay < x.shape[-1]:
            y = y + filters[:, :, -1 - tap] * F.pad(x[..., :-delay], (delay, 0))
    return y


def of_scale(filters: Tensor, scale: int) -> Tensor:
    """The filters (d_model, 1, K) of a scale."""
    return filters[scale] if filters.dim() == 4 else filters


class MultiresLayer(nn.Module):
    """Weighted sum of all resolutions of the input, then the activation; (batch, d_model, time) to the same.

    With a_0 = x, a_{j+1} = h0 * a_j and b_j = h1 * a_j at dilation 2^j (arXiv:2305.01638, eq. 5):
    y(t) = w_0 a_depth(t) + sum_j sum_k w_{j,k} b_j(t - k 2^(j+1)) + w_last x(t).
    Untied, each scale j has its own h0 and h1.

    In training, y is computed as one filter per channel, which has the same gradients and is several times
    faster. ``dropout`` is the probability with which training drops a channel of the output.
    """

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.depth = config.depth
        self.memory_columns = config.memory_columns()
        self.activation = ACTIVATION_FUNCTIONS[config.activation]
        scale = (2.0 / (config.kernel_size * 2)) ** 0.5
        # Filters that are not tied have one more axis in front, the scale.
        each = (config.depth,) if config.filters == "untied" else ()
        shape = (*each, config.d_model, 1, config.kernel_size)
        self.h0 = nn.Parameter(torch.empty(shape).uniform_(-scale, scale))
        self.h1 = nn.Parameter(torch.empty(shape).uniform_(-scale, scale))
        columns = config.n_memory_weights
        scale = columns**-0.5
        self.w = nn.Parameter(torch.empty(config.d_model, columns).uniform_(-scale, scale))
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = causal_filter(x, self.response(x.shape[-1])) if self.training else self.combined(x)
        return cast(Tensor, self.dropout(self.activation(y)))

    def response(self, time: int) -> Tensor:
        """The impulse responses (d_model, time) of the part of the layer that is linear."""
        impulse = self.w.new_zeros(1, self.w.shape[0], time)
        impulse[..., 0] = 1
        return self.combined(impulse)[0]

    def combined(self, x: Tensor) -> Tensor:
        """The weighted sum of all resolutions, by its definition."""
        y = self.w[:, -1:] * x
        for j, a in enumerate(self.resolutions(x)):
            if j == self.depth:
                y = y + self.w[:, :1] * a
            elif len(columns := self.memory_columns[j]):
                dilation = 1 << j
                y = y + self._remember(causal_depthwise(a, of_scale(self.h1, j), dilation), columns, dilation)
        return y

    def resolutions(self, x: Tensor) -> Iterator[Tensor]:
        """a_0 = x, a_1, ..., a_depth, one at a time. Each is the low-pass of the previous one."""
        a = x
        yield a
        for j in range(self.depth):
            a = causal_depthwise(a, of_scale(self.h0, j), 1 << j)
            yield a

    def _remember(self, b: Tensor, columns: range, dilation: int) -> Tensor:
        weights = self.w[:, columns.start : columns.stop]
        if len(columns) == 1:
            return weights * b
        # Several memory weights are themselves a causal filter, at twice the scale's dilation.
        return causal_depthwise(b, weights.flip(-1).unsqueeze(1), 2 * dilation)
