"""Runs a module on every prefix, its traced step, and its graphs in plain ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multires_edge.export.trace.executor import StepExecutor
from multires_edge.export.trace.planning import KNOWN, Plan, make_plan
from multires_edge.export.trace.precision import EXACT, Precision
from multires_edge.export.trace.program import Program
from multires_edge.export.trace.step_graph import build_traced_step_graph
from multires_edge.export.trace.tracing import in_float64, output_names, output_tensors, trace
from multires_edge.export.trace.whole_graph import build_whole_graph
from multires_edge.format.targets import GraphForm
from tests.export.graphs.harness import session

Outputs = dict[str, NDArray[Any]]


def plan_of(net: nn.Module, example: Sequence[Tensor]) -> tuple[nn.Module, Plan]:
    """The module in float64, and its plan."""
    reference = in_float64(net, example)
    return reference, make_plan(trace(reference, example, KNOWN))


def double(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [each.double() if each.is_floating_point() else each for each in inputs]


def returned(net: nn.Module, inputs: Sequence[Tensor]) -> Outputs:
    """The outputs of the module by name."""
    with torch.no_grad():
        outputs = net(*double(inputs))
    return {n: y.numpy() for n, y in zip(output_names(outputs), output_tensors(outputs), strict=True)}


def at_prefixes(net: nn.Module, program: Program, inputs: Sequence[Tensor]) -> list[Outputs]:
    """The module's outputs for each prefix of the inputs, at its last step."""
    found = []
    for steps in range(1, inputs[0].shape[-1] + 1):
        whole = returned(net, [each[..., :steps] for each in inputs])
        axes = {name: program.layouts[value].axis for name, value in program.outputs.items()}
        found.append({n: whole[n] if axis is None else whole[n].take(-1, axis) for n, axis in axes.items()})
    return found


def traced_steps(executor: StepExecutor, inputs: Sequence[Tensor]) -> list[Outputs]:
    """The outputs of the float64 step, which goes on from where it is."""
    names = executor.program.inputs
    return [
        {name: y.numpy() for name, y in executor.step(dict(zip(names, step, strict=True))).items()}
        for step in zip(*(each.unbind(-1) for each in double(inputs)), strict=True)
    ]


def whole_graph(
    program: Program, form: GraphForm, inputs: Sequence[Tensor], precision: Precision = EXACT
) -> Outputs:
    feeds = {name: each.numpy() for name, each in zip(program.inputs, inputs, strict=True)}
    model = build_whole_graph(program, form, precision).SerializeToString()
    outputs = session(model).run(list(program.outputs), feeds)
    return dict(zip(program.outputs, outputs, strict=True))


def graph_steps(
    program: Program, form: GraphForm, inputs: Sequence[Tensor], precision: Precision = EXACT
) -> list[Outputs]:
    """The outputs of the step graph, from the manifest's states alone: zeros in, outputs fed back."""
    graph = build_traced_step_graph(program, form, precision)
    run = session(graph.model.SerializeToString())
    states = {s.input: np.zeros((2, *map(int, s.shape[1:])), s.dtype) for s in graph.states}
    names = [*program.outputs, *(state.output for state in graph.states)]
    found = []
    for step in zip(*(each.unbind(-1) for each in inputs), strict=True):
        feeds = {name: each.numpy() for name, each in zip(program.inputs, step, strict=True)}
        results = run.run(names, {**feeds, **states})
        found.append(dict(zip(program.outputs, results, strict=False)))
        states = dict(zip(states, results[len(program.outputs) :], strict=True))
    return found


def largest_error(given: Sequence[Outputs], expected: Sequence[Outputs]) -> float:
    """The largest |y - reference| / max(1, |reference|)."""
    worst = 0.0
    for mine, theirs in zip(given, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for name, reference in theirs.items():
            assert mine[name].shape == reference.shape
            error = np.abs(mine[name] - reference) / np.maximum(1, np.abs(reference))
            worst = max(worst, float(error.max()))
    return worst
