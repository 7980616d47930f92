"""Convolutions of single channels in float64, in which PyTorch computes one channel after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class _FastDepthwise(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten.convolution.default and _is_depthwise(*args):
            x, weight, bias, _, (padding,), (dilation,), *_ = args
            return _depthwise(x, weight, bias, padding, dilation)
        return func(*args, **(kwargs or {}))


@contextmanager
def fast_depthwise() -> Iterator[None]:
    """Let PyTorch compute them as sums of products with shifted values inside the block, without gradients.

    A module is the same, and its outputs differ by roundings of float64 alone.
    """
    mode: AbstractContextManager[Any] = _FastDepthwise()  # type: ignore[no-untyped-call]
    with torch.no_grad(), mode:
        yield


def _is_depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int],
    dilation: list[int], transposed: bool, output_padding: list[int], groups: int,
) -> bool:  # fmt: skip
    alone = weight.dim() == 3 and weight.shape[1] == 1 and groups == len(weight) > 1
    return alone and x.dtype == torch.float64 and stride == [1] and not transposed


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, dilation: int) -> Tensor:
    x = torch.nn.functional.pad(x, (padding, padding)) if padding else x
    taps = weight.shape[2]
    steps = x.shape[2] - (taps - 1) * dilation
    if steps < 1:
        raise RuntimeError(f"the kernel reads {(taps - 1) * dilation + 1} steps, and there are {x.shape[2]}")
    columns = weight[:, 0].T[..., None]  # (taps, channels, 1)
    y = x[..., :steps] * columns[0]
    for k in range(1, taps):
        y.addcmul_(x[..., k * dilation : k * dilation + steps], columns[k])
    return y if bias is None else y + bias[:, None]
