"""Networks of users: the step is the module on every prefix, and so are the graphs."""

from __future__ import annotations

import pytest
import torch

from multires_edge.export.trace.executor import StepExecutor
from multires_edge.format.targets import FORMS, GraphForm
from tests.export.trace.harness import (
    at_prefixes,
    graph_steps,
    largest_error,
    plan_of,
    returned,
    traced_steps,
    whole_graph,
)
from tests.export.trace.networks import NETWORKS, network

STEPS = 40
QUICK = ("published", "TCN")  # the others are slow

names = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)


@names
def test_it_is_the_module_on_every_prefix(name: str) -> None:
    net, inputs = network(name)
    reference, plan = plan_of(net, inputs(20))
    x = inputs(STEPS)
    expected = at_prefixes(reference, plan.program, x)
    executor = StepExecutor(plan.step, 2)
    assert largest_error(traced_steps(executor, x), expected) <= 1e-12
    assert plan.program.reach < STEPS  # so every queue was filled
    # One row starts again, the other goes on.
    executor.reset(0)
    further = inputs(10)
    whole = [torch.cat(pair, -1) for pair in zip(x, further, strict=True)]
    goes_on = at_prefixes(reference, plan.program, whole)[STEPS:]
    starts = at_prefixes(reference, plan.program, further)
    mixed = [
        {n: torch.stack([torch.from_numpy(b[n][0]), torch.from_numpy(a[n][1])]).numpy() for n in a}
        for a, b in zip(goes_on, starts, strict=True)
    ]
    assert largest_error(traced_steps(executor, further), mixed) <= 1e-12


@names
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_both_graphs_are_the_module(name: str, form: GraphForm) -> None:
    net, inputs = network(name)
    reference, plan = plan_of(net, inputs(20))
    x = inputs(STEPS)
    assert largest_error([whole_graph(plan.program, form, x)], [returned(reference, x)]) <= 1e-5
    one = [each[:1, ..., :1] for each in x]
    assert largest_error([whole_graph(plan.program, form, one)], [returned(reference, one)]) <= 1e-5
    expected = at_prefixes(reference, plan.program, x)
    assert largest_error(graph_steps(plan.step, form, x), expected) <= 1e-5
