"""Every operator that treats each step alike, in both graphs and forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multires_edge.format.targets import FORMS
from tests.export.trace.harness import at_prefixes, graph_steps, largest_error, plan_of, returned, whole_graph


def half_in_place(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y += x
    y[:, :2] = 0.5 * y[:, 1:3]
    return y


def row_in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 2] = torch.tanh(y[:, 0])
    y[:] = y + 1
    return y


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        y = torch.exp(x)
    return y


One = Callable[[Tensor], Tensor]
Weighted = Callable[[Tensor, Tensor, Tensor], Tensor]

ACTIVATIONS: list[One] = [
    F.relu, F.relu6, F.silu, F.mish, F.elu, F.selu, F.celu, F.softplus, F.softsign, F.hardswish, F.hardtanh,
    F.hardsigmoid, F.gelu, lambda x: F.gelu(x, approximate="tanh"), F.leaky_relu, torch.tanh, torch.sigmoid,
    torch.exp, torch.sin, torch.cos, torch.erf, torch.neg, torch.abs, torch.square, lambda x: x**3,
    lambda x: torch.sqrt(x.abs() + 1), lambda x: torch.rsqrt(x.abs() + 1), lambda x: torch.log(x.abs() + 1),
    lambda x: torch.reciprocal(x.abs() + 1), lambda x: x.clamp(-0.5, 0.25), lambda x: x.clamp(min=-0.1),
    lambda x: x.clamp(max=0.1), lambda x: (x.abs() + 1) ** 0.5,
]  # fmt: skip
AXES: list[One] = [
    lambda x: x + 2.5, lambda x: 1 - x, lambda x: x / 3, lambda x: torch.maximum(x, -x),
    lambda x: torch.minimum(x, x * x), lambda x: torch.sub(x, x.abs(), alpha=0.5), lambda x: x.softmax(1),
    lambda x: F.log_softmax(x, dim=1), lambda x: F.glu(x, 1), lambda x: x.mean(1, keepdim=True),
    lambda x: x.sum(1), lambda x: x.amax(1), lambda x: F.normalize(x, dim=1), lambda x: x[:, 1:3],
    lambda x: x[:, -1], lambda x: torch.cat([x, -x], 1), lambda x: torch.stack([x, -x], 2).flatten(1, 2),
    lambda x: torch.unflatten(x, 1, (2, 2)).transpose(1, 2).flatten(1, 2),
    lambda x: torch.cat(torch.split(x, 1, 1), 1),
    lambda x: x.unbind(1)[2], lambda x: x[:, None].expand(-1, 3, -1, -1).flatten(1, 2),
    lambda x: F.layer_norm(x.transpose(1, 2), (4,)).transpose(1, 2), lambda x: x[:, [2, 0, 1, 1]],
    lambda x: x[:, torch.tensor([True, False, True, False])], lambda x: x.flip(1), lambda x: x.roll(1, 1),
    lambda x: x.repeat(1, 2, 1), lambda x: x.repeat_interleave(2, 1),
    lambda x: torch.index_select(x, 1, torch.tensor([3, 0])), half_in_place,
    row_in_place, lambda x: F.pad(x, (2, 0)).unfold(-1, 3, 1).amax(-1),
    lambda x: torch.where((x > 0) & (x <= 1), x, -0.5 * x), lambda x: torch.where((x < 0) | (x >= 1), 0.0, x),
    lambda x: torch.where(~(x == 0) & (x != 2), x, x + 1), lambda x: torch.lerp(x, x.abs(), 0.3),
    lambda x: x.cumsum(-1) / torch.ones_like(x[:, :1]).cumsum(-1), without_gradient,
]  # fmt: skip
WITH_WEIGHTS: list[Weighted] = [
    lambda x, w, row: w @ x, lambda x, w, row: (x.transpose(1, 2) @ w.T).transpose(1, 2),
    lambda x, w, row: torch.add(x, row[:, None], alpha=2), lambda x, w, row: x * row[:, None],
    lambda x, w, row: x / (2 + row[None, :, None]), lambda x, w, row: F.prelu(x, row),
    lambda x, w, row: F.rms_norm(x.transpose(1, 2), (4,), row, 1e-3).transpose(1, 2),
    lambda x, w, row: F.conv1d(x, w[:, :, None], w[:, 0]),
    lambda x, w, row: F.linear(x.transpose(1, 2), w, w[:, 1]),
]  # fmt: skip


class Together(nn.Module):
    """All functions of a list, each with an output of its own."""

    def __init__(self, functions: list[One] | list[Weighted], weighted: bool) -> None:
        super().__init__()
        self.functions, self.weighted = functions, weighted
        self.w = nn.Parameter(torch.linspace(-1, 1, 20).reshape(5, 4))
        self.row = nn.Parameter(torch.linspace(-1, 1, 4))

    def forward(self, x: Tensor) -> list[Tensor]:
        late = F.pad(x, (1, 0))[..., :-1]  # a state, so that the step graph has a queue too
        weights = (self.w, self.row) if self.weighted else ()
        return [function(late, *weights) for function in self.functions]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("functions", "weighted"),
    [(ACTIVATIONS, False), (AXES, False), (WITH_WEIGHTS, True)],
    ids=["activations", "axes", "with weights"],
)
def test_both_graphs(functions: list[One] | list[Weighted], weighted: bool) -> None:
    net, x = Together(functions, weighted).eval(), (torch.randn(2, 4, 9),)
    reference, plan = plan_of(net, x)
    expected = at_prefixes(reference, plan.program, x)
    for form in FORMS.values():
        assert largest_error([whole_graph(plan.program, form, x)], [returned(reference, x)]) <= 1e-5
        assert largest_error(graph_steps(plan.step, form, x), expected) <= 1e-5
