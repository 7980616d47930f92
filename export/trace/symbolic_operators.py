"""Operators that a trace can hold for any number of steps, in the place of PyTorch's own.

PyTorch traces LSTM and GRU step by step, and max_pool1d for one size: such traces have the number of steps of
the example.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import _VF, Tensor, library

aten = torch.ops.aten


@library.custom_op("multires_edge::lstm", mutates_args=())
def lstm(
    x: Tensor, states: list[Tensor], weights: list[Tensor], biases: bool, layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As ``nn.LSTM``: the outputs of all steps, the last states and the last memories."""
    y, state, memory = aten.lstm(
        x, states, weights, biases, layers, dropout, train, bidirectional, batch_first
    )
    return y, state, memory


@library.custom_op("multires_edge::gru", mutates_args=())
def gru(
    x: Tensor, state: Tensor, weights: list[Tensor], biases: bool, layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As ``nn.GRU``: the outputs of all steps and the last states."""
    y, last = aten.gru(x, state, weights, biases, layers, dropout, train, bidirectional, batch_first)
    return y, last


@library.custom_op("multires_edge::max_pool1d", mutates_args=())
def _max_pool1d(
    x: Tensor, size: list[int], stride: list[int], padding: list[int], dilation: list[int], ceil: bool
) -> Tensor:
    result: Tensor = aten.max_pool1d(x, size, stride, padding, dilation, ceil)
    return result


def max_pool1d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """As ``torch.max_pool1d``."""
    numbers = [_listed(each) for each in (kernel_size, stride or kernel_size, padding, dilation)]
    result: Tensor = _max_pool1d(x, *numbers, ceil_mode)
    return result


def _listed(number: Any) -> list[int]:
    return [number] if isinstance(number, int) else list(number)


@_max_pool1d.register_fake
def _(x, size, stride, padding, dilation, ceil):  # type: ignore[no-untyped-def]
    steps = x.shape[-1] + 2 * padding[0] - dilation[0] * (size[0] - 1)
    return x.new_empty(*x.shape[:-1], steps if stride[0] == 1 else (steps - 1) // stride[0] + 1)


def _outputs(x: Tensor, state: Tensor, bidirectional: bool) -> Tensor:
    return x.new_empty(*x.shape[:2], state.shape[2] * (2 if bidirectional else 1))


@lstm.register_fake
def _(x, states, weights, biases, layers, dropout, train, bidirectional, batch_first):  # type: ignore[no-untyped-def]
    return _outputs(x, states[0], bidirectional), *(torch.empty_like(each) for each in states)


@gru.register_fake
def _(x, state, weights, biases, layers, dropout, train, bidirectional, batch_first):  # type: ignore[no-untyped-def]
    return _outputs(x, state, bidirectional), torch.empty_like(state)


@contextmanager
def symbolic_operators() -> Iterator[None]:
    """Let modules call these operators inside the block."""
    own = ((_VF, "lstm", lstm), (_VF, "gru", gru), (torch, "max_pool1d", max_pool1d))
    before = [getattr(home, name) for home, name, _ in own]
    for home, name, operator in own:
        setattr(home, name, operator)
    try:
        yield
    finally:
        for (home, name, _), operator in zip(own, before, strict=True):
            setattr(home, name, operator)
