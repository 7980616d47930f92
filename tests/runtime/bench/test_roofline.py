"""What the engine says that a step reads and computes, against the configuration's own arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from multires_edge.export.folding import fold
from multires_edge.export.native_weights import native_weights
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Cumulative
from multires_edge.runtime.bench.roofline import Roofline
from multires_edge.runtime.bench.timing import Timing
from tests.conftest import configs, native_model, random_net, variant

FLOAT = 4


def cost_of(config: ModelConfig, folder: Path) -> dict[str, int]:
    path = folder / "weights.safetensors"
    path.write_bytes(native_weights(fold(random_net(config)), Cumulative()))
    return native_model(path).cost


def delays(config: ModelConfig) -> int:
    """Delays that all scales of a layer read, the newest sample's included."""
    return sum((steps >> j) + 1 for j, steps in enumerate(config.history()))


def matrices(config: ModelConfig) -> int:
    """1x1 convolutions of a layer, in units of d_model squared."""
    return (2 if config.mixing == "glu" else 1) + config.second_convolution


def numbers(config: ModelConfig, width: int, outputs: int) -> int:
    """Weights that a step reads, with channels padded to ``width`` and outputs to ``outputs``."""
    d, rows = config.d_model, matrices(config)
    encoder = ((config.d_input or 0) + 1) * width
    lowpasses = config.depth if config.filters == "untied" else 1
    filters = lowpasses * config.kernel_size + 1 + delays(config) - config.depth
    layer = filters * width + rows * (d + 1) * width + 2 * width
    return encoder + config.n_layers * layer + (d + 1) * outputs


@given(config=configs(max_depth=6))
@settings(max_examples=60)
def test_of_any_network(config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    cost = cost_of(config, tmp_path_factory.mktemp("weights"))
    d, row = config.d_model, config.n_layers * config.d_model * FLOAT
    assert cost["push_bytes"] == config.depth * row
    assert cost["tap_bytes"] == (delays(config) - config.depth) * row
    taps = delays(config) - config.depth
    filters = d * (1 + taps + (config.depth - 1) * config.kernel_size)
    layer = filters + matrices(config) * d * d
    ends = d * ((config.d_input or 0) + config.d_output)
    assert cost["multiply_adds"] == config.n_layers * layer + ends
    least = FLOAT * numbers(config, d, config.d_output)
    most = FLOAT * numbers(config, 16 * -(-d // 16), 16 * -(-config.d_output // 16))
    assert least <= cost["weight_bytes"] <= most


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kernel_size": 4},
        {"tree_select": "uniform", "memory_size": 20},
        {"encoder": "token"},
        {"task": "autoregressive"},
    ],
)
def test_of_a_network_that_needs_no_padding(changes: dict[str, Any], tmp_path: Path) -> None:
    config = variant(d_model=64, d_output=64, **changes)
    assert cost_of(config, tmp_path)["weight_bytes"] == FLOAT * numbers(config, 64, 64)


def test_the_larger_bound_counts(tmp_path: Path) -> None:
    cost_of(variant(), tmp_path)
    roofline = Roofline(native_model(tmp_path / "weights.safetensors"))

    def bound(read: float, multiply_adds: float) -> dict[str, Any]:
        timings = {"read": read, "multiply-add": multiply_adds}
        return roofline.to_json({name: Timing(s, s, s, 1) for name, s in timings.items()})

    slow_memory, slow_arithmetic = bound(1.0, 1e-9), bound(1e-9, 1.0)
    assert (slow_memory["bound"], slow_memory["seconds"]) == ("memory", 1.0)
    assert slow_memory["bytes_per_second"] == roofline.read_bytes
    assert slow_arithmetic["bound"] == "compute"
    assert slow_arithmetic["seconds"] == pytest.approx(roofline.cost["multiply_adds"] / 960_000)
    assert {len(burst(3)) for burst in roofline.timed_calls().values()} == {3}
