"""Random causal networks: delays, paddings, convolutions, residuals and pools in any order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from multires_edge.export.trace.executor import StepExecutor
from tests.export.trace.harness import at_prefixes, largest_error, plan_of, traced_steps

D = 3
part = st.one_of(
    st.tuples(st.just("conv"), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, D])),
    st.tuples(st.just("chomp"), st.integers(2, 3), st.integers(1, 3), st.just(1)),
    st.tuples(st.just("cosine"), st.integers(2, 3), st.integers(1, 2), st.just(1)),
    st.tuples(st.just("delay"), st.integers(1, 5), st.just(0), st.just(0)),
    st.tuples(st.just("bent"), st.integers(1, 3), st.just(0), st.just(0)),
    st.tuples(st.just("sum"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("norm"), st.just(0), st.just(0), st.just(0)),
)
Part = tuple[str, int, int, int]


class Random(nn.Module):
    def __init__(self, parts: list[tuple[Part, bool]], pool: str) -> None:
        super().__init__()
        self.parts, self.pool = parts, pool
        self.convs = nn.ModuleList(
            nn.Conv1d(D, D, kernel, dilation=dilation, groups=groups)
            for (kind, kernel, dilation, groups), _ in parts
            if kind in ("conv", "chomp", "cosine")
        )

    def forward(self, x: Tensor) -> Any:
        convs = iter(self.convs)
        for (kind, n, dilation, _), residual in self.parts:
            y, past = x, (n - 1) * dilation
            if kind == "conv":
                y = next(convs)(F.pad(x, (past, 0)))
            elif kind == "chomp":
                y = next(convs)(F.pad(x, (past, past)))[..., :-past]
            elif kind == "cosine":  # what the convolution reads before the first step is not zero
                y = next(convs)(torch.cos(F.pad(x, (past, 0), value=0.3)))
            elif kind == "delay":
                y = F.pad(x, (n, 0))[..., :-n]
            elif kind == "bent":
                y = torch.exp(-(F.pad(x, (n, 0)) ** 2))[..., :-n]
            elif kind == "sum":
                y = torch.tanh(x.cumsum(-1))
            else:
                y = F.layer_norm(x.transpose(1, 2), (D,)).transpose(1, 2)
            x = x + y if residual else y
        pools: dict[str, Any] = {"none": lambda: x, "mean": lambda: x.mean(2), "max": lambda: x.amax(2)}
        return pools[self.pool]()


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    parts=st.lists(st.tuples(part, st.booleans()), min_size=1, max_size=5),
    pool=st.sampled_from(["none", "mean", "max"]),
    seed=st.integers(0, 1000),
)
def test_the_step_is_the_module(parts: list[tuple[Part, bool]], pool: str, seed: int) -> None:
    torch.manual_seed(seed)
    x = (torch.randn(2, D, 14),)
    reference, plan = plan_of(Random(parts, pool).eval(), x)
    expected = at_prefixes(reference, plan.program, x)
    for program in (plan.program, plan.step):
        assert largest_error(traced_steps(StepExecutor(program, 2), x), expected) <= 1e-12
