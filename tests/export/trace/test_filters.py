"""Filters of single channels, in any network: they are joined, and the step computes the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from multires_edge.export.trace.executor import StepExecutor
from multires_edge.export.trace.planning import Plan
from multires_edge.export.trace.program import Convolution, Delay
from multires_edge.format.targets import FORMS
from tests.export.trace.harness import at_prefixes, graph_steps, largest_error, plan_of, traced_steps
from tests.export.trace.networks import Block, Multires, Uniform, brisk, causal

D, STEPS = 4, 30
FORM = next(iter(FORMS.values()))


class Net(nn.Module):
    """Layers (batch, D, time), of which each gets what the one before gives."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


class Gated(nn.Module):
    """A tree, and the gate of a WaveNet behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.tree, self.gate = Multires(D), nn.Conv1d(D, 2 * D, 1)

    def forward(self, x: Tensor) -> Any:
        a, b = self.gate(self.tree(x)).chunk(2, 1)
        return x + torch.tanh(a) * torch.sigmoid(b)


class Biased(nn.Module):
    """A tree whose filters have biases, with dilations 1, 3, 9 and several weights for its coarsest scale."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.ModuleList(nn.Conv1d(D, D, 3, groups=D, dilation=3**j) for j in range(3))
        self.high = nn.ModuleList(nn.Conv1d(D, D, 3, groups=D, dilation=3**j) for j in range(3))
        self.coarse = nn.Parameter(torch.randn(D, 1, 3) / 3)

    def forward(self, x: Tensor) -> Tensor:
        a, y = x, torch.zeros_like(x)
        for j, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            padded = F.pad(a, (2 * 3**j, 0))
            y, a = y + high(padded), low(padded)
        return torch.tanh(y + causal(a, self.coarse, 1))


class Resolutions(nn.Module):
    """All resolutions side by side, and then mixed; time is the second axis outside."""

    def __init__(self) -> None:
        super().__init__()
        self.h = nn.Parameter(torch.randn(2, D, 1, 2) / 2)
        self.mix = nn.Linear(4 * D, D)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for j in range(3):
            found.append(causal(x, self.h[0], 2**j))
            x = causal(x, self.h[1], 2**j)
        y: Tensor = self.mix(torch.cat([*found, x], 1).transpose(1, 2))
        return y.transpose(1, 2)


class TokenShift(nn.Module):
    """Each channel is between this step's value and that of the step before."""

    def __init__(self) -> None:
        super().__init__()
        self.mu, self.mix = nn.Parameter(torch.rand(2, D, 1)), nn.Conv1d(D, D, 1)

    def forward(self, x: Tensor) -> Tensor:
        before = F.pad(x, (1, -1))
        key, value = (mu * x + (1 - mu) * before for mu in self.mu)
        y: Tensor = torch.sigmoid(self.mix(key)) * torch.relu(value)
        return y


