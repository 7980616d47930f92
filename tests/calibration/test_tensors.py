"""Logical tensors: what they hold, and that the exported graphs hold the same under other names."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError
from multires_edge.calibration.tensors import (
    ENCODER_INPUT,
    HEAD_INPUT,
    logical_tensors,
    mixing_input,
    observe,
    output_input,
    queue,
)
from multires_edge.export.folding import fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.graphs.step import build_step_graph
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import parse_pooling
from multires_edge.format.targets import TARGETS
from multires_edge.models.network import MultiresNet
from tests.conftest import SMALL, configs, random_inputs, random_net, variant, within_limit
from tests.export.graphs.harness import Steps, session

Observed = dict[str, list[NDArray[np.float32]]]


def observed(net: MultiresNet, inputs: NDArray[Any], lengths: NDArray[np.int64] | None = None) -> Observed:
    """All values by name, one array (channels, m) a record."""
    seen: Observed = defaultdict(list)
    observe(net, inputs, lengths, lambda name, values: seen[name].append(values.copy()))
    return seen


def means_of_prefixes(features: NDArray[np.float32]) -> NDArray[np.float32]:
    steps = features.shape[1]
    ends = sorted({*(2**k for k in range(20) if 2**k <= steps), steps})
    return np.stack([features[:, :end].mean(1) for end in ends], 1)


@given(configs(max_depth=4), st.integers(1, 40))
@settings(max_examples=25)
def test_every_tensor_is_seen_and_no_other(config: ModelConfig, steps: int) -> None:
    seen = observed(random_net(config), random_inputs(config, 2, steps))
    tensors = logical_tensors(config)
    assert set(seen) == set(tensors)
    for name, records in seen.items():
        assert [len(values) for values in records] == [tensors[name]] * 2
        assert all(values.dtype == np.float32 for values in records)
        if name != HEAD_INPUT or config.task == "autoregressive":
            assert [values.shape[1] for values in records] == [steps] * 2


def test_names_depend_on_the_network() -> None:
    names = list(logical_tensors(variant(n_layers=1, depth=2)))
    queues = ["layers.0.queues.0", "layers.0.queues.1"]
    assert names == ["encoder.input", *queues, "layers.0.mixing.input", "head.input"]
    predictor = variant(n_layers=1, depth=2, task="autoregressive", encoder="token")
    names = list(logical_tensors(predictor))
    assert names == [*queues, "layers.0.mixing.input", "layers.0.output.input", "head.input"]


@given(configs(max_depth=5, published=True), st.sampled_from(list(TARGETS)))
@settings(max_examples=25)
def test_the_folded_full_graph_holds_the_same(config: ModelConfig, target: str) -> None:
    """Also under BatchNorm, whose folding changes the weights on both sides of these tensors."""
    net = random_net(config)
    model = build_full_graph(fold(net), TARGETS[target].form)
    autoregressive = config.task == "autoregressive"
    names = {}
    if config.encoder == "linear" and autoregressive:
        names[ENCODER_INPUT] = "shift"
    residual = "norm" if config.norm == "layer" else "residual"
    for i in range(config.n_layers):
        names[queue(i, 0)] = f"layers.{i - 1}/{residual}" if i else "encoder"
        for j in range(config.depth - 1):
            names[queue(i, j + 1)] = f"layers.{i}/scales.{j}/lowpass"
        names[mixing_input(i)] = f"layers.{i}/gelu"
        if autoregressive:
            names[output_input(i)] = f"layers.{i}/glu"
    names[HEAD_INPUT] = f"layers.{config.n_layers - 1}/{residual}"
    declared = {output.name for output in model.graph.output}
    for name in sorted(set(names.values()) - declared):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    runner = session(model.SerializeToString())
    inputs = random_inputs(config, 2, 37)
    values = runner.run(list(names.values()), {runner.get_inputs()[0].name: inputs})
    graph = dict(zip(names, values, strict=True))
    if not autoregressive:
        graph[HEAD_INPUT] = np.stack([means_of_prefixes(features) for features in graph[HEAD_INPUT]])
        if config.encoder == "linear":
            graph[ENCODER_INPUT] = inputs
    seen = observed(net, inputs)
    assert set(graph) == set(seen)
    # LayerNorm over two or three nearly equal values magnifies the float32 rounding of either side.
    limit = 1e-4 if config.norm == "layer" and config.d_model < 4 else 2e-5
    for name, records in seen.items():
        assert within_limit(graph[name], np.stack(records), limit=limit), name


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("task", ["classification", "autoregressive"])
def test_the_step_graphs_queues_hold_the_same(norm: str, task: str) -> None:
    config = variant(norm=norm, task=task, kernel_size=3)
    net = random_net(config)
    steps = 21
    stream = Steps(build_step_graph(fold(net), TARGETS["portable"].form, parse_pooling("cumulative")), 1)
    inputs = random_inputs(config, 1, steps)
    fed = inputs
    if task == "autoregressive":
        fed = np.concatenate([np.zeros_like(inputs[..., :1]), inputs[..., :-1]], -1)
    stream.run(fed)
    seen = observed(net, inputs)
    for j in range(config.depth):
        rows = stream.states[f"queue_{j:02d}"][0, 0]
        for t in range(steps - len(rows), steps):
            by_layer = rows[t % len(rows)].reshape(config.n_layers, config.d_model)
            for i, row in enumerate(by_layer):
                expected = seen[queue(i, j)][0][:, t] if t >= 0 else np.zeros(config.d_model)
                if t > steps - len(rows):  # one slot more than needed: the oldest is the next to go
                    assert within_limit(row, expected)


def test_the_mean_of_all_steps_is_what_the_head_reads() -> None:
    net = random_net(SMALL)
    x = random_inputs(SMALL, 3, 21)
    lengths = np.array([21, 1, 13])
    seen = observed(net, x, lengths)[HEAD_INPUT]
    assert [values.shape[1] for values in seen] == [6, 1, 5]  # 1, 2, 4, 8, 16, 21; 1; 1, 2, 4, 8, 13
    logits = net(torch.from_numpy(x), torch.from_numpy(lengths))
    last = torch.from_numpy(np.stack([values[:, -1] for values in seen]))
    assert within_limit(net.output_mapping(last).numpy(), logits)
    first = torch.from_numpy(np.stack([values[:, 0] for values in seen]))
    stream = net.stepwise(torch.from_numpy(x))[..., 0]
    assert within_limit(net.output_mapping(first).numpy(), stream)


@given(configs(max_depth=4), st.integers(0, 99))
@settings(max_examples=15)
def test_padding_and_batches_change_no_bit(config: ModelConfig, seed: int) -> None:
    net = random_net(config)
    inputs = random_inputs(config, 5, 33, seed)
    lengths = np.random.default_rng(seed).integers(1, 34, 5)
    other = random_inputs(config, 5, 33, seed + 1)
    padded = inputs.copy()
    for row, length in enumerate(lengths):
        padded[row, ..., length:] = other[row, ..., length:]
    seen = observed(net, padded, lengths)
    for row, length in enumerate(lengths):
        for name, records in observed(net, inputs[row : row + 1, ..., :length]).items():
            assert np.array_equal(seen[name][row], records[0])


def test_nothing_is_left_behind_in_the_network() -> None:
    net = random_net(SMALL)

    def stumble(name: str, values: NDArray[np.float32]) -> None:
        raise KeyError(name)

    with pytest.raises(KeyError, match=ENCODER_INPUT):
        observe(net, random_inputs(SMALL, 1, 5), None, stumble)
    net(torch.zeros(1, 2, 5))  # would stumble again


@pytest.mark.parametrize("net", [random_net(SMALL).train(), random_net(SMALL).double()])
def test_another_network_than_is_exported(net: MultiresNet) -> None:
    with pytest.raises(ConfigError, match=r"training mode or not float32"):
        observe(net, random_inputs(SMALL, 1, 5), None, lambda *_: None)
