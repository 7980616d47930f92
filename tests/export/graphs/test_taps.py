"""The taps graph: with queues that simply remember everything, it is the network at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.export.folding import fold
from multires_edge.export.graphs.step import StepGraph, build_step_graph
from multires_edge.export.graphs.taps import RingsOutside
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Cumulative, Pooling, Window
from multires_edge.format.specs import RingBank
from multires_edge.format.targets import FORMS, GraphForm
from multires_edge.models.network import MultiresNet
from tests.conftest import as_double, configs, random_inputs, random_net, variant, within_limit
from tests.export.graphs.harness import session

forms = st.sampled_from(list(FORMS.values()))
poolings = st.one_of(st.just(Cumulative()), st.integers(1, 60).map(Window))


def build(net: MultiresNet, form: GraphForm = FORMS["opset17"], pooling: Pooling = Cumulative()) -> StepGraph:
    return build_step_graph(fold(net), form, pooling, RingsOutside, engines=True)


def run(graph: StepGraph, inputs: NDArray[Any]) -> NDArray[Any]:
    """Feed inputs (rows, ..., time): rows read by how long ago they were pushed, from a list of all."""
    runner, rows = session(graph.model.SerializeToString()), len(inputs)
    sample = runner.get_inputs()[0].name
    wanted = {tensor.name for tensor in runner.get_inputs()}
    names = [tensor.name for tensor in runner.get_outputs()]
    states = {s.input: np.zeros((rows, *map(int, s.shape[1:])), s.dtype) for s in graph.states}
    pushed: dict[str, list[NDArray[Any]]] = {bank.pushes: [] for bank in graph.rings}

    def taps(bank: RingBank, t: int) -> NDArray[Any]:
        nothing = np.zeros((rows, bank.width), bank.dtype)
        values = [
            pushed[bank.pushes][t - delay][:, 0, i] if delay <= t else nothing
            for i, ring in enumerate(bank.rings)
            for delay in ring.delays
        ]
        return np.stack(values, axis=1)[:, None]

    outputs = []
    for t in range(inputs.shape[-1]):
        feeds = {sample: np.ascontiguousarray(inputs[..., t]), "position": np.full(rows, t), **states}
        feeds |= {bank.taps: taps(bank, t) for bank in graph.rings}
        feeds = {name: value for name, value in feeds.items() if name in wanted}
        results = dict(zip(names, runner.run(names, feeds), strict=True))
        states = {s.input: results[s.output] for s in graph.states}
        for bank in graph.rings:
            pushed[bank.pushes].append(results[bank.pushes])
        outputs.append(results[names[0]])
    return np.stack(outputs, axis=-1)


@given(configs(max_depth=7), forms, poolings, st.integers(0, 5))
@settings(max_examples=25)
def test_equals_the_reference_on_every_prefix(
    config: ModelConfig, form: GraphForm, pooling: Pooling, seed: int
) -> None:
    net = random_net(config, seed).double()
    inputs = random_inputs(config, 2, 90, seed)
    y = run(build(net, form, pooling), inputs)
    assert within_limit(y, net.stepwise(as_double(inputs), pooling))


class TestStructure:
    @pytest.mark.parametrize("form", FORMS.values())
    @pytest.mark.parametrize("pooling", [Cumulative(), Window(9)])
    def test_is_the_step_graph_without_its_rings(self, form: GraphForm, pooling: Pooling) -> None:
        network = fold(random_net(variant()))
        step = build_step_graph(network, form, pooling, engines=True).model.graph
        taps = build_step_graph(network, form, pooling, RingsOutside, engines=True).model.graph
        names = {node.name for node in taps.node}
        assert {name for name in names if not name.startswith("rings/")} < {node.name for node in step.node}
        assert not {"GatherND", "TensorScatter", "ScatterND", "Mod"} & {
            node.op_type for node in taps.node if not node.name.startswith("pool/")
        }

    def test_banks_have_the_rings_of_the_step_graph(self) -> None:
        net = random_net(variant(depth=4, kernel_size=3))
        graph = build(net, pooling=Window(9))
        step = build_step_graph(fold(net), FORMS["opset24"], Window(9))
        queues, pool = graph.rings
        assert (queues.taps, queues.pushes, queues.n_taps, queues.width) == ("taps", "pushes", 8, 16)
        assert (pool.taps, pool.pushes, pool.n_taps, pool.width) == ("pool_taps", "pool_pushes", 1, 16)
        shapes = {state.input: state.shape for state in step.states}
        for bank in graph.rings:
            for ring in bank.rings:
                assert shapes[ring.state] == ("batch", 1, ring.slots, bank.width)
                assert max(ring.delays) == ring.slots - 1
        rest = {ring.state for bank in graph.rings for ring in bank.rings} | {"position"}
        assert [state for state in step.states if state.input not in rest] == list(graph.states)

    def test_only_pooling_needs_to_know_the_position(self) -> None:
        for task, needs in (("autoregressive", False), ("classification", True)):
            inputs = {tensor.name for tensor in build(random_net(variant(task=task))).model.graph.input}
            assert ("position" in inputs) == needs

    def test_is_readable(self) -> None:
        graph = build(random_net(variant())).model.graph
        names = [node.name for node in graph.node]
        assert all(names) and len(set(names)) == len(names)
        assert all(value.doc_string for value in [*graph.input, *graph.output])
