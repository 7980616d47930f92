"""int8 queues: what a stream remembers is rounded, what a step computes is not, in both graphs alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from multires_edge.calibration.table import CalibrationTable
from multires_edge.export.folding import FoldedLayer, FoldedNetwork, fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.graphs.step import build_step_graph
from multires_edge.export.linear import Linear
from multires_edge.export.precision.int8 import quantizable, quantize, queue_scales
from multires_edge.format.pooling import Cumulative, Window
from multires_edge.format.targets import TARGETS
from multires_edge.models.network import MultiresNet
from tests.conftest import random_inputs, random_net, variant
from tests.export.graphs.harness import Steps, session
from tests.export.precision.test_int8 import calibrated

KINDS: dict[str, dict[str, Any]] = {
    "fading": {},
    "one scale": {"depth": 1},
    "long filters": {"kernel_size": 4, "norm": "batch"},
    "uniform": {"tree_select": "uniform", "memory_size": 9},
    "tokens": {"encoder": "token"},
    "autoregressive": {"task": "autoregressive", "kernel_size": 3},
}
STEPS = 40


def full_outputs(network: FoldedNetwork, inputs: NDArray[Any], target: str) -> NDArray[Any]:
    """The full graph's output on every prefix, (rows, d_output, time)."""
    model = build_full_graph(network, TARGETS[target].form)
    full = session(model.SerializeToString())
    name = full.get_inputs()[0].name
    if network.config.task == "autoregressive":
        return np.asarray(full.run(None, {name: inputs})[0])
    prefixes = (np.ascontiguousarray(inputs[..., :t]) for t in range(1, inputs.shape[-1] + 1))
    return np.stack([np.asarray(full.run(None, {name: x})[0]) for x in prefixes], axis=-1)


def fed(network: FoldedNetwork, inputs: NDArray[Any]) -> NDArray[Any]:
    """What the step graph is fed: an autoregressive one what came before."""
    if network.config.task == "classification":
        return inputs
    return np.concatenate([np.zeros_like(inputs[..., :1]), inputs[..., :-1]], axis=-1)


def steps_of(network: FoldedNetwork, rows: int, target: str) -> Steps:
    return Steps(build_step_graph(network, TARGETS[target].form, Cumulative()), rows)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "portable"])