class Shared(nn.Module):
    """A dense convolution reads the same ring as a filter of single channels."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.single = nn.Conv1d(D, D, 2), nn.Conv1d(D, D, 2, groups=D)

    def forward(self, x: Tensor) -> Any:
        padded = F.pad(x, (1, 0))
        return torch.relu(self.dense(padded)) + self.single(padded)


def blocks(**options: Any) -> list[nn.Module]:
    return [Block(Multires(D, **options), "layer", before, "SiLU", D) for before in (True, False)]


def stem() -> list[nn.Module]:
    return [nn.ConstantPad1d((3, 0), 0.0), nn.Conv1d(D, D, 4), nn.ReLU()]


# The network, and how many rings each of its banks has.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[int]]] = {
    "behind a stem": (lambda: Net(*stem(), *blocks(depth=4)), [4]),
    "gates of a WaveNet": (lambda: Net(Gated(), Gated(), Gated()), [3]),
    "untied": (lambda: Net(*blocks(untied=True)), [3]),
    "five taps": (lambda: Net(*blocks(taps=5, depth=2)), [2]),
    "uniform": (lambda: Net(Uniform(D), nn.ReLU(), Uniform(D), nn.ReLU()), [6]),
    "trees of two depths": (lambda: Net(*blocks(depth=2), *blocks(depth=3)), [2, 3]),
    "biases and other dilations": (lambda: Net(Biased(), Biased()), [4]),
    "resolutions side by side": (lambda: Net(Resolutions(), nn.ReLU(), Resolutions()), [3]),
    "linear in a row": (lambda: Net(Multires(D), Multires(D), nn.Tanh()), [6]),
    "token shift": (lambda: Net(TokenShift(), TokenShift()), [1]),
    "a ring that others read": (lambda: Net(Shared()), []),
}


def joined(net: nn.Module) -> tuple[nn.Module, Plan, Tensor]:
    torch.manual_seed(1)
    x = torch.randn(2, D, STEPS)
    reference, plan = plan_of(brisk(net), (x,))
    return reference, plan, x


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_module_on_every_prefix(name: str) -> None:
    make, rings = NETWORKS[name]
    reference, plan, x = joined(make())
    assert [len(bank.rings) for bank in plan.step.banks] == rings
    expected = at_prefixes(reference, plan.program, (x,))
    executor = StepExecutor(plan.step, 2)
    assert largest_error(traced_steps(executor, (x,)), expected) <= 1e-12
    executor.reset(1)
    assert largest_error(
        [{n: y[1:] for n, y in step.items()} for step in traced_steps(executor, (x,))],
        [{n: y[1:] for n, y in step.items()} for step in expected],
    ) <= 1e-12  # fmt: skip


@pytest.mark.parametrize(
    "name", ["gates of a WaveNet", "biases and other dilations", "resolutions side by side", "token shift"]
)
def test_the_graph_is_the_module(name: str) -> None:
    reference, plan, x = joined(NETWORKS[name][0]())
    expected = at_prefixes(reference, plan.program, (x,))
    assert largest_error(graph_steps(plan.step, FORM, (x,)), expected) <= 1e-5


@pytest.mark.parametrize("name", ["behind a stem", "five taps", "untied", "uniform"])
def test_nothing_is_computed_twice(name: str) -> None:
    _, plan, _ = joined(NETWORKS[name][0]())
    left = [each for each in plan.step.instructions if isinstance(each, Convolution | Delay)]
    assert all(each.ring is None or each.groups == 1 for each in left if isinstance(each, Convolution))
    assert not any(isinstance(each, Delay) for each in left)
    # A ring holds as much as before.
    before, after = (sum(r.slots * r.width for r in p.rings) for p in (plan.program, plan.step))
    assert before == after


class Linear(nn.Module):
    """Steps that are linear in each channel, each of one or two earlier values, and functions of the last."""

    def __init__(self, parts: list[tuple[str, int, int, int]]) -> None:
        super().__init__()
        self.parts = parts
        self.factors = nn.Parameter(torch.randn(len(parts), D, 3) / 2)

    def forward(self, x: Tensor) -> Any:
        values = [x]
        for factors, (kind, first, second, n) in zip(self.factors, self.parts, strict=True):
            a, b = (values[-1 - i % len(values)] for i in (first, second))
            values.append(self.part(kind, a, b, factors, n))
        return values[-1], torch.relu(values[-1 - self.parts[0][1] % len(values)])

    def part(self, kind: str, a: Tensor, b: Tensor, factors: Tensor, n: int) -> Any:
        if kind == "filter":
            return causal(a, factors[:, None], n)
        if kind == "biased":
            return causal(a, factors[:, None, :2], n) + factors[:, :1]
        if kind == "delay":
            return F.pad(a, (n, 0))[..., :-n]
        if kind == "sum":
            return a - factors[:, :1] * b
        if kind == "turned":
            return (a.mT / (1 + factors[:, 0] ** 2)).mT
        return torch.tanh(a) + b


kinds = st.sampled_from(["filter", "biased", "delay", "sum", "turned", "bent"])


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    parts=st.lists(
        st.tuples(kinds, st.integers(0, 3), st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=8
    ),
    seed=st.integers(0, 1000),
)
def test_any_linear_run(parts: list[tuple[str, int, int, int]], seed: int) -> None:
    torch.manual_seed(seed)
    x = (torch.randn(2, D, 14),)
    reference, plan = plan_of(Linear(parts).eval(), x)
    expected = at_prefixes(reference, plan.program, x)
    assert largest_error(traced_steps(StepExecutor(plan.step, 2), x), expected) <= 1e-12
    assert largest_error(graph_steps(plan.step, FORM, x), expected) <= 1e-4
