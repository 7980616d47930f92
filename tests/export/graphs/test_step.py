"""The step graph over the whole model class: every prefix, every row for itself, for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.export.folding import fold
from multires_edge.export.graphs.step import StepGraph, build_step_graph
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Cumulative, Pooling, Window
from multires_edge.format.targets import FORMS, GraphForm
from multires_edge.models.network import MultiresNet
from tests.conftest import as_double, configs, random_inputs, random_net, variant, within_limit
from tests.export.graphs.harness import Steps

forms = st.sampled_from(list(FORMS.values()))
poolings = st.one_of(st.just(Cumulative()), st.integers(1, 60).map(Window))


def build(
    net: MultiresNet,
    form: GraphForm = FORMS["opset24"],
    pooling: Pooling = Cumulative(),
    engines: bool = False,
) -> StepGraph:
    return build_step_graph(fold(net), form, pooling, engines=engines)


@given(configs(), forms, poolings, st.booleans(), st.integers(0, 5))
@settings(max_examples=40)
def test_equals_the_reference_on_every_prefix(
    config: ModelConfig, form: GraphForm, pooling: Pooling, engines: bool, seed: int
) -> None:
    net = random_net(config, seed).double()
    inputs = random_inputs(config, 2, 150, seed)
    y = Steps(build(net, form, pooling, engines), 2).run(inputs)
    assert within_limit(y, net.stepwise(as_double(inputs), pooling))


@given(configs(max_depth=6), forms, poolings)
@settings(max_examples=15)
def test_a_restarted_row_starts_over_and_the_others_see_nothing(
    config: ModelConfig, form: GraphForm, pooling: Pooling
) -> None:
    net = random_net(config).double()
    inputs = random_inputs(config, 3, 120)
    steps = Steps(build(net, form, pooling), 3)
    before = steps.run(inputs[..., :47])
    for state in steps.states.values():
        state[1] = 0
    after = steps.run(inputs[..., 47:])
    undisturbed = np.concatenate([before, after], axis=-1)[[0, 2]]
    assert within_limit(undisturbed, net.stepwise(as_double(inputs[[0, 2]]), pooling))
    restarted = net.stepwise(as_double(inputs[1:2, ..., 47:]), pooling)
    assert within_limit(after[1:2], restarted)


def test_past_the_receptive_field_every_queue_has_wrapped() -> None:
    config = variant(depth=5, kernel_size=3, n_layers=2)
    net = random_net(config).double()
    inputs = random_inputs(config, 1, 2 * config.receptive_field + 17)
    assert within_limit(Steps(build(net), 1).run(inputs), net.stepwise(as_double(inputs)))


def test_a_far_position_is_as_good_as_a_near_one() -> None:
    """Only the remainder of the position matters to the queues: a year at 1 kHz changes nothing."""
    config = variant(task="autoregressive", depth=6)
    net = random_net(config).double()
    inputs = random_inputs(config, 2, 100)
    steps = Steps(build(net), 2)
    steps.states["position"][:] = 31_536_000_123, 2**62 - 50
    assert within_limit(steps.run(inputs), net.stepwise(as_double(inputs)))


def test_an_error_does_not_outlive_the_receptive_field() -> None:
    """Nothing feeds back: two streams with different pasts agree to the last bit once it is over."""
    config = variant(task="autoregressive", depth=4, n_layers=2)
    step = build(random_net(config))
    first, second = Steps(step, 1), Steps(step, 1)
    past = random_inputs(config, 1, config.receptive_field, seed=1)
    first.run(past)
    second.run(1e6 * past)
    inputs = random_inputs(config, 1, config.receptive_field + 20, seed=2)
    a, b = first.run(inputs), second.run(inputs)
    settled = config.receptive_field - 1
    assert np.array_equal(a[..., settled:], b[..., settled:])
    assert not np.array_equal(a[..., : settled // 2], b[..., : settled // 2])


class TestStructure:
    def test_states_pair_by_sorted_name(self) -> None:
        states = build(random_net(variant(depth=10)), pooling=Window(9)).states
        inputs, outputs = [s.input for s in states], [s.output for s in states]
        assert inputs == sorted(inputs)
        assert outputs == sorted(outputs) == [f"next_{name}" for name in inputs]

    def test_a_queue_has_one_slot_more_than_its_filter_reaches(self) -> None:
        config = variant(depth=4, kernel_size=3)
        queues = [s for s in build(random_net(config)).states if s.scale is not None]
        assert [s.shape for s in queues] == [("batch", 1, 2 * 2**j + 1, 16) for j in range(4)]
        assert [(s.scale, s.dilation) for s in queues] == [(j, 2**j) for j in range(4)]
        assert all(s.in_place for s in queues)

    @pytest.mark.parametrize("form", FORMS.values())
    def test_the_form_decides_how_queues_are_written(self, form: GraphForm) -> None:
        model = build(random_net(variant()), form).model
        operators = [node.op_type for node in model.graph.node]
        assert operators.count(form.queue_update) == 3
        assert not {"TensorScatter", "ScatterND"} - {form.queue_update} & set(operators)
        assert model.opset_import[0].version == form.opset

    def test_nodes_do_not_grow_with_the_number_of_taps(self) -> None:
        few = build(random_net(variant(kernel_size=3))).model.graph.node
        many = build(random_net(variant(kernel_size=8))).model.graph.node
        assert len(few) == len(many)

    def test_a_layer_costs_nine_nodes(self) -> None:
        two = build(random_net(variant(n_layers=2))).model.graph.node
        three = build(random_net(variant(n_layers=3))).model.graph.node
        assert len(three) - len(two) == 9

    def test_is_readable(self) -> None:
        graph = build(random_net(variant())).model.graph
        names = [node.name for node in graph.node]
        assert all(names) and len(set(names)) == len(names)
        assert graph.doc_string
        assert all(value.doc_string for value in [*graph.input, *graph.output])