@pytest.mark.parametrize("parts", [("queues",), ("filters", "mixing", "queues")], ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
def test_step_and_full_agree(kind: str, parts: tuple[str, ...], target: str, tmp_path: Path) -> None:
    """On every prefix, with a row that starts anew in the middle."""
    net = random_net(variant(**KINDS[kind]))
    network = quantize(fold(net), calibrated(net, tmp_path), quantizable(net.config, parts))
    inputs = random_inputs(net.config, 2, STEPS, seed=5)
    step = steps_of(network, 2, target)
    samples, restart = fed(network, inputs), STEPS // 3
    if net.config.task == "autoregressive":
        samples[1, ..., restart] = 0
    before = step.run(samples[..., :restart])
    for state in step.states.values():
        state[1] = 0
    y = np.concatenate([before, step.run(samples[..., restart:])], axis=-1)
    reference = full_outputs(network, inputs, target)
    later = full_outputs(network, np.ascontiguousarray(inputs[1:, ..., restart:]), target)
    error = [np.abs(y[0] - reference[0]), np.abs(y[1, :, :restart] - reference[1, :, :restart])]
    error.append(np.abs(y[1, :, restart:] - later[0]))
    assert np.mean([each.mean() for each in error]) < 1e-3 * np.abs(reference).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_quarter_of_the_memory(kind: str, tmp_path: Path) -> None:
    net = random_net(variant(**KINDS[kind]))
    network = fold(net)
    rounded = quantize(network, calibrated(net, tmp_path), ("queues",))
    sizes = []
    for each in (network, rounded):
        states = build_step_graph(each, TARGETS["cpu"].form, Cumulative()).states
        sizes.append(sum(state.row_bytes for state in states if state.scale is not None))
        assert {state.dtype for state in states if state.scale is not None} == {
            "int8" if each is rounded else "float32"
        }
    assert sizes[1] * 4 == sizes[0]


def test_what_a_queue_holds(tmp_path: Path) -> None:
    """Each channel's a_j by its own scale, rounded half to even; a step computes with what is not rounded."""
    net = random_net(variant())
    table = calibrated(net, tmp_path)
    network = quantize(fold(net), table, ("queues",))
    inputs = random_inputs(net.config, 1, STEPS, seed=6)
    step = steps_of(network, 1, "cpu")
    step.run(inputs)
    d = net.config.d_model
    for name, values in held_by_definition(net, network, table, inputs).items():
        j = int(name.rpartition(".")[2])
        i = int(name.split(".")[1])
        queue = step.states[f"queue_{j:02d}"][0, 0, :, i * d : (i + 1) * d]
        slots = len(queue)
        for t in range(max(0, STEPS - slots), STEPS):
            levels = queue[t % slots].astype(int)
            # float32 against float64: a value on the border of two levels may fall either way.
            assert np.abs(levels - values[t]).max() <= 0.501, name


def held_by_definition(
    net: MultiresNet, network: FoldedNetwork, table: CalibrationTable, inputs: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """a_j / scale of every step, (time, d_model), of each layer and scale, by loops in float64."""
    assert isinstance(network.encoder, Linear)
    x = inputs[0].T.astype(np.float64) @ network.encoder.weight.T + network.encoder.bias
    found: dict[str, NDArray[Any]] = {}
    for i, layer in enumerate(network.layers):
        scales = [table.tensors[f"layers.{i}.queues.{j}"].scales for j in range(layer.depth)]
        y, levels = _layer_by_definition(layer, x, [scale.astype(np.float64) for scale in scales])
        found |= {f"layers.{i}.queues.{j}": values for j, values in enumerate(levels)}
        with torch.no_grad():
            mixed = net.mixing_layers[i].double()(torch.nn.functional.gelu(torch.from_numpy(y).T[None]))
            x = net.norms[i].double()(torch.from_numpy(x).T[None] + mixed)[0].T.numpy()
    return found


def _layer_by_definition(
    layer: FoldedLayer, x: NDArray[Any], scales: list[NDArray[Any]]
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    a, y, levels = x, np.zeros_like(x), []
    for j, highpass in enumerate(layer.highpass):
        levels.append(a / scales[j])
        kept = np.clip(np.rint(levels[-1]), -128, 127) * scales[j]
        coarser = np.zeros_like(a)
        for filters, total in ((highpass, y), (layer.lowpass_of(j), coarser)):
            for o, weight in enumerate(filters):
                for t in range(o << j, len(a)):
                    total[t] += weight * (kept[t - (o << j)] if o else a[t])
        a = coarser
    return y, levels


def test_scales_are_the_ranges_of_the_table(tmp_path: Path) -> None:
    table = calibrated(random_net(variant(depth=3, n_layers=2, d_model=8)), tmp_path)
    scales = queue_scales(table)
    assert scales.shape == (3, 2, 8) and scales.dtype == np.float32
    assert np.array_equal(scales[2, 1], table.tensors["layers.1.queues.2"].scales)


def test_saturates(tmp_path: Path) -> None:
    """Values of any size are the largest that a queue holds, and gone when they are past."""
    net = random_net(variant())
    network = quantize(fold(net), calibrated(net, tmp_path), ("queues",))
    step, calm = steps_of(network, 1, "cpu"), steps_of(network, 1, "cpu")
    inputs = random_inputs(net.config, 1, STEPS, seed=7)
    assert np.isfinite(step.run(inputs[..., :1] * np.float32(1e30))).all()
    levels = step.states["queue_00"]
    assert levels.dtype == np.int8 and set(np.abs(levels[0, 0, 0, :8].astype(int))) <= {127, 128}
    # The sums of pooling remember; the queues do not.
    reach = net.config.receptive_field
    tail = random_inputs(net.config, 1, reach + 5, seed=8)
    step.run(tail), calm.run(np.concatenate([inputs[..., :1], tail], axis=-1))
    for name, state in step.states.items():
        if name.startswith("queue"):
            assert (state == calm.states[name]).all(), name


def test_int8_queues_are_scattered_and_others_updated_in_place(tmp_path: Path) -> None:
    """TensorRT's in-place cache update takes floating point only."""
    net = random_net(variant())
    network = quantize(fold(net), calibrated(net, tmp_path), ("queues",))
    model = build_step_graph(network, TARGETS["rtx"].form, Window(5)).model
    assert written_by(model) == {
        **{f"next_queue_{j:02d}": "ScatterND" for j in range(net.config.depth)},
        "next_pool_prefix": "TensorScatter",
    }


def written_by(model: onnx.ModelProto) -> dict[str, str]:
    scatters = ("ScatterND", "TensorScatter")
    return {node.output[0]: node.op_type for node in model.graph.node if node.op_type in scatters}
