"""The full graph over the whole model class."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.export.folding import fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.format.config import ModelConfig
from multires_edge.format.targets import FORMS, GraphForm
from multires_edge.models.network import MultiresNet
from tests.conftest import as_double, configs, random_inputs, random_net, variant, within_limit
from tests.export.graphs.harness import session

forms = st.sampled_from(list(FORMS.values()))


def build(net: MultiresNet, form: GraphForm = FORMS["opset24"], lengths: bool = False) -> onnx.ModelProto:
    return build_full_graph(fold(net), form, lengths=lengths)


@given(configs(), forms, st.integers(0, 5))
@settings(max_examples=25)
def test_equals_the_reference_at_any_length(config: ModelConfig, form: GraphForm, seed: int) -> None:
    net = random_net(config, seed).double()
    runner = session(build(net, form).SerializeToString())
    name = runner.get_inputs()[0].name
    for rows, steps in ((1, 1), (3, config.kernel_size - 1), (2, 37), (1, 300)):
        inputs = random_inputs(config, rows, steps, seed)
        y = runner.run(None, {name: inputs})[0]
        assert within_limit(y, net(as_double(inputs)))


@given(configs(task="classification"), forms)
@settings(max_examples=10)
def test_lengths_pool_over_their_steps_only(config: ModelConfig, form: GraphForm) -> None:
    net = random_net(config).double()
    runner = session(build(net, form, lengths=True).SerializeToString())
    name = runner.get_inputs()[0].name
    inputs, lengths = random_inputs(config, 4, 30), np.array([1, 7, 29, 30])
    y = runner.run(None, {name: inputs, "lengths": lengths})[0]
    assert within_limit(y, net(as_double(inputs), torch.from_numpy(lengths)))
    for row, length in enumerate(lengths):
        assert within_limit(y[row : row + 1], net(as_double(inputs[row : row + 1, ..., :length])))


@pytest.mark.parametrize("lengths", [False, True])
def test_a_constant_is_as_exact_as_noise(lengths: bool) -> None:
    """A flat line, as of a loose electrode: every rounding of a plain float32 mean goes the same way."""
    net = random_net(variant(depth=4)).double()
    runner = session(build(net, lengths=lengths).SerializeToString())
    x = np.full((1, 2, 50_000), 0.1, np.float32)
    feeds = {"x": x, "lengths": np.array([49_000])} if lengths else {"x": x}
    steps = 49_000 if lengths else 50_000
    y, expected = runner.run(None, feeds)[0], net(as_double(x[..., :steps])).numpy()
    assert within_limit(y, expected, limit=1e-6)


@pytest.mark.parametrize("dead", ["w", "h0", "h1", "most of w"])
def test_weights_may_be_zero(dead: str) -> None:
    net = random_net(variant(depth=4)).double()
    for name, tensor in net.state_dict().items():
        if name.endswith(f".{dead}"):
            tensor.zero_()
        elif dead == "most of w" and name.endswith(".w"):
            tensor[:, :-1] = 0
    inputs = random_inputs(net.config, 2, 40)
    y = session(build(net).SerializeToString()).run(None, {"x": inputs})[0]
    assert within_limit(y, net(as_double(inputs)))


class TestStructure:
    @pytest.mark.parametrize("norm", ["layer", "batch"])
    @pytest.mark.parametrize("form", FORMS.values())
    def test_nothing_is_left_to_fold(self, norm: str, form: GraphForm) -> None:
        model = build(random_net(variant(norm=norm)), form)
        operators = {node.op_type for node in model.graph.node}
        assert not operators & {"BatchNormalization", "Constant", "Identity", "Pad", "Dropout"}

    def test_is_readable(self) -> None:
        model = build(random_net(variant()))
        names = [node.name for node in model.graph.node]
        assert all(names) and len(set(names)) == len(names)
        assert "layers.1/scales.2/highpass" in names
        assert model.graph.doc_string
        assert all(value.doc_string for value in model.graph.input)

    def test_two_convolutions_a_scale_and_one_less(self) -> None:
        net = random_net(variant(depth=6, n_layers=1))
        operators = [node.op_type for node in build(net).graph.node]
        assert operators.count("Conv") == 1 + (2 * 6 - 1) + 1  # encoder, scales, mixing
        assert operators.count("Sum") == 1

    def test_unused_finest_scales_are_left_out(self) -> None:
        net = random_net(variant(depth=8, n_layers=1, tree_select="uniform", memory_size=4))
        names = [node.name for node in build(net).graph.node]
        # Scale 0 still carries the weight of the input itself.
        scales = [j for j in range(8) if f"layers.0/scales.{j}/highpass" in names]
        assert scales == [0, 6, 7]
