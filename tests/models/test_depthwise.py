"""Convolutions of single channels in float64: the same values as PyTorch's own, sooner."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.models.depthwise import fast_depthwise


@given(
    taps=st.integers(1, 5),
    dilation=st.integers(1, 4),
    padding=st.integers(0, 6),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    groups=st.sampled_from([1, 2, 4]),
)
def test_it_is_the_convolution(
    taps: int, dilation: int, padding: int, bias: bool, dtype: torch.dtype, groups: int
) -> None:
    x, weight = torch.randn(2, 4, 20, dtype=dtype), torch.randn(4, 4 // groups, taps, dtype=dtype)
    added = torch.randn(4, dtype=dtype) if bias else None
    expected = F.conv1d(x, weight, added, 1, padding, dilation, groups)
    with fast_depthwise():
        y = F.conv1d(x, weight, added, 1, padding, dilation, groups)
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-14 if dtype == torch.float64 else 0)


def test_a_sequence_that_is_too_short_is_refused() -> None:
    weight = torch.randn(3, 1, 4, dtype=torch.float64)
    with fast_depthwise(), pytest.raises(RuntimeError, match="the kernel reads 4 steps, and there are 2"):
        F.conv1d(torch.randn(1, 3, 2, dtype=torch.float64), weight, groups=3)
